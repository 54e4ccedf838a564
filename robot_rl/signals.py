"""The vocabulary: named signals and commands with shape, unit and frame, in SI units and radians.

Quaternions are `wxyz` and rotate body vectors into the world; ROS uses `xyzw`, and the two named functions below are
the only place where the order changes. Body frame: x forward, y left, z up. World frame: z up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Signal:
    """A named array that a robot or a user provides.

    Attributes:
        name: standard name, for example `base_ang_vel_b`.
        shape: without the batch dimension.
        unit: SI unit, empty when dimensionless.
        frame: `world`, `body` or empty.
        max_age: oldest sample in seconds that a policy may act on.
    """

    name: str
    shape: tuple[int, ...]
    unit: str = ""
    frame: str = ""
    max_age: float = 0.1


def _signal(name: str, size: int, unit: str, frame: str = "", max_age: float = 0.1) -> tuple[str, Signal]:
    return name, Signal(name, (size,), unit, frame, max_age)


# Set-points come from a person or a planner, far slower than sensors: their age is bounded by the supervisor instead.
_SETPOINT_AGE = 1e9

FLIGHT_SIGNALS: dict[str, Signal] = dict(
    (
        _signal("base_pos_w", 3, "m", "world"),
        _signal("base_quat_wxyz", 4, "", "world"),
        _signal("base_lin_vel_w", 3, "m/s", "world"),
        _signal("base_ang_vel_b", 3, "rad/s", "body"),
        _signal("target_pos_w", 3, "m", "world", _SETPOINT_AGE),
        _signal("target_lin_vel_w", 3, "m/s", "world", _SETPOINT_AGE),
        _signal("target_lin_acc_w", 3, "m/s^2", "world", _SETPOINT_AGE),
        _signal("target_yaw", 1, "rad", "world", _SETPOINT_AGE),
        # Seconds since the previous call of the policy; the runtime fills it in, a driver never has to.
        _signal("time_step", 1, "s", "", _SETPOINT_AGE),
    )
)

# What a person or a planner asks of an arm or a hand: a pose of the gripper, or of the object where one is handled.
POSE_TARGETS: dict[str, Signal] = {
    "target_pos_w": FLIGHT_SIGNALS["target_pos_w"],
    "target_quat_wxyz": Signal("target_quat_wxyz", (4,), "", "world", _SETPOINT_AGE),
}

# What a person or a planner asks of a walking robot, in its own heading frame.
WALKING_COMMANDS: dict[str, Signal] = dict(
    (
        _signal("command_lin_vel_b", 2, "m/s", "body", _SETPOINT_AGE),
        _signal("command_yaw_rate", 1, "rad/s", "body", _SETPOINT_AGE),
    )
)


def quat_wxyz_to_xyzw(quat_wxyz: NDArray[np.floating]) -> NDArray[np.floating]:
    """Our order to ROS's. Shape (..., 4) → (..., 4)."""
    return np.asarray(quat_wxyz)[..., [1, 2, 3, 0]]


def quat_xyzw_to_wxyz(quat_xyzw: NDArray[np.floating]) -> NDArray[np.floating]:
    """ROS's order to ours. Shape (..., 4) → (..., 4)."""
    return np.asarray(quat_xyzw)[..., [3, 0, 1, 2]]
