"""Turn a cube in the hand as a goal says, then the next goal: the environment of the `*-reorient` tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robot_rl.observer import ActionMap, Observer
from robot_rl.protocols import Step
from robot_rl.sim.articulated.env import ArticulatedEnv
from robot_rl.sim.articulated.rotations import (
    about,
    angle_between,
    conjugate,
    from_yaw,
    quat_mul,
    rotate,
    rotate_back,
    small_rotation,
)
from robot_rl.sim.articulated.steering import Trace
from robot_rl.sim.delay import DelayLine
from robot_rl.sim.hand import terms
from robot_rl.sim.hand.observer import HeldTargetMap, ReorientObserver, edges, two_columns
from robot_rl.sim.hand.options import LEVEL_STEP, PROMOTED, ReorientOptions
from robot_rl.sim.hand.scene import GOAL_POS, OBJECT

if TYPE_CHECKING:
    import mujoco

    from robot_rl.sim.task_spec import TaskSpec

START = (0.005, 0.0, 0.0)
"""m from the palm's centre, in its frame: where the middle of the cube starts, a little above its nest."""


class ReorientEnv(ArticulatedEnv):
    """N hands with a cube each, and a goal orientation that changes when it is reached.

    Attributes:
        goal: (N, 4) wxyz, world. goal_age: (N,) control steps since it was set.
        angle: (N,) rad from the cube to the goal that held during this control step; approached: (N,) rad by which
            it became less in it. next_angle: (N,) rad to the goal that holds now.
        reached, dropped: (N,) bool, in this control step.
        successes: (N,) goals reached in this episode. last_successes: (N,) those of the episode before, −1: none yet.
        target: (N, J) rad, what the joints were last told.
        level: (N,) of the curriculum, 0 to 1; without one 1.
    """

    options: ReorientOptions  # pyright: ignore[reportIncompatibleVariableOverride]
    buffers = (
        *ArticulatedEnv.buffers, "goal", "goal_age", "angle", "next_angle", "approached", "reached", "dropped",
        "successes", "last_successes", "target", "level", "action_before", "_tracked", "_tracker_delay",
    )  # fmt: skip
    parts = (*ArticulatedEnv.parts, "_tracker")

    def friction_geoms(self) -> Sequence[str]:
        return self.robot.feet

    def object_bodies(self) -> Sequence[str]:
        return (OBJECT,)

    def make_observer(self) -> Observer:
        o, (pos, quat) = self.options, _site_pose(self.model, "palm")
        return ReorientObserver(
            self.task.signals, self.task.commands[0], self.robot.default_pose, o.action_scale, o.control_dt, pos, quat
        )

    def make_action_map(self) -> ActionMap:
        return HeldTargetMap(self.task.commands[0])

    def _allocate(self) -> None:
        super()._allocate()
        n, device = self.num_envs, self.device
        address = int(self.model.joint("object_free").qposadr[0])
        self._object_q = slice(address, address + 7)
        address = int(self.model.joint("object_free").dofadr[0])
        self._object_v = slice(address, address + 6)
        assert isinstance(self.observer, ReorientObserver)
        self._palm_pos, self._palm_quat = self.observer.palm_pos, self.observer.palm_quat.expand(n, 4)
        self._lower, self._upper = self.observer.lower, self.observer.upper
        self._limit = torch.tensor(self.robot.torque_limit, device=device)
        self._flat = torch.tensor(_flat_orientations(), device=device)
        self._goal_steps = self.options.goal_s / self.control_dt if self.options.goal_s > 0 else math.inf
        self.goal = torch.tensor([1.0, 0.0, 0.0, 0.0], device=device).repeat(n, 1)
        self.goal_age, self.successes = (torch.zeros(n, dtype=torch.long, device=device) for _ in range(2))
        self.angle, self.next_angle, self.approached = (torch.zeros(n, device=device) for _ in range(3))
        self.reached, self.dropped = (torch.zeros(n, dtype=torch.bool, device=device) for _ in range(2))
        self.last_successes = torch.full((n,), -1, dtype=torch.long, device=device)
        self.target = self.default_pose.repeat(n, 1)
        self.level = torch.full((n,), 0.0 if self.options.curriculum else 1.0, device=device)
        self.action_before = torch.zeros_like(self.action)
        self._tracked, self._tracker_delay = torch.zeros(n, 7, device=device), torch.zeros(n, device=device)
        longest = self.options.noise.object_latency[1]
        self._tracker = DelayLine(7, n, longest, self.control_dt, self.device)

    # State, read from the physics.

    @property
    def object_pos(self) -> Tensor:
        """(N, 3) m, world."""
        return self.physics.qpos[:, self._object_q][:, :3]

    @property
    def object_quat(self) -> Tensor:
        """(N, 4) wxyz, to the world."""
        return self.physics.qpos[:, self._object_q][:, 3:]

    def drive_torque(self) -> Tensor:
        """(N, J) N m that the joints' drives give now."""
        told = self.target - self.randomizer.joint_offset
        wanted = self.gains.kp * (told - self.joint_pos) - self.gains.kd * self.joint_vel
        return torch.minimum(torch.maximum(wanted, -self._limit), self._limit)

    def held_commands(self, ids: Tensor) -> dict[str, Tensor]:
        """As the policy's own memory of what it told the joints begins."""
        return {self.task.commands[0].name: self.default_pose.expand(len(ids), -1)}

    def targets(self, commands: Mapping[str, Tensor]) -> Tensor:
        self.target = super().targets(commands)
        return self.target

    def task_signals(self) -> dict[str, Tensor]:
        return {
            "object_pos_w": self.object_pos,
            "object_quat_wxyz": self.object_quat,
            "target_quat_wxyz": self.goal,
        }

    def sensed(self, signals: dict[str, Tensor]) -> dict[str, Tensor]:
        o, out, n = self.options.noise, dict(signals), self.num_envs
        for name, size in (("joint_pos", o.joint_pos), ("joint_vel", o.joint_vel)):
            out[name] = out[name] + self.uniform(-o.scale * size, o.scale * size, *out[name].shape)
        pose = self.physics.qpos[:, self._object_q]
        if self._tracker.needed:
            older, newer, rest = self._tracker.at(self._tracker_delay)
            pose = torch.where(rest > 1e-5, older, newer).T
        pos = pose[:, :3] + self.uniform(-o.scale * o.object_pos, o.scale * o.object_pos, n, 3)
        error = o.scale * o.object_angle * torch.randn(n, 3, generator=self._generator, device=self.device)
        seen = torch.cat([pos, quat_mul(small_rotation(error), pose[:, 3:])], dim=1)
        if o.object_dropout > 0:
            lost = (self.uniform(0.0, 1.0, n) < o.object_dropout) & (self.episode_step > 0)
            seen = torch.where(lost[:, None], self._tracked, seen)
        self._tracked = seen
        out["object_pos_w"], out["object_quat_wxyz"] = seen[:, :3], seen[:, 3:]
        return out

    def critic(self) -> Tensor:
        palm, pos, quat, vel = self._palm_quat, self.object_pos, self.object_quat, self.physics.qvel[:, self._object_v]
        tips = [rotate_back(palm, self.tip_pos(tip) - pos) for tip in self.robot.feet]
        return torch.cat(
            [
                self.joint_pos - self.default_pose,
                0.1 * self.joint_vel,
                self.target - self.joint_pos,
                5.0 * self.drive_torque(),
                self.action,
                20.0 * rotate_back(palm, pos - self._palm_pos),
                two_columns(quat_mul(conjugate(palm), quat_mul(quat_mul(self.goal, conjugate(quat)), palm))),
                edges(quat_mul(conjugate(palm), quat)),
                self.next_angle[:, None],
                5.0 * rotate_back(palm, vel[:, :3]),
                0.3 * rotate_back(palm, rotate(quat, vel[:, 3:])),
                *(20.0 * tip for tip in tips),
                *(self.force_sensor(f"{tip}_force") for tip in self.robot.feet),
                0.02 * self.goal_age[:, None],
            ],
            dim=1,
        )

    def tip_pos(self, tip: str) -> Tensor:
        """(N, 3) m, world: the finger tip `tip` before the last physics step, which is to be had for nothing."""
        return self.force_sensor(f"{tip}_pos")

    # Rewards and ends.

    def rewards(self) -> dict[str, Tensor]:
        per_event = 1.0 / self.control_dt
        pos = self.joint_pos
        return {
            "orientation": terms.orientation(self.angle),
            "position": terms.position((self.object_pos - self._palm_pos).norm(dim=1)),
            "progress": per_event * self.approached,
            "success": per_event * self.reached.to(pos),
            "pose": terms.pose(pos, self.default_pose),
            "action_rate": terms.action_rate(self.action, self.previous_action, self.action_before),
            "energy": terms.energy(self.drive_torque(), self.joint_vel),
            "drop": per_event * self.dropped.to(pos),
        }

    def costs(self) -> dict[str, Tensor]:
        o = self.options.cost
        return {
            "joint_speed": torch.clamp(self.joint_vel.abs().amax(1) - o.joint_speed, min=0),
            "torque": torch.clamp(self.drive_torque().abs().amax(1) - o.torque, min=0),
            "drop": self.dropped.to(self.goal),
        }

    def failed(self) -> Tensor:
        """Dropped, or not at the goal in time."""
        return self.dropped | (self.goal_age >= self._goal_steps)

    def metrics(self) -> dict[str, Tensor]:
        """`successes`: goals reached per second, so that times the seconds of an episode they are its consecutive
        successes; `drops` per second; `angle` rad to the goal; `power` W; with a curriculum its `level`.
        """
        return {
            "successes": self.reached.to(self.angle) / self.control_dt,
            "drops": self.dropped.to(self.angle) / self.control_dt,
            "angle": self.angle,
            "power": terms.energy(self.drive_torque(), self.joint_vel),
            **({"level": self.level} if self.options.curriculum else {}),
        }

    def succeeded(self) -> Tensor:
        """One goal at least, and still holding the cube."""
        return (self.successes > 0) & ~self.dropped

    # What can be seen.

    def goal_pose(self) -> Tensor:
        return torch.cat([torch.tensor(GOAL_POS, device=self.device).expand(self.num_envs, 3), self.goal], dim=1)

    def set_goal_pose(self, pose: Tensor) -> None:
        self.goal = (pose[3:7] / pose[3:7].norm()).to(self.goal).repeat(self.num_envs, 1)
        self._new_goal_age(torch.arange(self.num_envs, device=self.device))

    def traces(self) -> dict[str, Trace]:
        return {"angle": Trace(self.angle, "rad"), "successes": Trace(self.successes.to(self.angle), "")}

    def touching(self) -> Tensor:
        return torch.cat([self.force_sensor(f"{tip}_force") for tip in self.robot.feet], dim=1) > 0.0

    # What happens over time.

    def reset(self, seed: int | None = None) -> dict[str, Tensor]:
        self.last_successes = torch.full_like(self.last_successes, -1)
        self.successes = torch.full_like(self.successes, -1)
        return super().reset(seed)

    def sample_state(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Fingers near their default pose, the cube flat on the palm with any of its faces up."""
        o, k, j = self.options, len(ids), len(self.robot.joints)
        qpos = torch.zeros(k, self.model.nq, device=self.device)
        qvel = torch.zeros(k, self.model.nv, device=self.device)
        joints = self.default_pose + self.uniform(-o.start_pose, o.start_pose, k, j)
        qpos[:, self._qpos_ids] = torch.minimum(torch.maximum(joints, self._lower), self._upper)
        palm, place = self._palm_quat[:k], torch.tensor(START, device=self.device).repeat(k, 1)
        place[:, :2] += self.uniform(-o.start_pos, o.start_pos, k, 2)
        yaw = from_yaw(self.uniform(-o.start_yaw, o.start_yaw, k))
        face = torch.randint(len(self._flat), (k,), generator=self._generator, device=self.device)
        qpos[:, self._object_q] = torch.cat(
            [self._palm_pos + rotate(palm, place), quat_mul(palm, quat_mul(yaw, self._flat[face]))], dim=1
        )
        return qpos, qvel

    def start_task(self, ids: Tensor) -> None:
        self.last_successes = self.last_successes.index_copy(0, ids, self.successes[ids])
        if self.options.curriculum:
            self._change_level(ids)
        self.successes = self.successes.index_fill(0, ids, 0)
        for name in ("reached", "dropped"):
            setattr(self, name, getattr(self, name).index_fill(0, ids, False))
        for name in ("approached", "action_before"):
            setattr(self, name, getattr(self, name).index_fill(0, ids, 0.0))
        self.target = self.target.index_copy(0, ids, self.default_pose.expand(len(ids), -1))
        self.goal = self.goal.index_copy(0, ids, self._turned(self.object_quat[ids], self.level[ids]))
        self._new_goal_age(ids)
        self.angle = self.angle.index_copy(0, ids, self.next_angle[ids])
        if self._tracker.needed:
            self._tracker.fill(ids, self.physics.qpos[ids][:, self._object_q].T)
            self._tracker_delay = self._tracker_delay.index_copy(
                0, ids, self.uniform(*self.options.noise.object_latency, len(ids))
            )

    def step(self, action: Tensor) -> Step:
        self.action_before = self.previous_action
        return super().step(action)

    def _step(self, commands: Mapping[str, Tensor], observe: bool) -> Step:
        result = super()._step(commands, observe)
        ended = self.last_successes[self.last_successes >= 0].to(self.angle)
        if len(ended) > 0:  # consecutive successes of the last finished episodes
            result.log |= {"episode/successes": ended.mean(), "episode/successes_median": ended.median()}
        return result

    def advance_task(self) -> None:
        self.goal_age = self.goal_age + 1
        self.angle = angle_between(self.object_quat, self.goal)
        self.approached = terms.progress(self.next_angle, self.angle)
        self.next_angle = self.angle
        self.dropped = self.object_pos[:, 2] < self._palm_pos[2] - self.options.drop_height
        self.reached = (self.angle < self.options.success_angle) & ~self.dropped & ~self.physics.unstable
        self.successes = self.successes + self.reached
        ids = self.reached.nonzero()[:, 0]
        if len(ids) > 0:
            self.goal = self.goal.index_copy(0, ids, self._turned(self.goal[ids], self.level[ids]))
            self._new_goal_age(ids)
        if self._tracker.needed:
            self._tracker.push(self.physics.qpos[:, self._object_q].T)

    def _change_level(self, ids: Tensor) -> None:
        """After the episodes `ids`; −1 successes stand for no episode yet."""
        count = self.successes[ids]
        change = (count >= PROMOTED).to(self.level) - (count == 0).to(self.level)
        self.level = self.level.index_copy(0, ids, (self.level[ids] + LEVEL_STEP * change).clamp(0.0, 1.0))

    def _turned(self, quat: Tensor, level: Tensor) -> Tensor:
        """Orientations (k, 4) turned about random axes by an angle between `first_turn` and `goal_turn` as `level` (k,)
        says.
        """
        (low, high), (last_low, last_high) = self.options.first_turn, self.options.goal_turn
        low, high = low + level * (last_low - low), high + level * (last_high - high)
        angle = low + (high - low) * self.uniform(0.0, 1.0, len(quat))
        axis = torch.randn(len(quat), 3, generator=self._generator, device=self.device)
        axis = axis / axis.norm(dim=1, keepdim=True).clamp(min=1e-9)
        turned = quat_mul(about(axis, angle), quat)
        return turned / turned.norm(dim=1, keepdim=True)

    def _new_goal_age(self, ids: Tensor) -> None:
        """What starts anew with a goal."""
        self.goal_age = self.goal_age.index_fill(0, ids, 0)
        left = angle_between(self.object_quat[ids], self.goal[ids])
        self.next_angle = self.next_angle.index_copy(0, ids, left)


def _flat_orientations() -> list[list[float]]:
    """The 24 orientations, wxyz, in which a cube lies on a face with its edges along the axes."""
    eighth = math.sqrt(0.5)
    up = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]  # then a quarter turn about x or y, forth or back
    up += [[eighth, x, y, 0.0] for x, y in ((eighth, 0.0), (-eighth, 0.0), (0.0, eighth), (0.0, -eighth))]
    turns = from_yaw(0.5 * math.pi * torch.arange(4.0))
    return quat_mul(turns[:, None], torch.tensor(up)[None]).reshape(24, 4).tolist()


def _site_pose(model: mujoco.MjModel, site: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """World position m and quaternion wxyz of a site that does not move."""
    import mujoco
    import numpy as np

    data, quat = mujoco.MjData(model), np.zeros(4)
    mujoco.mj_kinematics(model, data)
    mujoco.mju_mat2Quat(quat, data.site(site).xmat)
    return tuple(data.site(site).xpos.tolist()), tuple(quat.tolist())


def make_reorient_env(task: TaskSpec, num_envs: int, seed: int, device: str = "cpu") -> ReorientEnv:
    """What the in-hand tasks name as their environment."""
    return ReorientEnv(task, num_envs, seed, device)
