"""What differs between simulations and episodes, drawn term by term from `options.Randomize`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from robot_rl.sim.articulated.actuators import Gains
from robot_rl.sim.articulated.jointed_robot import JointedRobot
from robot_rl.sim.articulated.options import Randomize
from robot_rl.sim.ranges import Range

if TYPE_CHECKING:
    import mujoco

    from robot_rl.sim.articulated.physics import Physics

SLIDING = 0  # column of geom_friction


class Randomizer:
    """Draws the robots of new episodes and puts them into the physics, the gains and the encoders.

    Args:
        options: the ranges. robot: whose joints and bodies.
        bodies: names of the robot's bodies, the base (or the last link of a bolted-down robot) first.
        friction_geoms: whose sliding friction `friction` sets.
        generator: source of everything random; its device is where things are.
        objects: bodies that `object_mass` and `object_com` vary.

    Attributes:
        joint_offset: (N, J) rad, what the encoders add.
    """

    def __init__(
        self,
        options: Randomize,
        robot: JointedRobot,
        physics: Physics,
        gains: Gains,
        bodies: Sequence[str],
        friction_geoms: Sequence[str],
        generator: torch.Generator,
        objects: Sequence[str] = (),
    ) -> None:
        self.options, self.robot, self.physics, self.gains, self.generator = options, robot, physics, gains, generator
        model = physics.model
        self.bodies = torch.tensor([model.body(name).id for name in bodies])
        self.objects = torch.tensor([model.body(name).id for name in objects], dtype=torch.long)
        self.arm = len(robot.joints) - len(robot.gripper)
        self.geoms = torch.tensor([model.geom(name).id for name in friction_geoms], dtype=torch.long)
        self.dofs = torch.tensor([model.joint(name).dofadr[0] for name in robot.joints])
        self.joint_offset = torch.zeros(physics.num_envs, len(robot.joints), device=physics.device)
        self._nominal = _nominal(model, physics.device)
        self._nominal_gains = {"kp": gains.kp[0].clone(), "kd": gains.kd[0].clone()}

    def draw(self, ids: Tensor) -> None:
        """New robots for simulations `ids`; constants that follow are brought up to date by the next `set_state`."""
        o = self.options
        self._masses(ids)
        self._joints(ids)
        if o.friction != (0.0, 0.0):
            values = self._rows("geom_friction", ids)
            values[:, self.geoms, SLIDING] = self._uniform(o.friction, len(ids), 1)
            self.physics.set_field(ids, "geom_friction", values)
        j = len(self.robot.joints)
        for name, span in (("kp", o.stiffness), ("kd", o.damping)):
            if _varies(span):
                getattr(self.gains, name)[ids] = self._nominal_gains[name] * self._uniform(span, len(ids), j)
        if _varies(o.strength):
            self.gains.strength[ids] = self._uniform(o.strength, len(ids), j)
        if _varies(o.joint_offset):
            self.joint_offset[ids, : self.arm] = self._uniform(o.joint_offset, len(ids), self.arm)
        if self.robot.builtin_pd and (_varies(o.stiffness) or _varies(o.damping)):
            self._builtin_gains(ids)

    def _masses(self, ids: Tensor) -> None:
        o, n, base = self.options, len(ids), self.bodies[0]
        if _varies(o.link_mass) or _varies(o.object_mass) or o.base_mass != (0.0, 0.0):
            mass, inertia = self._rows("body_mass", ids), self._rows("body_inertia", ids)
            factor = self._uniform(o.link_mass, n, len(self.bodies))
            mass[:, self.bodies] *= factor
            inertia[:, self.bodies] *= factor[..., None]
            if len(self.objects) > 0:
                factor = self._uniform(o.object_mass, n, len(self.objects))
                mass[:, self.objects] *= factor
                inertia[:, self.objects] *= factor[..., None]
            before = mass[:, base]
            mass[:, base] = torch.clamp(before + self._uniform(o.base_mass, n, 1)[:, 0], min=0.1 * before)
            inertia[:, base] *= (mass[:, base] / before)[:, None]
            self.physics.set_field(ids, "body_mass", mass)
            self.physics.set_field(ids, "body_inertia", inertia)
        if _varies(o.com) or _varies(o.object_com):
            centre = self._rows("body_ipos", ids)
            centre[:, base] += self._uniform(o.com, n, 3)
            if len(self.objects) > 0:
                centre[:, self.objects] += self._uniform(o.object_com, n, 3 * len(self.objects)).reshape(n, -1, 3)
            self.physics.set_field(ids, "body_ipos", centre)

    def _joints(self, ids: Tensor) -> None:
        terms: dict[str, Range] = {"dof_armature": self.options.armature, "dof_frictionloss": self.options.dry_friction}
        for name, span in terms.items():
            if _varies(span):
                values = self._rows(name, ids)
                values[:, self.dofs] *= self._uniform(span, len(ids), len(self.dofs))
                self.physics.set_field(ids, name, values)

    def _builtin_gains(self, ids: Tensor) -> None:
        """Position actuators: force = kp·target − kp·q − kd·q̇."""
        gain, bias = self._rows("actuator_gainprm", ids), self._rows("actuator_biasprm", ids)
        j = len(self.robot.joints)
        gain[:, :j, 0], bias[:, :j, 1], bias[:, :j, 2] = self.gains.kp[ids], -self.gains.kp[ids], -self.gains.kd[ids]
        self.physics.set_field(ids, "actuator_gainprm", gain)
        self.physics.set_field(ids, "actuator_biasprm", bias)

    def _rows(self, field: str, ids: Tensor) -> Tensor:
        """Nominal values of a model field, once for each of `ids`; may be written to."""
        nominal = self._nominal[field]
        return nominal.expand(len(ids), *nominal.shape).clone()

    def _uniform(self, span: Range, n: int, columns: int) -> Tensor:
        draw = torch.rand(n, columns, generator=self.generator, device=self.generator.device)
        return span[0] + (span[1] - span[0]) * draw

    def state_dict(self) -> dict[str, Any]:
        g = self.gains
        return {"joint_offset": self.joint_offset.clone(), "kp": g.kp.clone(), "kd": g.kd.clone(),
                "strength": g.strength.clone()}  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.joint_offset.copy_(state["joint_offset"])
        for name in ("kp", "kd", "strength"):
            getattr(self.gains, name).copy_(state[name])


def _varies(span: Range) -> bool:
    return span not in ((0.0, 0.0), (1.0, 1.0))


_FIELDS = (
    "geom_friction", "body_mass", "body_inertia", "body_ipos", "dof_armature", "dof_frictionloss", "actuator_gainprm",
    "actuator_biasprm",
)  # fmt: skip


def _nominal(model: mujoco.MjModel, device: torch.device) -> dict[str, Tensor]:
    read: Callable[[str], Tensor] = lambda name: torch.as_tensor(getattr(model, name).copy(), dtype=torch.float32)  # noqa: E731
    return {name: read(name).to(device) for name in _FIELDS}
