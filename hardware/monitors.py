"""What the supervisor sees in one tick, and which of its conditions hold: pure functions of one observation.

How long a condition must hold before it counts, and what follows from it, is decided in `supervisor.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robot_rl.contract import Command
from robot_rl.hardware.setpoints import AnySetpoint, Setpoint
from robot_rl.hardware.supervisor_config import RobotState, SupervisorConfig
from robot_rl.protocols import Array

STATE_SIGNALS: tuple[str, ...] = ("base_pos_w", "base_quat_wxyz", "base_lin_vel_w", "base_ang_vel_b")
BATTERY_SIGNAL = "battery_voltage"


@dataclass(frozen=True)
class Observation:
    """What is known at one tick.

    Attributes:
        signals: the newest usable sample of each signal, SI units; a signal that never came is absent.
        ages: signal → seconds since that sample was measured, for each signal that somebody depends on.
        max_ages: signal → oldest allowed age in s.
        bad: signals whose newest sample was rejected (not finite, wrong shape, not a rotation).
        reference: what the policy is to follow.
        missed_fraction: fraction of missed ticks in the last second.
        link_age: seconds since the operator's last message; None while none has come since arming.
        driver_error: why the driver could not be written to, or empty.
        policy_error: why the policy's last proposal was unusable, or empty.
        needed: the signals without which nothing is known of this kind of robot.
    """

    signals: Mapping[str, Array]
    ages: Mapping[str, float] = field(default_factory=dict)
    max_ages: Mapping[str, float] = field(default_factory=dict)
    bad: tuple[str, ...] = ()
    reference: AnySetpoint | None = None
    missed_fraction: float = 0.0
    link_age: float | None = None
    driver_error: str = ""
    policy_error: str = ""
    needed: tuple[str, ...] = STATE_SIGNALS

    @property
    def complete(self) -> bool:
        """Whether each signal of the robot's state has been seen at least once."""
        return all(name in self.signals for name in self.needed)


def usable_sample(name: str, value: Array, shape: tuple[int, ...]) -> bool:
    """Whether one sample may be acted on: right shape, finite and, for a quaternion, of length 1 within 10 %."""
    if np.shape(value) != shape or not np.all(np.isfinite(value)):
        return False
    return not name.endswith("quat_wxyz") or abs(float(np.linalg.norm(value)) - 1.0) < 0.1


def tilt(quat_wxyz: Array) -> float:
    """Angle in rad between body z and world z, for a quaternion (4,) of any length but zero."""
    _, x, y, _ = (float(v) for v in quat_wxyz)
    square = float(np.dot(quat_wxyz.astype(np.float64), quat_wxyz.astype(np.float64)))
    return math.acos(min(max(1.0 - 2.0 * (x * x + y * y) / square, -1.0), 1.0))


def yaw(quat_wxyz: Array) -> float:
    """Heading in rad of body x in the world's plane."""
    w, x, y, z = (float(v) for v in quat_wxyz)
    return math.atan2(2.0 * (w * z + x * y), w * w + x * x - y * y - z * z)


def to_body(quat_wxyz: Array, vector_w: Array) -> NDArray[np.float64]:
    """Rotate (3,) from the world into the body frame."""
    q, v = quat_wxyz.astype(np.float64), vector_w.astype(np.float64)
    axis = -q[1:]
    turned = np.cross(axis, v)
    return v + 2.0 * (q[0] * turned + np.cross(axis, turned))


def common_conditions(obs: Observation, config: SupervisorConfig, state: RobotState) -> dict[str, str]:
    """Those conditions of this tick that any robot can show, each with the numbers for the report."""
    found = dict(_signal_conditions(obs, config))
    found.update(_battery_conditions(obs, config))
    if obs.link_age is not None and obs.link_age > config.command_timeout:
        found["command_link"] = f"no message for {obs.link_age:.2f} s, allowed {config.command_timeout:g} s"
    found.update(_attitude_conditions(obs, config))
    if state.moving and obs.missed_fraction > config.max_missed_fraction:
        share, most = obs.missed_fraction, config.max_missed_fraction
        found["missed_ticks"] = f"{share:.0%} in the last second, allowed {most:.0%}"
    if state.moving and obs.policy_error:
        found["policy_failure"] = obs.policy_error
    return found


def flight_conditions(obs: Observation, config: SupervisorConfig, state: RobotState, ground: float) -> dict[str, str]:
    """The same of a flying robot only; `ground` is the height in m of the ground where it was armed."""
    if not obs.complete:
        return {}
    found = dict(_motion_conditions(obs, config))
    if state.moving and isinstance(obs.reference, Setpoint):
        error = float(np.linalg.norm(obs.signals["base_pos_w"] - obs.reference.pos_w))
        if error > config.max_tracking_error:
            found["tracking"] = f"{error:.2f} m from the reference, allowed {config.max_tracking_error:g} m"
        if state is not RobotState.LANDING and _pinned(obs, config, ground):
            found["ground_contact"] = f"at rest on the ground, {_depth(obs):.2f} m below the reference"
    return found


def joint_conditions(obs: Observation, config: SupervisorConfig, joints: Command) -> dict[str, str]:
    """The same of a robot with joints only; `joints` is the command that they follow, with their names and limits."""
    found: dict[str, str] = {}
    if not obs.complete:
        return found
    pos, vel = obs.signals["joint_pos"].astype(np.float64), np.abs(obs.signals["joint_vel"].astype(np.float64))
    beyond = np.maximum(np.asarray(joints.lower) - pos, pos - np.asarray(joints.upper))
    far, fast = int(np.argmax(beyond)), int(np.argmax(vel))
    if beyond[far] > config.joint_margin:
        name, most = joints.elements[far], config.joint_margin
        found["joint_limit"] = f"{name} {beyond[far]:.2f} rad beyond its limit, allowed {most:g} rad"
    if vel[fast] > config.max_joint_speed:
        name, most = joints.elements[fast], config.max_joint_speed
        found["joint_speed"] = f"{name} at {vel[fast]:.1f} rad/s, allowed {most:g} rad/s"
    return found


def touching_down(obs: Observation, config: SupervisorConfig) -> bool:
    """Whether the vehicle rests although the landing reference went on below it."""
    return obs.complete and -_depth(obs) > config.touch_depth and _speed(obs) < config.touch_speed


def _signal_conditions(obs: Observation, config: SupervisorConfig) -> Iterator[tuple[str, str]]:
    if obs.bad:
        yield "bad_signal", ", ".join(obs.bad)
    stale = [n for n, age in obs.ages.items() if age > obs.max_ages[n]]
    # Without its battery's voltage a robot flies on well enough to land.
    lost = [n for n in stale if n != BATTERY_SIGNAL and obs.ages[n] > config.lost_factor * obs.max_ages[n]]
    for condition, names in (("stale_signal", stale), ("lost_signal", lost)):
        if names:
            yield condition, ", ".join(f"{n} {obs.ages[n]:.3f} s old, allowed {obs.max_ages[n]:g} s" for n in names)
    if obs.driver_error:
        yield "driver_failure", obs.driver_error


def _battery_conditions(obs: Observation, config: SupervisorConfig) -> Iterator[tuple[str, str]]:
    sample = obs.signals.get(BATTERY_SIGNAL)
    if sample is None:
        return
    voltage = float(sample[0])
    if voltage < config.low_voltage:
        yield "battery_low", f"{voltage:.2f} V, warning level {config.low_voltage:g} V"
    if voltage < config.critical_voltage:
        yield "battery_critical", f"{voltage:.2f} V, critical level {config.critical_voltage:g} V"


def _attitude_conditions(obs: Observation, config: SupervisorConfig) -> Iterator[tuple[str, str]]:
    if "base_quat_wxyz" in obs.signals:
        angle = tilt(obs.signals["base_quat_wxyz"])
        if angle > config.max_tilt:
            yield "tilt", f"{angle:.2f} rad, allowed {config.max_tilt:g} rad"
    if "base_ang_vel_b" in obs.signals:
        rate = float(np.linalg.norm(obs.signals["base_ang_vel_b"].astype(np.float64)))
        if rate > config.max_body_rate:
            yield "body_rate", f"{rate:.2f} rad/s, allowed {config.max_body_rate:g} rad/s"


def _motion_conditions(obs: Observation, config: SupervisorConfig) -> Iterator[tuple[str, str]]:
    if _speed(obs) > config.max_speed:
        yield "speed", f"{_speed(obs):.2f} m/s, allowed {config.max_speed:g} m/s"
    pos = obs.signals["base_pos_w"].astype(np.float64)
    out = float(np.max(np.maximum(np.asarray(config.fence_lower) - pos, pos - np.asarray(config.fence_upper))))
    if out > 0.0:
        yield "box", f"{out:.2f} m outside the fence at {np.round(pos, 2).tolist()} m"
    if out > config.fence_margin:
        yield "box_far", f"{out:.2f} m outside the fence, margin {config.fence_margin:g} m"


def _pinned(obs: Observation, config: SupervisorConfig, ground: float) -> bool:
    height = float(obs.signals["base_pos_w"][2]) - ground
    return height < 0.05 and _depth(obs) > 0.25 and _speed(obs) < config.touch_speed


def _depth(obs: Observation) -> float:
    """Metres by which the vehicle is below the reference; 0 without one."""
    if not isinstance(obs.reference, Setpoint):
        return 0.0
    return float(obs.reference.pos_w[2]) - float(obs.signals["base_pos_w"][2])


def _speed(obs: Observation) -> float:
    return float(np.linalg.norm(obs.signals["base_lin_vel_w"].astype(np.float64)))
