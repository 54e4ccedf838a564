"""Stand up from any fall and stay standing: the environment of the `*-recover` tasks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robot_rl.observer import ActionMap
from robot_rl.sim.articulated.rotations import down_in_body, from_yaw, quat_mul
from robot_rl.sim.articulated.steering import Trace
from robot_rl.sim.locomotion import terms
from robot_rl.sim.locomotion.falls import settled
from robot_rl.sim.locomotion.legged_env import LeggedEnv
from robot_rl.sim.locomotion.mirror import FEET, JOINTS, SCALAR, Parts
from robot_rl.sim.locomotion.observer import JointStepMap
from robot_rl.sim.locomotion.options import RecoverOptions

if TYPE_CHECKING:
    from robot_rl.sim.task_spec import TaskSpec


class RecoverEnv(LeggedEnv):
    """N robots that lie as they fell. No fall ends an episode; what counts is how it ends.

    Attributes:
        stood: (N,) s since when the robot stands without a break, see `options.Standing`.
        pool: (falls.count, nq) the states in which episodes begin, turned about the vertical.
    """

    options: RecoverOptions  # pyright: ignore[reportIncompatibleVariableOverride]
    buffers = (*LeggedEnv.buffers, "stood", "pool")

    def make_action_map(self) -> ActionMap:
        joint_pos = next(s for s in self.task.signals if s.name == "joint_pos")
        return JointStepMap(self.task.commands[0], joint_pos, self.options.action_scale)

    def _allocate(self) -> None:
        super()._allocate()
        self.stood = torch.zeros(self.num_envs, device=self.device)

    def reset(self, seed: int | None = None) -> dict[str, Tensor]:
        if seed is not None:
            states = settled(self.robot, self.options.falls, self.physics.dt, seed)
            self.pool = states.to(self.device)
        return super().reset(seed)

    def standing(self) -> Tensor:
        """(N,) bool: upright, high and slow enough."""
        o = self.options.standing
        upright = -down_in_body(self.base_quat)[:, 2] > math.cos(o.tilt)
        high = self.base_height() > o.height * self.robot.base_height
        return upright & high & (self.physics.qvel[:, 0:3].norm(dim=1) < o.speed)

    def critic_parts(self) -> Parts:
        return [
            *self.base_parts(),
            (JOINTS, self.joint_pos - self.default_pose),
            (JOINTS, 0.05 * self.joint_vel),
            (JOINTS, 0.05 * self.torque),
            (JOINTS, self.action),
            (FEET, self.contact.to(self.stood)),
            (FEET, self.foot_height()),
            (SCALAR, self.stood.clamp(max=self.options.standing.hold)[:, None]),
        ]

    def rewards(self) -> dict[str, Tensor]:
        down = down_in_body(self.base_quat)
        up = terms.upright(down)
        # Height counts as far as the robot is upright, the pose as far as it is both.
        risen = up.square() * terms.risen(self.base_height(), self.robot.base_height)
        near = torch.exp(-0.25 * (self.joint_pos - self.default_pose).square().sum(1))
        return {
            "upright": up,
            "height": risen,
            "pose": risen.square() * near,
            "still": risen.square() * terms.still(self.base_lin_vel_b(), self.base_ang_vel_b()),
            "standing": self.standing().to(up),
            "feet": up.square() * self.contact.to(up).mean(1),
            "joint_limits": terms.joint_limits(self.joint_pos, *self._soft),
            "torque": terms.torque(self.torque),
            "action_rate": (self.action - self.previous_action).square().sum(1),
            "joint_speed": self.joint_vel.square().sum(1),
        }

    def failed(self) -> Tensor:
        """Never: a robot that fell again may try again."""
        return torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)

    def succeeded(self) -> Tensor:
        """Has stood without a break for as long as it should."""
        return self.stood >= self.options.standing.hold - 0.5 * self.control_dt

    def costs(self) -> dict[str, Tensor]:
        """Besides: `fall`, 1 while the robot does not stand."""
        return {**super().costs(), "fall": (~self.standing()).to(self.stood)}

    def metrics(self) -> dict[str, Tensor]:
        """Shares of time: `standing` and `held` (for long enough); tilt in rad, height in m, power in W."""
        tilt = torch.arccos(torch.clamp(-down_in_body(self.base_quat)[:, 2], -1.0, 1.0))
        return {
            "standing": self.standing().to(tilt),
            "held": self.succeeded().to(tilt),
            "tilt": tilt,
            "height": self.base_height(),
            "power": terms.energy(self.torque, self.joint_vel),
        }

    def traces(self) -> dict[str, Trace]:
        tilt, height = self.metrics()["tilt"], self.base_height()
        wanted = torch.full_like(height, self.robot.base_height)
        return {"tilt": Trace(tilt, "rad", torch.zeros_like(tilt)), "height": Trace(height, "m", wanted)}

    def sample_state(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        k = len(ids)
        chosen = (self.uniform(0.0, 1.0, k) * len(self.pool)).long().clamp(max=len(self.pool) - 1)
        upright = self.uniform(0.0, 1.0, k) < self.options.falls.upright
        yaw = from_yaw(self.uniform(-math.pi, math.pi, k))
        qpos, qvel = self.pool[chosen], torch.zeros(k, self.model.nv, device=self.device)
        qpos[upright] = self._upright()
        qpos[:, :2] = 0.0
        qpos[:, 3:7] = quat_mul(yaw, qpos[:, 3:7])
        return qpos, qvel

    def _upright(self) -> Tensor:
        """(nq,) standing in the default pose."""
        qpos = torch.zeros(self.model.nq, device=self.device)
        qpos[2], qpos[3] = self.robot.base_height, 1.0
        qpos[self._qpos_ids] = self.default_pose
        return qpos

    def start_task(self, ids: Tensor) -> None:
        super().start_task(ids)
        self.stood = self.stood.index_fill(0, ids, 0.0)

    def advance_task(self) -> None:
        super().advance_task()
        self.stood = torch.where(self.standing(), self.stood + self.control_dt, 0.0)


def make_recover_env(task: TaskSpec, num_envs: int, seed: int, device: str = "cpu") -> RecoverEnv:
    """What the tasks of getting up name as their environment."""
    return RecoverEnv(task, num_envs, seed, device)
