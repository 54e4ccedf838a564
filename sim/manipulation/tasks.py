"""Reach, push, pick: what starts where, what is wanted, when it is solved, what is rewarded."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robot_rl.sim.articulated.rotations import from_yaw
from robot_rl.sim.manipulation import scenes, terms
from robot_rl.sim.manipulation.env import CENTRE, ManipulationEnv

OFF_TABLE = 0.45  # m from the middle of the workspace: an object there is out of reach


class ReachEnv(ManipulationEnv):
    """Bring the closed gripper to a point in the air."""

    start_width = 0.0

    def draw_goal(self, ids: Tensor) -> None:
        o, k = self.options, len(ids)
        self.set_goal(ids, self.in_area(o.goal_area, self.uniform(*o.goal_height, k), k))

    def distance(self) -> Tensor:
        return (self.ee_pos - self.target_pos).norm(dim=1)

    def solved_now(self) -> Tensor:
        return self.distance() < self.options.tolerance

    def task_rewards(self) -> dict[str, Tensor]:
        missing = self.distance()
        return {"goal": terms.near(missing, 0.2), "fine": terms.near(missing, self.options.tolerance)}


class CubeEnv(ManipulationEnv):
    """What pushing and picking share: a cube somewhere on the table."""

    friction_of, mass_of = (scenes.OBJECT,), (scenes.OBJECT,)

    def _allocate(self) -> None:
        super()._allocate()
        self._middle = torch.tensor([[*CENTRE, 0.0]], device=self.device)

    def place(self, ids: Tensor, qpos: Tensor) -> None:
        o, k = self.options, len(ids)
        self._start = self.in_area(o.area, scenes.CUBE_HALF, k)
        self.put_object(qpos, self._start, from_yaw(self.uniform(-o.object_yaw, o.object_yaw, k)))

    def lost(self) -> Tensor:
        pos = self.object_pos
        return (terms.planar(pos, self._middle) > OFF_TABLE) | (pos[:, 2] < -0.05)

    def reach(self) -> Tensor:
        """(N,) m from the gripper to the cube."""
        return (self.ee_pos - self.object_pos).norm(dim=1)


class PushEnv(CubeEnv):
    """Push the cube over the table to a place, with closed fingers."""

    start_width = 0.0
    FARTHEST, NEAREST = 0.2, 0.08  # m from start to goal
    STRIP = (0.02, 0.06, 0.02)
    """m behind the cube's middle where closed fingers push it: at the far end they pass it however it is turned."""

    def draw_goal(self, ids: Tensor) -> None:
        """In any direction; where that leaves the area of goals, in the opposite one along that axis, or less far."""
        o, k = self.options, len(ids)
        angle, far = self.uniform(-math.pi, math.pi, k), self.uniform(self.NEAREST, self.FARTHEST, k)
        step = torch.stack([far * torch.cos(angle), far * torch.sin(angle)], dim=1)
        middle, half = (torch.tensor(v, device=self.device) for v in (CENTRE, o.goal_area))
        start = self.object_pos[ids][:, :2]
        step = torch.where((start + step - middle).abs() > half, -step, step)
        goal = torch.minimum(torch.maximum(start + step, middle - half), middle + half)
        height = torch.full((k, 1), scenes.CUBE_HALF, device=self.device)
        self.set_goal(ids, torch.cat([goal, height], dim=1))

    def distance(self) -> Tensor:
        return terms.planar(self.object_pos, self.target_pos)

    def solved_now(self) -> Tensor:
        return self.distance() < self.options.tolerance

    def task_rewards(self) -> dict[str, Tensor]:
        """Ready to push, then towards the target; ManiSkill's PushCube has the same two stages (Gu et al., 2023)."""
        missing = self.distance()
        there = (missing < self.options.tolerance).float()
        ready = terms.near(terms.off_push(self.ee_pos, self.object_pos, self.target_pos, *self.STRIP), 0.2)
        return {
            "reach": torch.maximum(ready, there),
            "goal": terms.near(missing, 0.2),
            "fine": terms.near(missing, self.options.tolerance),
        }


class PickEnv(CubeEnv):
    """Grasp the cube and carry it to a point in the air."""

    turns, grips = True, True
    friction_of = (scenes.OBJECT, "left_pad", "right_pad")
    AROUND, WIDE = 0.022, 0.07
    """m from gripper to cube below which the fingers are beside it, not on it; opening at which it fits in between."""

    def draw_goal(self, ids: Tensor) -> None:
        o, k = self.options, len(ids)
        self.set_goal(ids, self.in_area(o.goal_area, self.uniform(*o.goal_height, k), k))

    def solved_now(self) -> Tensor:
        return self.distance() < self.options.tolerance

    def task_rewards(self) -> dict[str, Tensor]:
        """Stages that only add up: around the cube, grasped, lifted, towards the target.

        ManiSkill's PickCube has the same, but for the opening of the gripper (Gu et al., 2023).
        """
        missing, near = self.distance(), self.reach()
        grasped = (self.grasped() & (near < self.AROUND)).float()
        height = (self.object_pos[:, 2] - scenes.CUBE_HALF).clamp(0.0, 0.05) / 0.05
        lifted = grasped * (height > 0.2).float()
        return {
            "reach": terms.near(terms.off_grasp(near, self.gripper_width[:, 0], self.AROUND, self.WIDE), 0.2),
            "grasp": grasped,
            "lift": grasped * height,
            "goal": lifted * terms.near(missing, 0.2),
            "fine": lifted * terms.near(missing, self.options.tolerance),
        }
