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


class FlightState(Enum):
    """Motors may turn only in `TAKING_OFF`, `FLYING` and `LANDING`."""

    DISARMED = "disarmed"
    ARMED = "armed"
    TAKING_OFF = "taking_off"
    FLYING = "flying"
    LANDING = "landing"
    FAULT = "fault"

    @property
    def airborne(self) -> bool:
        return self in (FlightState.TAKING_OFF, FlightState.FLYING, FlightState.LANDING)


class Reaction(IntEnum):
    """What follows from a condition while airborne, weakest first.

    IGNORE: nothing. WARN: it is reported. LAND: the state becomes LANDING and goals are refused. IDLE: the motors stop
    at once and the state becomes FAULT until somebody disarms. On the ground LAND and IDLE conditions forbid arming.
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
    take_off_timeout: str = setting("land", "take-off takes longer than take_off_time", choices=_ACTING)
    landing_timeout: str = setting("idle", "landing takes longer than landing_time", choices=_REPORTED)

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
    take_off_time: float = setting(10.0, "longest take-off in s", 1.0, 120.0)
    landing_time: float = setting(30.0, "longest landing in s", 1.0, 300.0)
    touch_depth: float = setting(
        0.12, "how far in m the reference must be below a resting vehicle that has landed", 0.02, 1.0
    )
    touch_speed: float = setting(0.15, "speed in m/s below which the vehicle rests", 0.01, 1.0)
    touch_time: float = setting(0.3, "seconds of rest that end a landing", 0.0, 5.0)
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
