"""Walk as a velocity command says, on flat ground: the environment of the `*-velocity-flat` tasks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robot_rl.sim.articulated.rotations import (
    down_in_body,
    from_yaw,
    quat_mul,
    small_rotation,
)
from robot_rl.sim.articulated.steering import Control, Trace
from robot_rl.sim.locomotion import terms
from robot_rl.sim.locomotion.legged_env import LeggedEnv
from robot_rl.sim.locomotion.mirror import (
    FEET,
    FOOT_VECTORS,
    HEADING,
    JOINTS,
    VECTOR,
    YAW,
    Parts,
)
from robot_rl.sim.locomotion.options import LocomotionOptions

if TYPE_CHECKING:
    from robot_rl.sim.task_spec import TaskSpec

FOOT_HEIGHT = 0.1  # m: how high a foot should be in mid-swing (MuJoCo Playground)
TRUNK_CONTACT = "trunk_contact"  # number of contacts
COMMANDED = ("forward", "sideways", "yaw")  # the columns of `command`, by the names of their options


class VelocityEnv(LeggedEnv):
    """N walking robots, each with a velocity command that changes now and then.

    Attributes:
        command: (N, 3) forward and sideways m/s, yaw rate rad/s, in the body's heading frame.
    """

    options: LocomotionOptions  # pyright: ignore[reportIncompatibleVariableOverride]
    buffers = (*LeggedEnv.buffers, "command", "command_left")

    def _allocate(self) -> None:
        super()._allocate()
        self.command = torch.zeros(self.num_envs, 3, device=self.device)
        self.command_left = torch.zeros(self.num_envs, device=self.device)
        self._pose_weight = torch.tensor([0.1 if "calf" in j else 1.0 for j in self.robot.joints], device=self.device)

    def sensors_read(self) -> Sequence[str]:
        return [*(super().sensors_read() or ()), TRUNK_CONTACT]

    def task_signals(self) -> dict[str, Tensor]:
        return {
            **super().task_signals(),
            "command_lin_vel_b": self.command[:, :2],
            "command_yaw_rate": self.command[:, 2:],
        }

    def critic_parts(self) -> Parts:
        return [
            *self.base_parts(),
            (HEADING, self.command[:, :2]),
            (YAW, self.command[:, 2:]),
            (JOINTS, self.joint_pos - self.default_pose),
            (JOINTS, 0.05 * self.joint_vel),
            (JOINTS, 0.05 * self.torque),
            (JOINTS, self.action),
            (FEET, self.contact.to(self.command)),
            (FEET, self.air_time),
            (FOOT_VECTORS, self.foot_vel_w().flatten(1)),
            (FEET, self.foot_height()),
            (VECTOR, self.pushes.force * (self.pushes.wait <= 0)[:, None] / 100.0),
        ]

    def rewards(self) -> dict[str, Tensor]:
        o, down, vel = self.options, down_in_body(self.base_quat), self.base_lin_vel_b()
        rate, foot_vel = self.base_ang_vel_b(), self.foot_vel_w()
        pos, default = self.joint_pos, self.default_pose
        return {
            "tracking_lin": terms.tracking(self.command[:, :2] - vel[:, :2], o.tracking_sigma),
            "tracking_yaw": terms.tracking(self.command[:, 2:] - rate[:, 2:], o.tracking_sigma),
            "lin_vel_z": vel[:, 2].square(),
            "ang_vel_xy": rate[:, :2].square().sum(1),
            "orientation": terms.orientation(down),
            "height": (self.base_height() - self.robot.base_height).square(),
            "joint_limits": terms.joint_limits(pos, *self._soft),
            "pose": terms.pose(pos, default, self._pose_weight),
            "termination": self.over.to(pos),
            "stand_still": terms.stand_still(pos, default, self.command),
            "torque": terms.torque(self.torque),
            "action_rate": (self.action - self.previous_action).square().sum(1),
            "energy": terms.energy(self.torque, self.joint_vel),
            "foot_clearance": terms.foot_clearance(self.foot_height(), foot_vel, FOOT_HEIGHT),
            "foot_slip": terms.foot_slip(self.contact, foot_vel, self.command),
            "air_time": terms.air_time(self.air_time, self.touched_down, self.command),
        }

    def shaped(self, total: Tensor) -> Tensor:
        """Not below zero: otherwise falling at once would end the penalties of a robot that cannot walk yet."""
        return torch.clamp(total, min=0.0)

    def failed(self) -> Tensor:
        """Tilted too far, or lying on the trunk."""
        upright = -down_in_body(self.base_quat)[:, 2]
        return (upright < math.cos(self.options.fallen_tilt)) | (self.sensor(TRUNK_CONTACT).abs().amax(1) > 0)

    def metrics(self) -> dict[str, Tensor]:
        """`tracking` in [0, 1]: both tracking terms, two parts linear to one part yaw; errors in m/s, rad/s; W."""
        error = self.command[:, :2] - self.base_lin_vel_b()[:, :2]
        yaw_error = self.command[:, 2:] - self.base_ang_vel_b()[:, 2:]
        sigma = self.options.tracking_sigma
        score = (2 * terms.tracking(error, sigma) + terms.tracking(yaw_error, sigma)) / 3
        power = terms.energy(self.torque, self.joint_vel)
        return {"tracking": score, "speed_error": error.norm(dim=1), "yaw_error": yaw_error.abs()[:, 0], "power": power}

    # What can be steered and seen.

    def controls(self) -> dict[str, Control]:
        widest, now = self.task.options.command, self.command[0].tolist()
        rows = zip(COMMANDED, now, ("m/s", "m/s", "rad/s"), strict=True)
        own: dict[str, Control] = {}
        for name, value, unit in rows:
            low, high = getattr(widest, name)
            own[name] = Control(low, high, value, unit)
        return own | super().controls()

    def _apply_control(self, name: str, value: float) -> None:
        if name not in COMMANDED:
            super()._apply_control(name, value)
            return
        self._change(command=dataclasses.replace(self.options.command, **{name: (value, value), "standing": 0.0}))
        self.command = self.command.clone()
        self.command[:, COMMANDED.index(name)] = value

    def traces(self) -> dict[str, Trace]:
        vel, rate, asked = self.base_lin_vel_b(), self.base_ang_vel_b(), self.command
        return {
            "forward": Trace(vel[:, 0], "m/s", asked[:, 0]),
            "sideways": Trace(vel[:, 1], "m/s", asked[:, 1]),
            "yaw": Trace(rate[:, 2], "rad/s", asked[:, 2]),
        }

    # What happens over time.

    def sample_state(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        o, k, j = self.options, len(ids), len(self.robot.joints)
        qpos, qvel = (
            torch.zeros(k, self.model.nq, device=self.device),
            torch.zeros(k, self.model.nv, device=self.device),
        )
        yaw, tilt = self.uniform(-math.pi, math.pi, k), self.uniform(-o.start_tilt, o.start_tilt, k, 3)
        tilt[:, 2] = 0.0
        qpos[:, 2] = self.robot.base_height + self.uniform(0.0, 0.04, k)
        qpos[:, 3:7] = quat_mul(from_yaw(yaw), small_rotation(tilt))
        qpos[:, self._qpos_ids] = self.default_pose + self.uniform(-0.1, 0.1, k, j)
        qvel[:, :6] = self.uniform(-o.start_speed, o.start_speed, k, 6)
        return qpos, qvel

    def start_task(self, ids: Tensor) -> None:
        super().start_task(ids)
        self._draw_command(ids)

    def advance_task(self) -> None:
        super().advance_task()
        self.command_left = self.command_left - self.control_dt
        over = (self.command_left <= 0).nonzero()[:, 0]
        if len(over) > 0:
            self._draw_command(over)

    def _draw_command(self, ids: Tensor) -> None:
        o, k = self.options.command, len(ids)
        drawn = torch.stack([self.uniform(*span, k) for span in (o.forward, o.sideways, o.yaw)], dim=1)
        walking = self.uniform(0.0, 1.0, k) >= o.standing
        self.command = self.command.index_copy(0, ids, drawn * walking[:, None])
        self.command_left = self.command_left.index_copy(0, ids, o.resample_s * self.uniform(0.5, 1.5, k))


def make_velocity_env(task: TaskSpec, num_envs: int, seed: int, device: str = "cpu") -> VelocityEnv:
    """What the flat walking tasks name as their environment."""
    return VelocityEnv(task, num_envs, seed, device)
