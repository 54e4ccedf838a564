"""The parameters of a robot with joints, as frozen data; its bodies and shapes stand in an MJCF file beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robot_rl.errors import ConfigError

if TYPE_CHECKING:
    import mujoco

MODELS = Path(__file__).resolve().parent.parent / "robots" / "mjcf"
MENAGERIE_VARIABLE = "ROBOT_RL_MENAGERIE"


@dataclass(frozen=True)
class JointedRobot:
    """One source's numbers for a robot with J actuated joints. Tuples of J follow the order of `joints`.

    Attributes:
        mjcf: file in `sim/robots/mjcf`, or a path; it holds bodies, inertias, shapes, joint limits and sensors, and
            one actuator for every name in `joints`, in that order and named alike.
        menagerie: the same robot's file in a checkout of MuJoCo Menagerie, relative to its root; empty: none.
        joints: actuated joints; their order in every signal, command and policy.
        default_pose: (J,) rad (m for slides): where action 0 is, and the pose of a robot that stands or waits.
        stiffness, damping: (J,) PD gains of the low level, N m/rad and N m s/rad (N/m, N s/m for slides).
        torque_limit: (J,) N m (N): what the drive gives at most at low speed.
        stall_torque: (J,) N m: where the torque–speed line starts; at speed ω at most stall·(1 − ω/no_load) in the
            direction of motion. Infinite: no such line.
        no_load_speed: (J,) rad/s where that line ends.
        armature: (J,) kg m², rotor inertia seen at the joint.
        friction: (J,) N m, dry friction.
        base: body that carries the robot, `""` for a robot that is bolted down.
        base_height: m above ground in `default_pose`, flat ground; 0 when bolted down.
        rest_pose: (J,) rad, where the robot can do without stiffness: a walking robot lies on its belly; default: the
            default pose.
        feet: names of the sites at the feet or finger tips.
        gripper: the last ones of `joints`, fingers of a gripper: they are no part of `joint_pos` and
            `joint_pos_target`; each gets its equal share of `gripper_width_target`.
        builtin_pd: True where the MJCF's own position actuators do the PD (integrated implicitly, gravity compensated
            robots); False where the environment computes torques for `motor`s.
        source: where the numbers come from.
    """

    mjcf: str
    joints: tuple[str, ...]
    default_pose: tuple[float, ...]
    stiffness: tuple[float, ...]
    damping: tuple[float, ...]
    torque_limit: tuple[float, ...]
    armature: tuple[float, ...]
    friction: tuple[float, ...]
    stall_torque: tuple[float, ...] = ()
    no_load_speed: tuple[float, ...] = ()
    base: str = ""
    base_height: float = 0.0
    rest_pose: tuple[float, ...] = ()
    feet: tuple[str, ...] = ()
    gripper: tuple[str, ...] = ()
    menagerie: str = ""
    builtin_pd: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        j = len(self.joints)
        for name in ("stall_torque", "no_load_speed"):
            if not getattr(self, name):
                object.__setattr__(self, name, (float("inf"),) * j)
        if not self.rest_pose:
            object.__setattr__(self, "rest_pose", self.default_pose)
        for name in (
            "default_pose", "rest_pose", "stiffness", "damping", "torque_limit", "armature", "friction",
            "stall_torque", "no_load_speed",
        ):  # fmt: skip
            if len(getattr(self, name)) != j:
                raise ConfigError(f"{self.mjcf}: {name} has {len(getattr(self, name))} values for {j} joints")
        if self.gripper != self.joints[j - len(self.gripper) :]:
            raise ConfigError(f"{self.mjcf}: gripper = {self.gripper} must be the last of the joints {self.joints}")

    def gains(self) -> dict[str, tuple[float, ...]]:
        """What the low level follows `joint_pos_target` with: `stiffness` and `damping` of its joints, in its order."""
        count = len(self.joints) - len(self.gripper)
        return {"stiffness": self.stiffness[:count], "damping": self.damping[:count]}

    def path(self) -> Path:
        """The MJCF file."""
        own = Path(self.mjcf)
        return own if own.is_absolute() else MODELS / own

    def menagerie_path(self) -> Path | None:
        """This robot's file in the checkout that `$ROBOT_RL_MENAGERIE` names; None where there is none."""
        root = os.environ.get(MENAGERIE_VARIABLE)
        if not root or not self.menagerie:
            return None
        path = Path(root) / self.menagerie
        return path if path.is_file() else None

    def spec(self) -> mujoco.MjSpec:
        """A fresh, editable `mujoco.MjSpec` of the robot alone, with this table's armature and dry friction.

        With `builtin_pd` also with its gains and torque limits: actuator force = kp·(ctrl − q) − kd·q̇, clipped.

        Raises:
            MissingDependency: MuJoCo is not installed.
            ConfigError: the file lacks one of the joints, or with `builtin_pd` one of their actuators.
        """
        from robot_rl.errors import MissingDependency

        try:
            import mujoco
        except ImportError as error:
            raise MissingDependency("mujoco", "robots with joints", "pip install 'robot-rl[sim]'") from error
        spec = mujoco.MjSpec.from_file(str(self.path()))
        for i, name in enumerate(self.joints):
            joint = spec.joint(name)
            if joint is None:
                have = ", ".join(x.name for x in spec.joints)
                raise ConfigError(f"{self.path()} has no joint '{name}'; it has {have}")
            joint.armature, joint.frictionloss = self.armature[i], self.friction[i]
            if self.builtin_pd:
                self._set_drive(spec, i)
        return spec

    def _set_drive(self, spec: mujoco.MjSpec, i: int) -> None:
        drive = spec.actuator(self.joints[i])
        if drive is None:
            have = ", ".join(x.name for x in spec.actuators)
            raise ConfigError(f"{self.path()} has no actuator '{self.joints[i]}'; it has {have}")
        kp, kd, limit = self.stiffness[i], self.damping[i], self.torque_limit[i]
        gain, bias = drive.gainprm.copy(), drive.biasprm.copy()
        gain[0], bias[:3] = kp, (0.0, -kp, -kd)
        drive.gainprm, drive.biasprm, drive.forcerange = gain, bias, (-limit, limit)
