"""Walk as a velocity command says, on flat ground: the environment of the `*-velocity-flat` tasks."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from robot_rl.observer import ActionMap, Observer
from robot_rl.sim.articulated.env import ArticulatedEnv
from robot_rl.sim.articulated.rotations import (
    down_in_body,
    from_yaw,
    quat_mul,
    rotate_back,
    small_rotation,
)
from robot_rl.sim.articulated.steering import Control, Trace
from robot_rl.sim.locomotion import terms
from robot_rl.sim.locomotion.observer import JointTargetMap, ProprioceptionObserver
from robot_rl.sim.locomotion.options import LocomotionOptions

if TYPE_CHECKING:
    from robot_rl.sim.task_spec import TaskSpec

CONTACT_FORCE = 1.0  # N: a foot that presses more is on the ground
FOOT_HEIGHT = 0.1  # m: how high a foot should be in mid-swing (MuJoCo Playground)
COMMANDED = ("forward", "sideways", "yaw")  # the columns of `command`, by the names of their options
SOFT_LIMIT = 0.9  # share of the joint range that costs nothing


class VelocityEnv(ArticulatedEnv):
    """N walking robots, each with a velocity command that changes now and then.

    Attributes:
        command: (N, 3) forward and sideways m/s, yaw rate rad/s, in the body's heading frame.
        contact: (N, F) bool; air_time: (N, F) s since a foot last touched the ground.
    """

    options: LocomotionOptions
    buffers = (*ArticulatedEnv.buffers, "command", "command_left", "contact", "air_time", "touched_down", "peak_force")

    def make_observer(self) -> Observer:
        return ProprioceptionObserver(self.task.signals, self.robot.default_pose, self.options.history)

    def make_action_map(self) -> ActionMap:
        return JointTargetMap(self.task.commands[0], self.robot.default_pose, self.options.action_scale)

    def _allocate(self) -> None:
        super()._allocate()
        n, feet, device = self.num_envs, len(self.robot.feet), self.device
        self.command = torch.zeros(n, 3, device=device)
        self.command_left = torch.zeros(n, device=device)
        self.contact = torch.zeros(n, feet, dtype=torch.bool, device=device)
        self.touched_down = torch.zeros_like(self.contact)
        self.air_time = torch.zeros(n, feet, device=device)
        self.peak_force = torch.zeros(n, device=device)
        limits = torch.tensor(
            np.array([self.model.joint(j).range for j in self.robot.joints]), dtype=torch.float32, device=device
        )
        middle, half = limits.mean(1), 0.5 * (limits[:, 1] - limits[:, 0])
        self._soft = (middle - SOFT_LIMIT * half, middle + SOFT_LIMIT * half)
        self._pose_weight = torch.tensor([0.1 if "calf" in j else 1.0 for j in self.robot.joints], device=device)

    # State, read from the physics.

    @property
    def base_quat(self) -> Tensor:
        return self.physics.qpos[:, 3:7]

    def base_lin_vel_b(self) -> Tensor:
        """(N, 3) m/s; a free joint's linear velocity is in the world."""
        return rotate_back(self.base_quat, self.physics.qvel[:, 0:3])

    def base_ang_vel_b(self) -> Tensor:
        """(N, 3) rad/s; a free joint's angular velocity is in the body."""
        return self.physics.qvel[:, 3:6]

    def foot_height(self) -> Tensor:
        """(N, F) m above the ground."""
        return torch.stack([self.sensor(f"{foot}_pos")[:, 2] for foot in self.robot.feet], dim=1)

    def foot_vel_w(self) -> Tensor:
        """(N, F, 3) m/s."""
        return torch.stack([self.sensor(f"{foot}_vel") for foot in self.robot.feet], dim=1)

    def foot_force(self) -> Tensor:
        """(N, F) N, magnitude of the net force of the ground on each foot."""
        return torch.stack([self.force_sensor(f"{foot}_force").norm(dim=1) for foot in self.robot.feet], dim=1)

    def task_signals(self) -> dict[str, Tensor]:
        return {
            "base_quat_wxyz": self.base_quat,
            "base_ang_vel_b": self.base_ang_vel_b(),
            "command_lin_vel_b": self.command[:, :2],
            "command_yaw_rate": self.command[:, 2:],
        }

    def sensed(self, signals: dict[str, Tensor]) -> dict[str, Tensor]:
        o, out = self.options.noise, dict(signals)
        for name, size in (("joint_pos", o.joint_pos), ("joint_vel", o.joint_vel), ("base_ang_vel_b", o.ang_vel)):
            out[name] = out[name] + self.uniform(-o.scale * size, o.scale * size, *out[name].shape)
        tilt = self.uniform(-o.scale * o.tilt, o.scale * o.tilt, self.num_envs, 3)
        out["base_quat_wxyz"] = quat_mul(out["base_quat_wxyz"], small_rotation(tilt))
        return out

    def critic(self) -> Tensor:
        return torch.cat(
            [
                self.base_lin_vel_b(),
                self.base_ang_vel_b(),
                down_in_body(self.base_quat),
                self.physics.qpos[:, 2:3],
                self.command,
                self.joint_pos - self.default_pose,
                0.05 * self.joint_vel,
                0.05 * self.torque,
                self.action,
                self.contact.to(self.command),
                self.air_time,
                self.foot_vel_w().flatten(1),
                self.foot_height(),
                self.pushes.force * (self.pushes.wait <= 0)[:, None] / 100.0,
            ],
            dim=1,
        )

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
            "height": (self.physics.qpos[:, 2] - self.robot.base_height).square(),
            "joint_limits": terms.joint_limits(pos, *self._soft),
            "pose": terms.pose(pos, default, self._pose_weight),
            "termination": self.failed().to(pos),
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

    def costs(self) -> dict[str, Tensor]:
        o = self.options.cost
        return {
            "joint_speed": torch.clamp(self.joint_vel.abs().amax(1) - o.joint_speed, min=0),
            "foot_force": torch.clamp(self.peak_force - o.foot_force, min=0),
            "fall": self.failed().to(self.command),
        }

    def failed(self) -> Tensor:
        """Tilted too far, or lying on the trunk."""
        upright = -down_in_body(self.base_quat)[:, 2]
        return (upright < math.cos(self.options.fallen_tilt)) | (self.sensor("trunk_contact").abs().amax(1) > 0)

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
        own = {name: Control(*getattr(widest, name), value, unit) for name, value, unit in rows}
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

    def touching(self) -> Tensor:
        return self.contact

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
        self._draw_command(ids)
        self.contact[ids], self.touched_down[ids] = False, False
        self.air_time[ids], self.peak_force[ids] = 0.0, 0.0

    def within_step(self) -> None:
        self.peak_force = torch.maximum(self.peak_force, self.foot_force().amax(1))

    def _move(self, target: Tensor) -> None:
        self.peak_force = torch.zeros_like(self.peak_force)
        super()._move(target)

    def advance_task(self) -> None:
        # The air time a foot had is still there at touch-down, for the reward; it starts anew one step later.
        self.air_time = torch.where(self.contact, 0.0, self.air_time) + self.control_dt
        contact = self.foot_force() > CONTACT_FORCE
        self.touched_down = contact & ~self.contact
        self.contact = contact
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
