"""Knobs of the walking tasks. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from robot_rl.sim.articulated.options import ArticulatedOptions
from robot_rl.sim.articulated.sensor_errors import SensorError
from robot_rl.sim.ranges import Range, check


@dataclass(frozen=True)
class VelocityReward:
    """Weights of the reward terms (`terms.py`); a reward is Σ weight · term · control_dt, not below zero.

    The terms are those of MuJoCo Playground's Go1 joystick task (2025); penalties weigh less, so that the sum
    is positive for a policy that only stumbles and learning starts at once.
    """

    tracking_lin: float = 2.0
    tracking_yaw: float = 1.0
    lin_vel_z: float = -0.5
    ang_vel_xy: float = -0.02
    orientation: float = -2.0
    height: float = 0.0
    joint_limits: float = -1.0
    pose: float = 0.5
    termination: float = -1.0
    stand_still: float = -0.5
    torque: float = -0.0002
    action_rate: float = -0.01
    energy: float = -0.0005
    foot_clearance: float = -0.5
    foot_slip: float = -0.1
    air_time: float = 0.1


@dataclass(frozen=True)
class VelocityCommand:
    """What is asked for: forward and sideways m/s, yaw rad/s, drawn anew every U(0.5, 1.5) · `resample_s`.

    Attributes:
        standing: share of draws in which nothing is asked for.
    """

    forward: Range = (-1.0, 1.0)
    sideways: Range = (-0.6, 0.6)
    yaw: Range = (-1.0, 1.0)
    resample_s: float = 5.0
    standing: float = 0.1

    def __post_init__(self) -> None:
        check(self, forward=(-10, 10), sideways=(-10, 10), yaw=(-20, 20), resample_s=(0.02, 1e4), standing=(0, 1))


@dataclass(frozen=True)
class ProprioceptionNoise:
    """Sensor noise of a walking robot, U(−x, x) per sample: rad, rad/s, rad of tilt, rad/s; `scale` multiplies all.

    Source: the noise of legged_gym and MuJoCo Playground's Go1.
    """

    joint_pos: float = 0.03
    joint_vel: float = 1.5
    tilt: float = 0.05
    ang_vel: float = 0.2
    scale: float = 1.0

    def __post_init__(self) -> None:
        check(self, **{f.name: (0.0, 1e3) for f in fields(self)})

    def errors(self) -> dict[str, SensorError]:
        """The same by signal name."""
        sizes = {
            "joint_pos": self.joint_pos, "joint_vel": self.joint_vel, "base_quat_wxyz": self.tilt,
            "base_ang_vel_b": self.ang_vel,
        }  # fmt: skip
        return {name: SensorError(self.scale * size) for name, size in sizes.items()}


@dataclass(frozen=True)
class LocomotionCost:
    """What `Step.cost` allows: joint speed rad/s, net force on a foot N. Falls have no limit to set."""

    joint_speed: float = 20.0
    foot_force: float = 400.0

    def __post_init__(self) -> None:
        check(self, joint_speed=(0.0, 1e3), foot_force=(0.0, 1e5))


@dataclass(frozen=True)
class LeggedOptions(ArticulatedOptions):
    """What all tasks of robots with legs have.

    Attributes:
        history: control steps of proprioception that the policy sees, this one included.
    """

    history: int = 3
    noise: ProprioceptionNoise = field(default_factory=ProprioceptionNoise)
    cost: LocomotionCost = field(default_factory=LocomotionCost)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, history=(1, 100))


@dataclass(frozen=True)
class LocomotionOptions(LeggedOptions):
    """Everything that can be set about a walking task.

    Attributes:
        tracking_sigma: m²/s² and rad²/s² by which squared velocity errors are divided in the tracking rewards.
        fallen_tilt: rad from upright at which an episode has failed. target_height: m, for the `height` term.
        start_tilt, start_speed: rad, m/s (and rad/s): half-widths of the starting states.
    """

    action_scale: float = 0.5
    tracking_sigma: float = 0.25
    fallen_tilt: float = 1.05
    start_tilt: float = 0.1
    start_speed: float = 0.5
    reward: VelocityReward = field(default_factory=VelocityReward)
    command: VelocityCommand = field(default_factory=VelocityCommand)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, tracking_sigma=(1e-6, 1e3), fallen_tilt=(0.0, 3.2), start_tilt=(0.0, 3.2))
        check(self, start_speed=(0.0, 10.0))


@dataclass(frozen=True)
class RecoverReward:
    """Weights of the terms of getting up; a reward is Σ weight · term · control_dt.

    Which terms there are follows MuJoCo Playground's Go1 getup task (2025); most of them only count as far as the robot
    is upright, so that lying still in the default pose is worth nothing.
    """

    upright: float = 1.0
    height: float = 1.0
    pose: float = 1.0
    still: float = 0.5
    standing: float = 1.0
    feet: float = 0.5
    joint_limits: float = -0.2
    torque: float = -0.0002
    action_rate: float = -0.005
    joint_speed: float = -0.0001


@dataclass(frozen=True)
class Standing:
    """When a robot counts as standing, and for how long it must at the end of an episode to have succeeded.

    Attributes:
        tilt: rad from upright. height: share of the base's height in the default pose. speed: m/s of the base.
        hold: s.
    """

    tilt: float = 0.2618
    height: float = 0.8
    speed: float = 0.2
    hold: float = 0.5

    def __post_init__(self) -> None:
        check(self, tilt=(0.0, 3.2), height=(0.0, 1.0), speed=(0.0, 10.0), hold=(0.0, 100.0))


@dataclass(frozen=True)
class Falls:
    """The states in which episodes begin: dropped in any orientation and pose, come to rest with idle drives.

    Attributes:
        count: how many there are; computed once for a seed. height: m of the drop. settle: s until it is over.
        upright: share of episodes that begin in the default pose instead.
    """

    count: int = 256
    height: float = 0.5
    settle: float = 2.0
    upright: float = 0.0

    def __post_init__(self) -> None:
        check(self, count=(1, 10**6), height=(0.0, 10.0), settle=(0.02, 60.0), upright=(0.0, 1.0))


@dataclass(frozen=True)
class RecoverOptions(LeggedOptions):
    """Everything that can be set about getting up.

    Attributes:
        action_scale: rad that action 1 is away from where the joint is, see `JointStepMap`.
    """

    action_scale: float = 0.5
    episode_s: float = 6.0
    reward: RecoverReward = field(default_factory=RecoverReward)
    standing: Standing = field(default_factory=Standing)
    falls: Falls = field(default_factory=Falls)
