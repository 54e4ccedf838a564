"""What every task with joints and contacts can be told, as frozen data; task families add to it. Loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from robot_rl.errors import ConfigError
from robot_rl.sim.ranges import Range, check


@dataclass(frozen=True)
class Latency:
    """From command to drive: U(min, max) s per episode, plus |N(0, jitter²)| s at each control step."""

    min: float = 0.0
    max: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        check(self, min=(0.0, 0.5), max=(self.min, 0.5), jitter=(0.0, 0.1))


@dataclass(frozen=True)
class Randomize:
    """Per episode and simulation. Ranges of factors are around 1, of offsets around 0; equal ends draw nothing.

    Attributes:
        friction: sliding friction of the floor or of whatever the task lets the robot touch; (0, 0) leaves the model's.
        base_mass: kg added to the base (bolted-down robots: to the last link). com: m added to its centre of mass, per
            axis. link_mass: factor on mass and inertia of every body of the robot.
        object_mass: factor on mass and inertia of the objects that the task puts into the scene. object_com: m added
            to their centres of mass, per axis.
        stiffness, damping: factors on the PD gains; strength: factor on what the drives give.
        armature, dry_friction: factors.
        joint_offset: rad, the joint encoders' error: low level and policy both see it.
    """

    friction: Range = (0.0, 0.0)
    base_mass: Range = (0.0, 0.0)
    com: Range = (0.0, 0.0)
    link_mass: Range = (1.0, 1.0)
    object_mass: Range = (1.0, 1.0)
    object_com: Range = (0.0, 0.0)
    stiffness: Range = (1.0, 1.0)
    damping: Range = (1.0, 1.0)
    strength: Range = (1.0, 1.0)
    armature: Range = (1.0, 1.0)
    dry_friction: Range = (1.0, 1.0)
    joint_offset: Range = (0.0, 0.0)

    def __post_init__(self) -> None:
        factors = ("link_mass", "object_mass", "stiffness", "damping", "strength", "armature", "dry_friction")
        check(
            self,
            friction=(0.0, 10.0),
            base_mass=(-100.0, 100.0),
            com=(-1.0, 1.0),
            object_com=(-1.0, 1.0),
            joint_offset=(-1.0, 1.0),
        )
        check(self, **dict.fromkeys(factors, (0.01, 100.0)))


@dataclass(frozen=True)
class Push:
    """A shove of the base now and then: a horizontal force that by itself would change its speed by U(speed) m/s.

    Attributes:
        every: s between the beginnings of two pushes, U(0.5, 1.5) times this; 0: never.
        duration: s. speed: m/s.
    """

    every: float = 0.0
    duration: float = 0.1
    speed: Range = (0.3, 1.0)

    def __post_init__(self) -> None:
        check(self, every=(0.0, 1e4), duration=(1e-3, 10.0), speed=(0.0, 100.0))


@dataclass(frozen=True)
class ArticulatedOptions:
    """The part that all task families share.

    Attributes:
        parameters: the robot's parameter set, see `RobotSpec`.
        physics: contact simulator, `robot-rl list physics`. threads: of that simulator on the CPU; 0: one per core.
        control_dt: s between two actions. decimation: physics steps in it.
        episode_s: time limit.
        actuator: `pd`, or `package.module:FACTORY` for an actuator model of your own (see `actuators.py`).
        action_scale: rad (m) that action 1 is away from the default pose, the same for all joints.
        dropout: share of control steps at which the policy gets the previous sample of all sensors again.
        desync: let the first episodes end at different times.
    """

    parameters: str = "own"
    physics: str = "mujoco"
    threads: int = 0
    control_dt: float = 0.02
    decimation: int = 5
    episode_s: float = 20.0
    actuator: str = "pd"
    action_scale: float = 0.5
    dropout: float = 0.0
    desync: bool = False
    auto_reset: bool = True
    latency: Latency = field(default_factory=Latency)
    randomize: Randomize = field(default_factory=Randomize)
    push: Push = field(default_factory=Push)

    def __post_init__(self) -> None:
        check(self, control_dt=(1e-4, 1.0), decimation=(1, 1000), episode_s=(1e-3, 1e5), threads=(0, 4096))
        check(self, action_scale=(1e-6, 100.0), dropout=(0.0, 1.0))
        if not math.isfinite(self.episode_s) or self.episode_s < self.control_dt:
            raise ConfigError(f"episode_s = {self.episode_s}; it must be at least control_dt = {self.control_dt}")
