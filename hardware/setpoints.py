"""What a policy is asked to follow: limits, set-points and the paths they are sampled from.

Pure data and geometry; the generator that moves between them without a jump is in `reference.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError
from robot_rl.hardware.parameters import check_settings, setting

Vector = NDArray[np.float64]
SETPOINT_NAMES = ("target_pos_w", "target_lin_vel_w", "target_lin_acc_w", "target_yaw")

# Three equal first-order filters have the kernel h(t) = t²e^{-t/τ}/(2τ³), and sup |a| ≤ sup |v| ∫|h'| = 2·max(h) =
# 4e^{-2}/τ.
_KERNEL_PEAK = 4.0 * math.exp(-2.0)


@dataclass(frozen=True)
class Setpoint:
    """One sample of the reference: (3,) m, (3,) m/s, (3,) m/s² in the world frame, yaw in rad."""

    pos_w: Vector
    lin_vel_w: Vector
    lin_acc_w: Vector
    yaw: float

    def signals(self) -> dict[str, NDArray[np.float32]]:
        """The same under the signal names a policy knows; shapes (3,), (3,), (3,), (1,)."""
        return {
            "target_pos_w": self.pos_w.astype(np.float32),
            "target_lin_vel_w": self.lin_vel_w.astype(np.float32),
            "target_lin_acc_w": self.lin_acc_w.astype(np.float32),
            "target_yaw": np.array([self.yaw], np.float32),
        }


@dataclass(frozen=True)
class VelocitySetpoint:
    """What a walking robot is asked for in its own heading frame: forward and sideways (2,) m/s, turning rad/s."""

    lin_vel_b: Vector
    yaw_rate: float

    def signals(self) -> dict[str, NDArray[np.float32]]:
        """The same under the signal names a policy knows; shapes (2,), (1,)."""
        return {
            "command_lin_vel_b": self.lin_vel_b.astype(np.float32),
            "command_yaw_rate": np.array([self.yaw_rate], np.float32),
        }


@dataclass(frozen=True)
class PoseSetpoint:
    """What an arm or a hand is asked for: (3,) m and attitude (4,) in the world.

    Attributes:
        about: whose pose that is: "ee", the gripper, or "object". reads: which of the two signals the policy looks at.
    """

    pos_w: Vector
    quat_wxyz: Vector
    about: str
    reads: frozenset[str]

    def signals(self) -> dict[str, NDArray[np.float32]]:
        """The same under the signal names a policy knows; shapes (3,), (4,)."""
        return {
            "target_pos_w": self.pos_w.astype(np.float32),
            "target_quat_wxyz": self.quat_wxyz.astype(np.float32),
        }


AnySetpoint = Setpoint | VelocitySetpoint | PoseSetpoint


@dataclass(frozen=True)
class VelocityLimits:
    """Limits of what a walking robot is asked for; a request beyond them is cut to them."""

    max_forward: float = setting(1.0, "speed forward and backward in m/s", 0.0, 10.0)
    max_sideways: float = setting(0.6, "speed to the left and right in m/s", 0.0, 10.0)
    max_yaw_rate: float = setting(1.0, "turning rate in rad/s", 0.0, 10.0)
    max_acceleration: float = setting(2.0, "change of the asked speed in m/s^2", 0.1, 100.0)
    max_yaw_acceleration: float = setting(4.0, "change of the asked turning rate in rad/s^2", 0.1, 100.0)
    timeout: float = setting(0.5, "seconds after which a velocity that is not repeated becomes zero", 0.05, 10.0)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class ReferenceLimits:
    """Limits of the reference, world frame. Goals keep to `max_speed` and `max_acceleration`; figure-eights and
    streamed set-points bring their own speed and are refused above `max_path_speed` and `max_path_acceleration`.
    """

    box_lower: tuple[float, float, float] = setting((-2.0, -2.0, 0.0), "lowest corner of the reference in m", -1e4, 1e4)
    box_upper: tuple[float, float, float] = setting((2.0, 2.0, 2.0), "highest corner of the reference in m", -1e4, 1e4)
    max_speed: float = setting(1.0, "speed towards goals in m/s", 0.05, 20.0)
    max_acceleration: float = setting(2.0, "acceleration towards goals in m/s^2", 0.1, 50.0)
    max_yaw_rate: float = setting(1.0, "turning rate in rad/s", 0.05, 20.0)
    max_path_speed: float = setting(3.0, "fastest figure-eight or streamed set-point in m/s", 0.05, 50.0)
    max_path_acceleration: float = setting(10.0, "sharpest figure-eight or streamed set-point in m/s^2", 0.1, 100.0)
    take_off_speed: float = setting(0.4, "climb at take-off in m/s", 0.05, 5.0)
    landing_speed: float = setting(0.3, "descent at landing in m/s", 0.05, 5.0)
    # The vehicle shall press on the ground, not hover just above it.
    landing_depth: float = setting(0.25, "how far below the ground a landing aims, in m", 0.05, 2.0)

    def __post_init__(self) -> None:
        check_settings(self)
        if not all(low < high for low, high in zip(self.box_lower, self.box_upper, strict=True)):
            raise ConfigError(f"box_lower {self.box_lower} must be below box_upper {self.box_upper}")

    @property
    def filter_tau(self) -> float:
        """Time constant in s at which `max_acceleration` cannot be exceeded."""
        return _KERNEL_PEAK * self.max_speed / self.max_acceleration


class Path(Protocol):
    """A curve known with its first two derivatives."""

    def sample(self, time: float) -> tuple[Vector, Vector, Vector]:
        """Position, velocity, acceleration (3,) in the world frame, `time` seconds after its start."""
        ...


@dataclass(frozen=True)
class FigureEight:
    """x = s·cos θ, y = (s/2)·sin 2θ around `centre`, θ = 2πφ + π/2, dφ/dt rising linearly from 0 to 1/period over
    `ramp`.

    Starts at rest in the centre. `size` s in m gives a figure 2s long and s wide (source: learning_to_fly_controller).
    """

    centre: tuple[float, float, float]
    period: float = 5.5
    size: float = 1.0
    ramp: float = 2.0

    def __post_init__(self) -> None:
        if not (self.period > 0.5 and self.size > 0.0 and self.ramp > 0.0):
            raise ConfigError(
                f"figure-eight period {self.period} s, size {self.size} m, ramp {self.ramp} s: "
                "the period must exceed 0.5 s and the others 0"
            )

    def phase(self, time: float) -> tuple[float, float, float]:
        """φ in turns and its first two derivatives."""
        if time <= 0.0:
            return 0.0, 0.0, 0.0
        if time < self.ramp:
            rate = 1.0 / (self.period * self.ramp)
            return 0.5 * rate * time**2, rate * time, rate
        return (time - 0.5 * self.ramp) / self.period, 1.0 / self.period, 0.0

    def sample(self, time: float) -> tuple[Vector, Vector, Vector]:
        turns, rate, change = self.phase(time)
        angle = 2.0 * math.pi * turns + 0.5 * math.pi
        speed, acceleration = 2.0 * math.pi * rate, 2.0 * math.pi * change
        s, cos1, sin1 = self.size, math.cos(angle), math.sin(angle)
        cos2, sin2 = math.cos(2.0 * angle), math.sin(2.0 * angle)
        centre = np.asarray(self.centre, np.float64)
        pos = centre + np.array([s * cos1, 0.5 * s * sin2, 0.0])
        slope = np.array([-s * sin1, s * cos2, 0.0])
        curvature = np.array([-s * cos1, -2.0 * s * sin2, 0.0])
        return pos, slope * speed, slope * acceleration + curvature * speed**2

    @property
    def peak_speed(self) -> float:
        """Largest speed in m/s: in the centre."""
        return 2.0 * math.pi * self.size * math.sqrt(2.0) / self.period

    @property
    def peak_acceleration(self) -> float:
        """An upper bound of the acceleration in m/s²."""
        speed = 2.0 * math.pi / self.period
        return self.size * math.sqrt(5.0) * speed**2 + self.peak_speed / self.ramp

    def end_of_turn(self, turns: int) -> float:
        """Seconds from the start until `turns` full figures are flown, back in the centre."""
        return turns * self.period + 0.5 * self.ramp


@dataclass(frozen=True)
class Rest:
    """Staying at one place, m in the world."""

    pos_w: tuple[float, float, float]

    def sample(self, time: float) -> tuple[Vector, Vector, Vector]:
        return np.asarray(self.pos_w, np.float64), np.zeros(3), np.zeros(3)


@dataclass(frozen=True)
class StreamedPoint:
    """The newest streamed set-point, continued at constant acceleration; after `horizon` s the reference lets go of
    it.
    """

    pos_w: tuple[float, float, float]
    lin_vel_w: tuple[float, float, float] = (0.0, 0.0, 0.0)
    lin_acc_w: tuple[float, float, float] = (0.0, 0.0, 0.0)
    horizon: float = 0.2

    def sample(self, time: float) -> tuple[Vector, Vector, Vector]:
        pos, vel, acc = (np.asarray(v, np.float64) for v in (self.pos_w, self.lin_vel_w, self.lin_acc_w))
        return pos + vel * time + 0.5 * acc * time**2, vel + acc * time, acc
