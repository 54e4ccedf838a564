"""What all tasks of robots with legs share: base, feet and contacts as read from the physics, sensor noise, costs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from robot_rl.observer import ActionMap, Observer
from robot_rl.sim.articulated.env import ArticulatedEnv
from robot_rl.sim.articulated.rotations import down_in_body, quat_mul, rotate_back, small_rotation
from robot_rl.sim.locomotion.mirror import JOINTS, ROTATION, SCALAR, VECTOR, Mirror, Parts, joined, mirrors
from robot_rl.sim.locomotion.observer import JointTargetMap, ProprioceptionObserver
from robot_rl.sim.locomotion.options import LeggedOptions

CONTACT_FORCE = 1.0  # N: a foot that presses more is on the ground
FOOT_SENSORS = ("pos", "vel", "force")  # each foot's, named FOOT_pos, …
SOFT_LIMIT = 0.9  # share of the joint range that costs nothing


class LeggedEnv(ArticulatedEnv):
    """N robots with legs; what they are to do stands in a subclass.

    Attributes:
        contact, touched_down: (N, F) bool: feet on the ground, and those for the first step.
        air_time: (N, F) s since a foot last touched the ground.
        peak_force: (N,) N, greatest force on a foot in this control step.
    """

    options: LeggedOptions  # pyright: ignore[reportIncompatibleVariableOverride]
    buffers = (*ArticulatedEnv.buffers, "contact", "air_time", "touched_down", "peak_force")

    def sensors_read(self) -> Sequence[str] | None:
        return [f"{foot}_{kind}" for foot in self.robot.feet for kind in FOOT_SENSORS]

    def sensors_felt(self) -> Sequence[str]:
        return [f"{foot}_force" for foot in self.robot.feet]

    def make_observer(self) -> Observer:
        return ProprioceptionObserver(self.task.signals, self.robot.default_pose, self.options.history)

    def make_action_map(self) -> ActionMap:
        return JointTargetMap(self.task.commands[0], self.robot.default_pose, self.options.action_scale)

    def _allocate(self) -> None:
        super()._allocate()
        n, feet, device = self.num_envs, len(self.robot.feet), self.device
        self.contact = torch.zeros(n, feet, dtype=torch.bool, device=device)
        self.touched_down = torch.zeros_like(self.contact)
        self.air_time = torch.zeros(n, feet, device=device)
        self.peak_force = torch.zeros(n, device=device)
        limits = torch.tensor(
            np.array([self.model.joint(j).range for j in self.robot.joints]), dtype=torch.float32, device=device
        )
        middle, half = limits.mean(1), 0.5 * (limits[:, 1] - limits[:, 0])
        self._feet_at = {
            kind: self.sensors.columns([f"{foot}_{kind}" for foot in self.robot.feet]) for kind in FOOT_SENSORS
        }
        self._soft = (middle - SOFT_LIMIT * half, middle + SOFT_LIMIT * half)

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

    def base_height(self) -> Tensor:
        """(N,) m above the ground."""
        return self.physics.qpos[:, 2]

    def foot_pos_w(self) -> Tensor:
        """(N, F, 3) m."""
        return self._of_feet(self.physics.sensordata, "pos")

    def foot_height(self) -> Tensor:
        """(N, F) m above the ground."""
        return self.foot_pos_w()[..., 2]

    def foot_vel_w(self) -> Tensor:
        """(N, F, 3) m/s."""
        return self._of_feet(self.physics.sensordata, "vel")

    def foot_force(self) -> Tensor:
        """(N, F) N, magnitude of the net force of the ground on each foot."""
        return self._of_feet(self.physics.raw_sensordata, "force").norm(dim=2)

    def _of_feet(self, readings: Tensor, kind: str) -> Tensor:
        return readings.index_select(1, self._feet_at[kind]).reshape(self.num_envs, len(self.robot.feet), -1)

    def critic_parts(self) -> Parts:
        """What the critic sees, one behind the other, each with its kind: how it looks in a mirror."""
        raise NotImplementedError(f"{type(self).__name__} must define critic_parts()")

    def base_parts(self) -> Parts:
        """The base's velocities, m/s and rad/s, where down is, and its height, m."""
        return [
            (VECTOR, self.base_lin_vel_b()),
            (ROTATION, self.base_ang_vel_b()),
            (VECTOR, down_in_body(self.base_quat)),
            (SCALAR, self.base_height()[:, None]),
        ]

    def critic(self) -> Tensor:
        return torch.cat([value for _, value in self.critic_parts()], dim=1)

    @cached_property
    def symmetry(self) -> dict[str, Mirror]:
        """Mirror images of the observation groups and of `action`, see `policies.symmetry`."""
        table, seen = mirrors(self.robot), self.observer
        assert isinstance(seen, ProprioceptionObserver)
        return {
            "policy": joined(seen.parts, table),
            "critic": joined([kind for kind, _ in self.critic_parts()], table),
            "action": joined([JOINTS], table),
        }

    def task_signals(self) -> dict[str, Tensor]:
        return {"base_quat_wxyz": self.base_quat, "base_ang_vel_b": self.base_ang_vel_b()}

    def sensed(self, signals: dict[str, Tensor]) -> dict[str, Tensor]:
        o, out = self.options.noise, dict(signals)
        for name, size in (("joint_pos", o.joint_pos), ("joint_vel", o.joint_vel), ("base_ang_vel_b", o.ang_vel)):
            out[name] = out[name] + self.uniform(-o.scale * size, o.scale * size, *out[name].shape)
        tilt = self.uniform(-o.scale * o.tilt, o.scale * o.tilt, self.num_envs, 3)
        out["base_quat_wxyz"] = quat_mul(out["base_quat_wxyz"], small_rotation(tilt))
        return out

    def costs(self) -> dict[str, Tensor]:
        o = self.options.cost
        return {
            "joint_speed": torch.clamp(self.joint_vel.abs().amax(1) - o.joint_speed, min=0),
            "foot_force": torch.clamp(self.peak_force - o.foot_force, min=0),
            "fall": self.over.float(),
        }

    def touching(self) -> Tensor:
        return self.contact

    # What happens over time.

    def start_task(self, ids: Tensor) -> None:
        self.contact[ids], self.touched_down[ids] = False, False
        self.air_time[ids], self.peak_force[ids] = 0.0, 0.0

    def _move(self, target: Tensor) -> None:
        super()._move(target)
        forces = self.felt.unflatten(2, (len(self.robot.feet), -1))
        self.peak_force = forces.norm(dim=3).amax((0, 2))

    def advance_task(self) -> None:
        # The air time a foot had is still there at touch-down, for the reward; it starts anew one step later.
        self.air_time = torch.where(self.contact, 0.0, self.air_time) + self.control_dt
        contact = self.foot_force() > CONTACT_FORCE
        self.touched_down = contact & ~self.contact
        self.contact = contact
