"""What the supervisor watches, the limits, and what it does about each: one table, read by the node and by the
tests.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from robot_rl.contract import Safety
from robot_rl.errors import ConfigError
from robot_rl.hardware.parameters import check_settings, setting


class RobotState(Enum):
    """Motors may push only while `moving`; those three states have names of their own for flight and for joints."""

    DISARMED = "disarmed"
    ARMED = "armed"
    TAKING_OFF = "taking_off"
    FLYING = "flying"
    LANDING = "landing"
    STANDING_UP = "standing_up"
    RUNNING = "running"
    LYING_DOWN = "lying_down"
    FAULT = "fault"

    @property
    def moving(self) -> bool:
        return self not in (RobotState.DISARMED, RobotState.ARMED, RobotState.FAULT)


class Reaction(IntEnum):
    """What follows from a condition while moving, weakest first.

    IGNORE: nothing. WARN: it is reported. LAND: the robot lands, or stands still and lies down, and goals are refused.
    IDLE: rotors stop and joints are damped at once, and the state becomes FAULT until somebody disarms. At rest LAND
    and IDLE conditions forbid arming.
    """

    IGNORE = 0
    WARN = 1
    LAND = 2
    IDLE = 3


_ANY = ("ignore", "warn", "land", "idle")
_REPORTED = ("warn", "land", "idle")
_ACTING = ("land", "idle")
_CUT = ("idle",)


@dataclass(frozen=True)
class Reactions:
    """Condition → reaction. The choices say how far a condition may be relaxed: a lost state estimate never may."""

    tilt: str = setting("idle", "tilt above max_tilt for longer than confirm_time", choices=_REPORTED)
    body_rate: str = setting("idle", "body rate above max_body_rate for longer than confirm_time", choices=_REPORTED)
    speed: str = setting("land", "speed above max_speed for longer than confirm_time", choices=_ANY)
    box: str = setting("land", "position outside fence_lower … fence_upper", choices=_ACTING)
    box_far: str = setting("idle", "position outside the fence by more than fence_margin", choices=_ACTING)
    tracking: str = setting(
        "land", "distance to the reference above max_tracking_error for longer than confirm_time", choices=_ANY
    )
    joint_limit: str = setting(
        "idle", "a joint beyond its limit by more than joint_margin for longer than confirm_time", choices=_REPORTED
    )
    joint_speed: str = setting(
        "idle", "a joint faster than max_joint_speed for longer than confirm_time", choices=_REPORTED
    )
    pose: str = setting(
        "idle",
        "standing up, a joint further than max_pose_error from its target for longer than confirm_time",
        choices=_REPORTED,
    )
    bad_signal: str = setting(
        "warn",
        "a sample not finite, not a rotation or from the future; it counts as not received",
        choices=_REPORTED,
    )
    stale_signal: str = setting(
        "land", "a signal older than its max_age; the last sample is still used", choices=_ACTING
    )
    lost_signal: str = setting(
        "idle", "a signal but the battery's older than lost_factor times its max_age, or never received", choices=_CUT
    )
    missed_ticks: str = setting(
        "land", "more than max_missed_fraction of the ticks in the last second were missed", choices=_REPORTED
    )
    command_link: str = setting("land", "no message from the operator for command_timeout", choices=_REPORTED)
    battery_low: str = setting("warn", "battery below low_voltage for longer than battery_confirm", choices=_ANY)
    battery_low_long: str = setting(
        "land", "battery below low_voltage for longer than battery_land_after", choices=_REPORTED
    )
    battery_critical: str = setting(
        "land", "battery below critical_voltage for longer than battery_confirm", choices=_ACTING
    )
    ground_contact: str = setting(
        "idle", "at rest far below the reference for longer than contact_time", choices=_REPORTED
    )
    policy_failure: str = setting(
        "warn", "the policy raised or proposed something unusable; the last command is held", choices=_REPORTED
    )
    policy_lost: str = setting("idle", "policy_failure for longer than policy_hold", choices=_CUT)
    driver_failure: str = setting(
        "idle", "the driver could not be written to for longer than driver_hold", choices=_CUT
    )
    take_off_timeout: str = setting(
        "land", "take-off, or standing up, takes longer than take_off_time", choices=_ACTING
    )
    landing_timeout: str = setting("idle", "landing, or lying down, takes longer than landing_time", choices=_REPORTED)

    def __post_init__(self) -> None:
        check_settings(self)

    def of(self, condition: str) -> Reaction:
        """The reaction to one condition."""
        return Reaction[str(getattr(self, condition)).upper()]


@dataclass(frozen=True)
class SupervisorConfig:
    """Limits and times of the supervisor, in SI units."""

    max_tilt: float = setting(1.3, "largest angle between body z and world z in rad", 0.1, 3.2)
    max_body_rate: float = setting(25.0, "largest body rate in rad/s", 1.0, 60.0)
    max_speed: float = setting(5.0, "largest speed in m/s", 0.1, 50.0)
    fence_lower: tuple[float, float, float] = setting(
        (-2.5, -2.5, -0.5), "lowest allowed position in m, world", -1e4, 1e4
    )
    fence_upper: tuple[float, float, float] = setting(
        (2.5, 2.5, 2.5), "highest allowed position in m, world", -1e4, 1e4
    )
    fence_margin: float = setting(1.0, "distance outside the fence in m at which the motors stop", 0.0, 100.0)
    max_tracking_error: float = setting(1.0, "largest distance to the reference in m", 0.05, 50.0)
    confirm_time: float = setting(0.1, "seconds for which tilt, rate, speed or tracking error must last", 0.0, 2.0)
    lost_factor: float = setting(3.0, "multiple of max_age at which a signal is lost", 1.0, 20.0)
    max_missed_fraction: float = setting(0.5, "fraction of missed ticks in one second", 0.01, 1.0)
    command_timeout: float = setting(1.0, "seconds without a message after which the operator is lost", 0.1, 60.0)
    require_link: bool = setting(False, "refuse to arm before the operator has sent a heartbeat")
    low_voltage: float = setting(3.3, "battery warning level in V", 0.0, 100.0)
    critical_voltage: float = setting(3.0, "battery level in V at which the robot lands at once", 0.0, 100.0)
    battery_confirm: float = setting(0.5, "seconds for which the voltage must be low", 0.0, 10.0)
    battery_land_after: float = setting(10.0, "seconds of low voltage after which the robot lands", 0.0, 600.0)
    contact_time: float = setting(0.5, "seconds at rest below the reference that count as contact", 0.05, 5.0)
    policy_hold: float = setting(0.1, "seconds for which the last good command replaces the policy's", 0.0, 1.0)
    driver_hold: float = setting(0.05, "seconds for which writing to the driver may fail", 0.0, 1.0)
    take_off_height: float = setting(0.5, "height above the ground in m after take-off", 0.1, 10.0)
    take_off_tolerance: float = setting(0.2, "distance to that height in m at which take-off is over", 0.02, 5.0)
    take_off_time: float = setting(10.0, "longest take-off, or longest standing up, in s", 1.0, 120.0)
    landing_time: float = setting(30.0, "longest landing, or longest lying down, in s", 1.0, 300.0)
    touch_depth: float = setting(
        0.12, "how far in m the reference must be below a resting vehicle that has landed", 0.02, 1.0
    )
    touch_speed: float = setting(0.15, "speed in m/s below which the vehicle rests", 0.01, 1.0)
    touch_time: float = setting(0.3, "seconds of rest that end a landing", 0.0, 5.0)
    arm_tilt: float = setting(0.35, "largest tilt in rad at which the robot may be armed", 0.05, 3.2)
    arm_distance: float = setting(
        1.5, "robots with joints: largest distance in rad of a joint from the standing pose when arming", 0.1, 6.3
    )
    joint_margin: float = setting(0.15, "how far in rad a joint may be beyond its limit", 0.0, 1.0)
    max_joint_speed: float = setting(25.0, "largest joint speed in rad/s", 1.0, 100.0)
    max_joint_rate: float = setting(
        3.0, "how fast in rad/s joint targets may change while standing up or lying down", 0.1, 10.0
    )
    max_pose_error: float = setting(0.8, "largest distance in rad from the target while standing up", 0.05, 3.0)
    stand_time: float = setting(2.0, "seconds in which a robot with joints moves into its standing pose", 0.5, 20.0)
    stand_tolerance: float = setting(
        0.4, "largest distance in rad from the standing pose at which the policy may begin", 0.05, 2.0
    )
    settle_time: float = setting(1.0, "seconds in which the policy comes to a standstill before lying down", 0.0, 10.0)
    gather_time: float = setting(
        0.15, "seconds from the policy's last joint targets to the standing pose, before lying down", 0.05, 10.0
    )
    lie_time: float = setting(3.0, "seconds in which a robot with joints lies down", 0.5, 30.0)
    reaction: Reactions = field(default_factory=Reactions)

    def __post_init__(self) -> None:
        check_settings(self)
        if not all(a < b for a, b in zip(self.fence_lower, self.fence_upper, strict=True)):
            raise ConfigError(f"fence_lower {self.fence_lower} must be below fence_upper {self.fence_upper}")
        if self.critical_voltage > self.low_voltage:
            raise ConfigError(
                f"critical_voltage {self.critical_voltage} V must not exceed low_voltage {self.low_voltage} V"
            )

    def tightened(self, safety: Safety) -> SupervisorConfig:
        """The stricter of these limits and of those the policy's contract asks for."""
        wanted = {"max_tilt": safety.max_tilt, "max_body_rate": safety.max_body_rate, "max_speed": safety.max_speed}
        wanted["max_tracking_error"] = safety.max_position_error
        stricter = {k: min(v, getattr(self, k)) for k, v in wanted.items() if v is not None}
        return dataclasses.replace(self, **stricter)
