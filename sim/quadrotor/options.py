"""Every knob of a flight task as frozen data: noise, delays, disturbances, resets, rewards. Loads no torch.

A `Range` is (low, high), drawn uniformly per environment and episode unless said otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from robot_rl.errors import ConfigError
from robot_rl.sim.ranges import Range, check


@dataclass(frozen=True)
class Noise:
    """White sensor noise, standard deviations; fresh at every control step.

    Defaults after Learning to Fly in Seconds, which adds 1e-3 to each entry of the rotation matrix. Here attitude is a
    quaternion and is turned by a random rotation of 1e-3 rad per body axis, which moves the entries as much; where an
    observer has rotation-matrix entries and asks for it (`l2f`), the noise is added to the entries instead.

    Attributes:
        position: m; attitude: rad; velocity: m/s; body_rate: rad/s; scale: multiplies all four.
    """

    position: float = 1e-3
    attitude: float = 1e-3
    velocity: float = 2e-3
    body_rate: float = 2e-3
    scale: float = 1.0

    def __post_init__(self) -> None:
        check(self, **{f.name: (0.0, 1e3) for f in fields(self)})


@dataclass(frozen=True)
class Bias:
    """Constant sensor errors, drawn per episode: standard deviations per axis in m, rad, m/s, rad/s."""

    position: float = 0.0
    attitude: float = 0.0
    velocity: float = 0.0
    body_rate: float = 0.0

    def __post_init__(self) -> None:
        check(self, **{f.name: (0.0, 1e3) for f in fields(self)})


@dataclass(frozen=True)
class Delay:
    """From command to rotor: U(min, max) s per episode, exact within control steps; plus |N(0, jitter²)| s per step.

    At one step the delay is one number: with jitter, a command can be overtaken by its successor, as on a radio link.
    """

    min: float = 0.0
    max: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        check(self, min=(0.0, 1.0), max=(self.min, 1.0), jitter=(0.0, 0.1))


@dataclass(frozen=True)
class Latency:
    """From motion to signal: U(min, max) s per episode, interpolated between control steps."""

    min: float = 0.0
    max: float = 0.0

    def __post_init__(self) -> None:
        check(self, min=(0.0, 1.0), max=(self.min, 1.0))


@dataclass(frozen=True)
class Disturbance:
    """Constant external force and torque per episode, N(0, σ²) per axis; defaults after Learning to Fly in Seconds.

    Attributes:
        force: σ as a fraction of the nominal weight; torque: σ in N m per N of nominal weight.
    """

    force: float = 1 / 20
    torque: float = 1e-4

    def __post_init__(self) -> None:
        check(self, force=(0.0, 10.0), torque=(0.0, 1.0))


@dataclass(frozen=True)
class Wind:
    """Air velocity: a constant part N(0, mean²) and an Ornstein-Uhlenbeck gust N(0, gust²), per axis in m/s.

    It acts through the vehicle's drag: the `l2f` parameters have none, `pybullet` has. `gust_time`: correlation, s.
    """

    mean: float = 0.0
    gust: float = 0.0
    gust_time: float = 1.0

    def __post_init__(self) -> None:
        check(self, mean=(0.0, 100.0), gust=(0.0, 100.0), gust_time=(1e-3, 1e3))


@dataclass(frozen=True)
class Battery:
    """Thrust factor of the battery: start − sag · t / episode − load · (mean r²).

    Attributes:
        start: Range at reset; sag: Range lost over an episode; load: lost at full rotor speed.
    """

    start: Range = (1.0, 1.0)
    sag: Range = (0.0, 0.0)
    load: float = 0.0

    def __post_init__(self) -> None:
        check(self, start=(0.1, 2.0), sag=(0.0, 0.9), load=(0.0, 0.9))


@dataclass(frozen=True)
class Randomize:
    """Vehicle parameters redrawn at each reset for a `fraction` of the environments; factors on the chosen vehicle.

    Attributes:
        fraction: share of randomised vehicles, 0 to 1; the others are the vehicle itself.
        mass, inertia, torque_ratio: factors. inertia_axis: one more factor per axis; inertia_z: one more about z.
        tau_rise: s, log-uniform. tau_fall: factor on tau_rise for half of them, 1 for the rest; at most tau_fall_max s.
        thrust: factor on all of the curve. thrust_constant, thrust_linear: share of full thrust moved from the
            quadratic part.
        rotor_gain: factor per rotor. drag: factor.
    """

    fraction: float = 0.0
    mass: Range = (0.9, 1.2)
    inertia: Range = (0.8, 4.5)
    inertia_axis: Range = (0.9, 1.1)
    inertia_z: Range = (0.8, 1.3)
    tau_rise: Range = (0.045, 0.18)
    tau_fall: Range = (1.0, 4.0)
    tau_fall_max: float = 0.26
    thrust: Range = (0.7, 1.05)
    thrust_constant: Range = (0.0, 0.03)
    thrust_linear: Range = (0.0, 0.15)
    torque_ratio: Range = (0.7, 1.3)
    rotor_gain: Range = (1.0, 1.0)
    drag: Range = (1.0, 1.0)

    def __post_init__(self) -> None:
        factors = ("mass", "inertia", "inertia_axis", "inertia_z", "tau_fall", "thrust", "torque_ratio", "rotor_gain")
        check(self, **dict.fromkeys(factors, (0.01, 100.0)), drag=(0.0, 100.0), fraction=(0.0, 1.0))
        check(self, tau_rise=(0.005, 2.0), tau_fall_max=(0.005, 2.0))
        check(self, thrust_constant=(0.0, 0.4), thrust_linear=(0.0, 0.5))


@dataclass(frozen=True)
class Reset:
    """Where an episode starts, relative to the target. Defaults after Learning to Fly in Seconds.

    Attributes:
        guidance: share of starts on the target and upright.
        position: ± m; max_angle: rad, rotation uniform on SO(3) up to it; velocity: ± m/s; body_rate: ± rad/s.
        rotor: rotor speed as a fraction of full speed; the commands before the start are the same.
    """

    guidance: float = 0.1
    position: float = 0.2
    max_angle: float = math.pi / 2
    velocity: float = 1.0
    body_rate: float = 1.0
    rotor: float = 0.5

    def __post_init__(self) -> None:
        check(self, guidance=(0.0, 1.0), max_angle=(0.0, math.pi), rotor=(0.0, 1.0))
        check(self, position=(0.0, 100.0), velocity=(0.0, 100.0), body_rate=(0.0, 100.0))


@dataclass(frozen=True)
class Termination:
    """An episode fails farther than `box` m from the target on any axis, or above a speed in m/s or a rate in rad/s."""

    box: float = 0.6
    speed: float = math.inf
    body_rate: float = math.inf

    def __post_init__(self) -> None:
        check(self, **{f.name: (1e-3, math.inf) for f in fields(self)})


@dataclass(frozen=True)
class RewardWeights:
    """r = alive − scale · [position ‖e‖² + orientation (1 − q_w²) + linear_velocity ‖v‖² + action ‖a − a_hover‖²].

    It is 0 on failure. e and v are relative to the target; a = 2 u − 1 is the rotor command in [−1, 1]. Defaults:
    Learning to Fly in Seconds at the start of its curriculum, which may raise position to 40, the others to 1.
    """

    alive: float = 2.0
    scale: float = 0.5
    position: float = 5.0
    orientation: float = 5.0
    linear_velocity: float = 0.01
    action: float = 0.01

    def __post_init__(self) -> None:
        check(self, **{f.name: (0.0, 1e6) for f in fields(self)})


@dataclass(frozen=True)
class CostLimits:
    """Where the costs of a step begin: `box` m from the target on any axis, `body_rate` rad/s, `tilt` rad."""

    box: float = 0.4
    body_rate: float = 15.0
    tilt: float = 1.2

    def __post_init__(self) -> None:
        check(self, **{f.name: (0.0, 1e6) for f in fields(self)})


REFERENCES = ("hold", "langevin", "figure-eight", "step", "waypoints", "mixed")


@dataclass(frozen=True)
class Reference:
    """What the vehicle shall follow.

    Attributes:
        kind: `hold`; `langevin`: random smooth motion; `mixed`: half of each; `figure-eight`; `step`; `waypoints`.
        period: s for one figure-eight; size: m, half its length; ramp: s until full speed.
        gamma, omega, sigma: Langevin damping 1/s, stiffness 1/s, excitation m/s^1.5; filter: s, smooths it. RAPTOR.
        step_size: m along x at `step_time` s.
        waypoints: points (x, y, z) in m relative to the origin; speed: m/s between them.
    """

    kind: str = "hold"
    period: float = 5.5
    size: float = 1.0
    ramp: float = 2.0
    gamma: float = 1.0
    omega: float = 2.0
    sigma: float = 0.5
    filter: float = 1.0
    step_size: float = 0.5
    step_time: float = 1.0
    waypoints: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.5))
    speed: float = 0.8

    def __post_init__(self) -> None:
        if self.kind not in REFERENCES:
            raise ConfigError(f"Reference.kind = '{self.kind}'; allowed: {', '.join(REFERENCES)}")
        if len(self.waypoints) < 2 or any(len(p) != 3 for p in self.waypoints):
            raise ConfigError(f"Reference.waypoints needs at least two points (x, y, z), got {self.waypoints}")
        check(self, period=(0.1, 1e4), size=(0.0, 1e3), ramp=(1e-3, 1e3), speed=(1e-2, 1e2), filter=(0.01, 1e2))
        check(self, gamma=(0.0, 1e3), omega=(0.0, 1e3), sigma=(0.0, 1e3), step_size=(-1e2, 1e2), step_time=(0.0, 1e4))


@dataclass(frozen=True)
class FlightOptions:
    """A flight task's options; overridden by dotted keys such as `delay.max`.

    Attributes:
        vehicle: parameter set of the robot.
        control_dt: s between policy calls; episode_s: s until time-out.
        observer, action_map: by name, see `sim/tasks/observers.py`.
        backend: `eager`, `inductor`, `native` or `auto`, see `backend.py`.
        altitude: m, height of the task's origin over the ground: matters with ground effect.
        auto_reset: start a new episode in the step that ends one; off for evaluation.
        desync: the first episodes have random ages, so that later resets spread evenly.
    """

    vehicle: str = "l2f"
    control_dt: float = 0.01
    episode_s: float = 5.0
    observer: str = "flight"
    action_map: str = "rotor"
    backend: str = "auto"
    altitude: float = 0.0
    auto_reset: bool = True
    desync: bool = False
    dropout: float = 0.0  # probability per step that all sensors repeat their last sample
    noise: Noise = field(default_factory=Noise)
    bias: Bias = field(default_factory=Bias)
    delay: Delay = field(default_factory=Delay)
    latency: Latency = field(default_factory=Latency)
    disturbance: Disturbance = field(default_factory=Disturbance)
    wind: Wind = field(default_factory=Wind)
    battery: Battery = field(default_factory=Battery)
    randomize: Randomize = field(default_factory=Randomize)
    reset: Reset = field(default_factory=Reset)
    termination: Termination = field(default_factory=Termination)
    reward: RewardWeights = field(default_factory=RewardWeights)
    cost: CostLimits = field(default_factory=CostLimits)
    reference: Reference = field(default_factory=Reference)

    def __post_init__(self) -> None:
        check(self, control_dt=(1e-4, 0.02), episode_s=(0.02, 1e5), altitude=(0.0, 1e4), dropout=(0.0, 0.99))
