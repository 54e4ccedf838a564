"""What a policy is tested on, as data: one table of scenarios, each a small difference from the nominal task."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robot_rl.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from robot_rl.sim.quadrotor.params import VehicleParams

# Learning to Fly in Seconds: standard deviations of the constant disturbance, m·g/20 in N and m·g/10000 in N m.
FORCE_STD = 0.027 * 9.81 / 20
TORQUE_STD = 0.027 * 9.81 / 10_000

TASKS = ("hover", "figure-eight", "waypoints")
LONGEST_PATH = 120.0  # s: every step of every vehicle is kept in memory


@dataclass(frozen=True)
class Scenario:
    """One test. Factors multiply the numbers of the parameter set `vehicle`; times in s, lengths in m.

    Attributes:
        task: `hover` (stay at the origin from random starts), `figure-eight` or `waypoints` (follow them from rest).
        start: `full` is L2F's reset distribution; `gentle` starts near the target and nearly upright; `rest` on it.
        duration: of a hover; a figure-eight takes its ramp of 2 s and then `turns` times `period`; way points take as
            long as `speed` says and a second at the last one.
        period: of the figure-eight of 2 m × 1 m.
        waypoints: points (x, y, z) in m, the first one is the start; speed: m/s, mean on a leg.
        tau: sets both motor lags, where given; tau_factor multiplies them.
        delay: command delay; latency: age of the sensed signals. Multiples of 2 ms.
        position_bias: constant error of the sensed position per axis; rate_bias: of the body rate, rad/s.
        battery: state of charge 0 to 1, None for a battery that does not sag.
        drag: whether the vehicle without drag gets that of the `pybullet` set; ground: height of the target above a
            floor, with ground effect, or None.
        wind: horizontal air speed along x, m/s.
        disturbance: multiplies the constant random force and torque.
    """

    name: str
    title: str
    task: str = "hover"
    start: str = "full"
    vehicle: str = "l2f"
    control_dt: float = 0.01
    duration: float = 5.0
    period: float = 5.5
    turns: int = 2
    delay: float = 0.0
    latency: float = 0.0
    noise: float = 1.0
    mass: float = 1.0
    inertia: float = 1.0
    tau: float | None = None
    tau_factor: float = 1.0
    thrust: float = 1.0
    position_bias: float = 0.0
    rate_bias: float = 0.0
    battery: float | None = None
    drag: bool = False
    ground: float | None = None
    wind: float = 0.0
    disturbance: float = 1.0
    waypoints: tuple[tuple[float, float, float], ...] = ()
    speed: float = 0.8

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise UnknownName("evaluation task", self.task, TASKS)
        if self.start not in ("full", "gentle", "rest"):
            raise UnknownName("start distribution", self.start, ("full", "gentle", "rest"))
        if not (0 < self.control_dt <= 0.05 and self.duration >= 1.5 and self.period >= 1.0):
            raise ConfigError(
                f"scenario {self.name}: control_dt {self.control_dt} s must lie in (0, 0.05], "
                f"duration {self.duration} s be at least 1.5, period {self.period} s at least 1"
            )
        for time in (self.delay, self.latency):
            if time < 0 or abs(time / 0.002 - round(time / 0.002)) > 1e-6:
                raise ConfigError(f"scenario {self.name}: delay and latency must be multiples of 0.002 s, got {time}")
        if self.task == "waypoints":
            self._check_path()

    def _check_path(self) -> None:
        from robot_rl.sim.quadrotor.references import Waypoints

        length = float(Waypoints(self.waypoints, self.speed).times[-1])
        if length > LONGEST_PATH:
            raise ConfigError(
                f"scenario {self.name}: the way points take {length:.0f} s at {self.speed:g} m/s; at most "
                f"{LONGEST_PATH:.0f} s are flown: raise the speed or split the path"
            )

    @property
    def tracking(self) -> bool:
        """Whether a moving reference is followed."""
        return self.task != "hover"

    def but(self, **changes: object) -> Scenario:
        """The same with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def _hover(name: str, title: str, **changes: object) -> Scenario:
    return Scenario(name, title).but(**changes)


def _eight(name: str, title: str, **changes: object) -> Scenario:
    return Scenario(name, title, task="figure-eight", start="rest").but(**changes)


_TABLE = (
    _hover("nominal", "Nominal (Learning to Fly's task)"),
    _hover("500hz", "Called at 500 Hz", control_dt=0.002),
    _hover("delay-4ms", "Command delay 4 ms", delay=0.004),
    _hover("delay-8ms", "Command delay 8 ms", delay=0.008),
    _hover("delay-10ms", "Command delay 10 ms", delay=0.01),
    _hover("delay-12ms", "Command delay 12 ms", delay=0.012),
    _hover("delay-20ms", "Command delay 20 ms", delay=0.02),
    _hover("500hz-delay-12ms", "500 Hz, command delay 12 ms", control_dt=0.002, delay=0.012),
    _hover("inertia", "Inertia ×3.6, motor lag 0.06 s", inertia=3.6, tau=0.06),
    _hover("reidentified", "Re-identified Crazyflie", vehicle="reidentified"),
    _hover("reidentified-delay-20ms", "Re-identified, delay 20 ms", vehicle="reidentified", delay=0.02),
    _hover("pybullet", "PyBullet-drones' Crazyflie", vehicle="pybullet"),
    _hover("noise-3x", "Sensor noise ×3", noise=3.0),
    _hover("noise-5x", "Sensor noise ×5", noise=5.0),
    _hover("mass-0.8", "Mass ×0.8", mass=0.8),
    _hover("mass-1.2", "Mass ×1.2", mass=1.2),
    _hover("lag-0.5", "Motor lag ×0.5", tau_factor=0.5),
    _hover("lag-2", "Motor lag ×2", tau_factor=2.0),
    _hover("thrust-0.9", "Thrust ×0.9", thrust=0.9),
    _hover("thrust-1.1", "Thrust ×1.1", thrust=1.1),
    _hover("latency-10ms", "Sensor latency 10 ms", latency=0.01),
    _hover("bias", "Position bias 2 cm, rate bias 0.02 rad/s", position_bias=0.02, rate_bias=0.02),
    _hover("battery-60", "Battery at 60 %, sagging", battery=0.6),
    _hover("wind", "Rotor drag, wind 2 m/s", drag=True, wind=2.0),
    _hover("ground-effect", "12 cm above ground, gentle start", ground=0.12, start="gentle"),
    _hover("no-disturbance", "No noise, no disturbance", noise=0.0, disturbance=0.0),
    _eight("eight-5.5s", "Figure-eight, 5.5 s"),
    _eight("eight-3.5s", "Figure-eight, 3.5 s", period=3.5),
    _eight("eight-500hz", "Figure-eight 5.5 s at 500 Hz", control_dt=0.002),
    _eight("eight-delay-20ms", "Figure-eight 5.5 s, delay 20 ms", delay=0.02),
    _eight("eight-drag", "Figure-eight 5.5 s, rotor drag", drag=True),
    _eight("eight-ground", "Figure-eight 5.5 s, 15 cm above ground", ground=0.15),
    _eight("eight-latency", "Figure-eight 5.5 s, latency 10 ms, bias 2 cm", latency=0.01, position_bias=0.02),
    _eight("eight-battery", "Figure-eight 5.5 s, battery at 60 %", battery=0.6),
    _eight("eight-reidentified", "Figure-eight 5.5 s, re-identified", vehicle="reidentified"),
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _TABLE}

# Named selections for the command line.
GROUPS: dict[str, tuple[str, ...]] = {
    "quick": ("nominal", "delay-20ms", "eight-5.5s"),
    "targets": ("nominal", "delay-20ms", "inertia", "reidentified", "500hz", "eight-5.5s", "eight-3.5s"),
    "recovery": tuple(s.name for s in _TABLE if not s.tracking),
    "tracking": tuple(s.name for s in _TABLE if s.tracking),
    "all": tuple(SCENARIOS),
}


def scenario(name: str) -> Scenario:
    """The scenario called `name`.

    Raises:
        UnknownName: no such scenario; the message lists them.
    """
    if name not in SCENARIOS:
        raise UnknownName("scenario", name, SCENARIOS)
    return SCENARIOS[name]


def selected(names: str) -> tuple[Scenario, ...]:
    """Scenarios of a comma-separated list of names and groups, each once, in the order of the list."""
    chosen: dict[str, Scenario] = {}
    for part in (p.strip() for p in names.split(",")):
        if part not in SCENARIOS and part not in GROUPS:
            raise UnknownName("scenario or group", part, (*SCENARIOS, *GROUPS))
        for name in GROUPS.get(part, (part,)):
            chosen[name] = SCENARIOS[name]
    return tuple(chosen.values())


def vehicle_params(scenario: Scenario) -> VehicleParams:
    """The scenario's vehicle.

    Raises:
        UnknownName: no such parameter set. ConfigError: a vehicle that cannot fly (too heavy, too weak).
    """
    from robot_rl.sim.robots.crazyflie import ROBOT

    base: VehicleParams = ROBOT.parameters(scenario.vehicle)
    drag = ROBOT.parameters("pybullet")
    c0, c1, c2 = base.thrust
    jx, jy, jz = base.inertia
    rise = base.tau_rise if scenario.tau is None else scenario.tau
    fall = base.tau_fall if scenario.tau is None else scenario.tau
    return dataclasses.replace(
        base,
        mass=base.mass * scenario.mass,
        inertia=(jx * scenario.inertia, jy * scenario.inertia, jz * scenario.inertia),
        tau_rise=rise * scenario.tau_factor,
        tau_fall=fall * scenario.tau_factor,
        thrust=(c0 * scenario.thrust, c1 * scenario.thrust, c2 * scenario.thrust),
        drag_xy=drag.drag_xy if scenario.drag else base.drag_xy,
        drag_z=drag.drag_z if scenario.drag else base.drag_z,
        ground_effect=base.ground_effect if scenario.ground is None else drag.ground_effect,
    )
