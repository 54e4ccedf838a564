"""Knobs of the manipulation tasks. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from robot_rl.errors import ConfigError
from robot_rl.sim.articulated.options import ArticulatedOptions
from robot_rl.sim.articulated.sensor_errors import SensorError
from robot_rl.sim.ranges import Range, check

DENSE, SPARSE = "dense", "sparse"


@dataclass(frozen=True)
class ManipulationReward:
    """Weights of the dense terms (`terms.py`), per second; a task uses those that mean something there.

    Attributes:
        reach: gripper near what it has to touch. grasp: an object between the fingers. lift: object off the table.
        goal: object, or gripper, near its target. fine: the same within a few millimetres.
        contact: pressing with the force that is asked for. progress: path wiped, or drawer opened, per metre or point.
        success: while the task is solved. action_rate, joint_speed, force: squared, see `terms.py`. failure: once.
    """

    reach: float = 2.0
    grasp: float = 1.0
    lift: float = 1.0
    goal: float = 4.0
    fine: float = 2.0
    contact: float = 1.0
    progress: float = 10.0
    success: float = 4.0
    action_rate: float = -0.02
    joint_speed: float = -0.01
    force: float = -0.001
    failure: float = -20.0


@dataclass(frozen=True)
class ManipulationNoise:
    """Normal errors per sample, and per episode where `bias` says so; `scale` multiplies all.

    Attributes:
        joint_pos: rad. joint_vel: rad/s. force: N.
        object_pos: m, object_angle: rad (about the vertical), of whatever tracks objects and fixtures.
        object_bias: m, error of that tracker that stays for an episode. target_pos: m, likewise of the target.
    """

    joint_pos: float = 1e-4
    joint_vel: float = 0.01
    force: float = 0.3
    object_pos: float = 0.002
    object_angle: float = 0.01
    object_bias: float = 0.002
    target_pos: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        check(self, **{f.name: (0.0, 1e3) for f in fields(self)})

    def errors(self) -> dict[str, SensorError]:
        """Those per sample by signal name."""
        sizes = {
            "joint_pos": self.joint_pos, "joint_vel": self.joint_vel, "ee_force_b": self.force,
            "object_pos_w": self.object_pos,
        }  # fmt: skip
        out = {name: SensorError(self.scale * size, normal=True) for name, size in sizes.items()}
        return out | {"object_quat_wxyz": SensorError(self.scale * self.object_angle, normal=True, vertical=True)}


@dataclass(frozen=True)
class ManipulationCost:
    """What `Step.cost` allows: N at the wrist, rad/s of any joint, m that the gripper may leave the workspace."""

    force: float = 40.0
    joint_speed: float = 2.0
    workspace: float = 0.0

    def __post_init__(self) -> None:
        check(self, force=(0.0, 1e4), joint_speed=(0.0, 1e3), workspace=(0.0, 10.0))


@dataclass(frozen=True)
class CameraOptions:
    """Pictures in `signals()`: `image_<name>` (N, size, size, 3) uint8, rendered when they are asked for.

    Attributes:
        size: pixels of both sides; 0: no pictures. names: cameras of the scene, `front` and `wrist`.
        pos: m, angle: rad: half-widths of each camera's displacement, drawn per simulation and episode.
        light: factor on the lamp's brightness. light_pos: m, half-width of its place.
        colour: half-width of what is added to each colour channel of objects, in [0, 1].
        instead: the policy's observation leaves out `object_pos_w` and `object_quat_wxyz`: whoever wants to know where
            objects are has to look.
    """

    size: int = 0
    names: tuple[str, ...] = ("front",)
    pos: float = 0.0
    angle: float = 0.0
    light: Range = (1.0, 1.0)
    light_pos: float = 0.0
    colour: float = 0.0
    instead: bool = False

    def __post_init__(self) -> None:
        check(self, size=(0, 2048), pos=(0.0, 1.0), angle=(0.0, 1.0), light=(0.0, 10.0), light_pos=(0.0, 10.0))
        check(self, colour=(0.0, 1.0))
        if 0 < self.size < 16 or not self.names:
            raise ConfigError(f"camera.size = {self.size}, names = {self.names}: at least 16 pixels and one camera")
        if self.instead and self.size == 0:
            raise ConfigError(
                "camera.instead = true with camera.size = 0: nobody would see the objects; set camera.size=64"
            )


@dataclass(frozen=True)
class ManipulationOptions(ArticulatedOptions):
    """Everything that can be set about a manipulation task.

    Attributes:
        reward_kind: `dense`: the weighted terms, until time is over; `sparse`: 1 when solved, which ends the episode.
        step_size: m that action 1 moves the target of the gripper away from where it is, per axis.
        turn_size: rad likewise about the vertical.
        tolerance: m (see the task) within which it is solved. hold_s: s that it must stay so.
        object_yaw: rad, half-width of the starting angle of object or fixture. area: m, half-widths in x and y of
            where it starts. goal_area: the same for the target. goal_height: m above the table.
        start_noise: m, half-width of the box in which the gripper starts.
        fine: m: the policy also sees what the object lacks to its target in units of it, see `ManipulationObserver`; 0:
            it does not.
        too_much: N at the wrist, mean of a control step, at which the episode has failed.
    """

    control_dt: float = 0.04
    decimation: int = 8
    episode_s: float = 4.0
    reward_kind: str = DENSE
    step_size: float = 0.05
    turn_size: float = 0.2
    tolerance: float = 0.03
    hold_s: float = 0.12
    object_yaw: float = 0.0
    area: Range = (0.1, 0.15)
    goal_area: Range = (0.12, 0.2)
    goal_height: Range = (0.0, 0.0)
    start_noise: float = 0.05
    fine: float = 0.0
    too_much: float = 80.0
    reward: ManipulationReward = field(default_factory=ManipulationReward)
    noise: ManipulationNoise = field(default_factory=ManipulationNoise)
    cost: ManipulationCost = field(default_factory=ManipulationCost)
    camera: CameraOptions = field(default_factory=CameraOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, step_size=(1e-4, 0.5), turn_size=(1e-3, 3.2), tolerance=(1e-5, 1.0), hold_s=(0.0, 100.0))
        check(
            self,
            object_yaw=(0.0, 3.2),
            start_noise=(0.0, 1.0),
            too_much=(0.0, 1e5),
            fine=(0.0, 1.0),
            goal_height=(0.0, 1.0),
        )
        for name in ("area", "goal_area"):
            if not all(0.0 <= v <= 1.0 for v in getattr(self, name)):
                raise ConfigError(f"{name} = {getattr(self, name)}; both half-widths must be 0 to 1 m")
        if self.reward_kind not in (DENSE, SPARSE):
            raise ConfigError(f"reward_kind = '{self.reward_kind}'; allowed: '{DENSE}', '{SPARSE}'")
