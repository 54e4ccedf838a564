"""Knobs of the in-hand tasks. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from robot_rl.sim.articulated.options import ArticulatedOptions
from robot_rl.sim.articulated.sensor_errors import SensorError
from robot_rl.sim.ranges import Range, check

PROMOTED, LEVEL_STEP = 2, 0.1
"""Successes in an episode after which its environment's level rises, and by how much it rises or falls."""


@dataclass(frozen=True)
class ReorientReward:
    """Weights of the reward terms (`terms.py`): per second, but `progress` per radian, `success`, `drop` per event.

    The terms and their proportions are those of MuJoCo Playground's LeapCubeReorient (2025), which gives 5 for the
    orientation, 100 for a success and −5 for a drop; all are divided by 20 here, so that returns are of the order of
    ten and a value function learns them without scaling. `progress` is ours: what leads to a goal pays at once. A drop
    costs little beside a success: with −5 four short runs learned to hold the cube and not to turn it.
    """

    orientation: float = 0.25
    position: float = 0.025
    progress: float = 2.0
    success: float = 5.0
    pose: float = -0.025
    action_rate: float = -0.00005
    energy: float = -0.00005
    drop: float = -0.25


@dataclass(frozen=True)
class ReorientNoise:
    """Errors of the sensors per sample; `scale` multiplies all but dropouts and latency.

    Attributes:
        joint_pos: rad, U(−x, x). joint_vel: rad/s, U(−x, x).
        object_pos: m, U(−x, x). object_angle: rad about each axis, N(0, x²). Source: MuJoCo Playground (2025).
        object_dropout: share of control steps at which the tracker of the object repeats its last pose.
        object_latency: s by which that tracker is late, drawn per episode.
    """

    joint_pos: float = 0.05
    joint_vel: float = 0.5
    object_pos: float = 0.02
    object_angle: float = 0.1
    object_dropout: float = 0.0
    object_latency: Range = (0.0, 0.0)
    scale: float = 1.0

    def __post_init__(self) -> None:
        sizes = {f.name: (0.0, 1e3) for f in fields(self) if f.name not in ("object_dropout", "object_latency")}
        check(self, object_dropout=(0.0, 1.0), object_latency=(0.0, 0.5), **sizes)

    def errors(self) -> dict[str, SensorError]:
        """Those per sample by signal name."""
        sizes = {"joint_pos": self.joint_pos, "joint_vel": self.joint_vel, "object_pos_w": self.object_pos}
        out = {name: SensorError(self.scale * size) for name, size in sizes.items()}
        return out | {"object_quat_wxyz": SensorError(self.scale * self.object_angle, normal=True)}


@dataclass(frozen=True)
class HandCost:
    """What `Step.cost` allows: rad/s and N m of any joint. Drops have no limit to set."""

    joint_speed: float = 6.0
    torque: float = 0.2

    def __post_init__(self) -> None:
        check(self, joint_speed=(0.0, 1e3), torque=(0.0, 1e3))


@dataclass(frozen=True)
class ReorientOptions(ArticulatedOptions):
    """Everything that can be set about turning an object in the hand.

    Attributes:
        action_scale: rad by which action 1 moves a joint's target in a control step, no faster than the joint can.
        success_angle: rad from the goal that count as reached.
        goal_turn: rad between one goal and the next, and between the start and the first, about a random axis.
        first_turn: the same at the beginning of a training with `curriculum`: each environment has a level between 0,
            `first_turn`, and 1, `goal_turn`, that rises after episodes with PROMOTED successes and falls after those
            without any.
        goal_s: s in which a goal must be reached, else the episode has failed; 0: as long as it lasts.
        drop_height: m below the palm's centre at which the object is lost.
        start_pos: m, half-width of the starting place along the palm. start_yaw: rad likewise about its normal.
        start_pose: rad, half-width of the joints' starting angles around the default pose.
    """

    control_dt: float = 0.05
    decimation: int = 5
    episode_s: float = 50.0
    action_scale: float = 0.5
    success_angle: float = 0.1
    goal_turn: Range = (0.4, 2.2)
    first_turn: Range = (0.2, 0.6)
    curriculum: bool = False
    goal_s: float = 8.0
    drop_height: float = 0.08
    start_pos: float = 0.01
    start_yaw: float = 0.3
    start_pose: float = 0.1
    reward: ReorientReward = field(default_factory=ReorientReward)
    noise: ReorientNoise = field(default_factory=ReorientNoise)
    cost: HandCost = field(default_factory=HandCost)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self,
            success_angle=(1e-3, 3.2),
            goal_turn=(0.0, 3.2),
            first_turn=(0.0, 3.2),
            goal_s=(0.0, 1e5),
            drop_height=(0.0, 10.0),
        )
        check(self, start_pos=(0.0, 0.1), start_yaw=(0.0, 3.2), start_pose=(0.0, 1.0))
