"""Insert, drawer, wipe: tasks with something that stands fast, somewhere else in every episode."""

from __future__ import annotations

import torch
from torch import Tensor

from robot_rl.sim.articulated.kinematics import KinematicChain
from robot_rl.sim.articulated.rotations import from_yaw, rotate, yaw_of
from robot_rl.sim.manipulation import scenes, terms
from robot_rl.sim.manipulation.env import ManipulationEnv


class InsertEnv(ManipulationEnv):
    """Put the peg that the gripper holds into a hole 1 mm wider than the peg."""

    turns = True
    start_width = 2 * scenes.PEG_HALF
    friction_of, mass_of = (scenes.OBJECT, "left_pad", "right_pad"), (scenes.OBJECT,)
    lower = (0.25, -0.4, 0.06)
    DROPPED = 0.05  # m between gripper and peg

    def _allocate(self) -> None:
        super()._allocate()
        self._chain = KinematicChain(self.model, "ee").to(self.device)

    def place(self, ids: Tensor, qpos: Tensor) -> None:
        """The peg between the pads, upright; the block anywhere in its area."""
        o, k = self.options, len(ids)
        pos, rot = self._chain(qpos[:, self._qpos_ids[: self._arm]])
        yaw = torch.atan2(rot[:, 1, 0], rot[:, 0, 0])
        self.put_object(qpos, pos + scenes.PEG_BELOW * rot[:, :, 2], from_yaw(yaw))
        self.move_fixture(ids, self.in_area(o.area, 0.0, k), self.uniform(-o.object_yaw, o.object_yaw, k))

    def draw_goal(self, ids: Tensor) -> None:
        """The peg's pose when it stands on the table in the hole."""
        up = torch.tensor([0.0, 0.0, scenes.PEG_LENGTH / 2], device=self.device)
        self.set_goal(ids, self.fixture_pos[ids] + up)
        self.target_quat = self.target_quat.index_copy(0, ids, self.fixture_quat[ids])

    def depth(self) -> Tensor:
        """(N,) m of the peg that are below the block's top and above the hole."""
        sunk = scenes.HOLE_DEPTH - (self.object_pos[:, 2] - scenes.PEG_LENGTH / 2)
        return torch.where(self.off_axis() < scenes.PEG_HALF / 2, sunk, torch.zeros_like(sunk)).clamp(min=0.0)

    def off_axis(self) -> Tensor:
        """(N,) m, horizontally."""
        return terms.planar(self.object_pos, self.target_pos)

    def solved_now(self) -> Tensor:
        return self.depth() > scenes.HOLE_DEPTH - self.options.tolerance

    def lost(self) -> Tensor:
        return (self.ee_pos - self.object_pos).norm(dim=1) > self.DROPPED

    def turned(self) -> Tensor:
        """(N,) rad by which the peg is turned against the hole, which has four-fold symmetry."""
        return terms.symmetric_angle(yaw_of(self.sensor("object_quat")) - yaw_of(self.target_quat), 4)

    def task_rewards(self) -> dict[str, Tensor]:
        """To the place above the hole first, then down."""
        missing, off, depth = self.distance(), self.off_axis(), self.depth()
        return {
            "reach": terms.near(off, 0.1) + terms.near(self.turned().abs(), 0.3),
            "goal": terms.near(missing, 0.1),
            "fine": terms.near(off, 0.002),
            "progress": 0.5 * depth / scenes.HOLE_DEPTH,
        }


class DrawerEnv(ManipulationEnv):
    """Take the drawer's handle and pull it open."""

    turns, grips, fold = True, True, 2
    friction_of, mass_of = (scenes.OBJECT, "left_pad", "right_pad"), ("drawer",)
    FRONT = 0.68  # m: where the drawer's front is in the middle of its area
    OPEN = 0.15  # m

    def place(self, ids: Tensor, qpos: Tensor) -> None:
        o, k = self.options, len(ids)
        del qpos
        pos = self.in_area(o.area, 0.0, k)
        pos[:, 0] += self.FRONT - 0.5
        self.move_fixture(ids, pos, self.uniform(-o.object_yaw, o.object_yaw, k))

    def draw_goal(self, ids: Tensor) -> None:
        """Where the handle is when the drawer is open."""
        pull = torch.tensor([[-self.OPEN, 0.0, 0.0]], device=self.device).expand(len(ids), 3)
        self.set_goal(ids, self.object_pos[ids] + rotate(self.fixture_quat[ids], pull))

    def opening(self) -> Tensor:
        """(N,) m."""
        return self.physics.qpos[:, int(self.model.joint("drawer").qposadr[0])]

    def solved_now(self) -> Tensor:
        return self.opening() > self.OPEN - self.options.tolerance

    def task_rewards(self) -> dict[str, Tensor]:
        near, opening = (self.ee_pos - self.object_pos).norm(dim=1), self.opening()
        turned = terms.symmetric_angle(yaw_of(self.sensor("object_quat")) - _heading(self.sensor("ee_quat")), 2)
        return {
            "reach": terms.near(near, 0.2) + 0.5 * terms.near(turned.abs(), 0.3),
            "grasp": (self.grasped() & (near < 0.03)).float(),
            "goal": opening.clamp(0.0, self.OPEN) / self.OPEN,
            "fine": (opening > 0.9 * self.OPEN).float(),
        }


class WipeEnv(ManipulationEnv):
    """Press a sponge on a board with 5 to 15 N along a line of points, one after the other.

    Attributes:
        wiped: (N,) points done; path_start, path_step: (N, 3) m.
    """

    buffers = (*ManipulationEnv.buffers, "wiped", "path_start", "path_step")
    start_width, lower = 0.0, (0.25, -0.4, 0.03)
    friction_of = ("board",)
    POINTS, SPACING = 12, 0.02
    PRESS = (5.0, 15.0)  # N

    def _allocate(self) -> None:
        super()._allocate()
        self.wiped = torch.zeros(self.num_envs, dtype=torch.long, device=self.device)
        self.path_start, self.path_step = torch.zeros_like(self.target_pos), torch.zeros_like(self.target_pos)

    def place(self, ids: Tensor, qpos: Tensor) -> None:
        o, k = self.options, len(ids)
        del qpos
        pos = self.in_area(o.area, self.uniform(*o.goal_height, k), k)
        self.move_fixture(ids, pos, self.uniform(-o.object_yaw, o.object_yaw, k))

    def draw_goal(self, ids: Tensor) -> None:
        """A line along the board, in either direction, beside its middle; the gripper's height when it touches."""
        k, (x, _) = len(ids), self.options.goal_area
        way = torch.where(self.uniform(-1.0, 1.0, k) < 0, -1.0, 1.0)
        zero, length = torch.zeros_like(way), (self.POINTS - 1) * self.SPACING
        start = torch.stack([self.uniform(-x, x, k), -0.5 * length * way, zero], dim=1)
        start[:, 2] = scenes.BOARD_HALF[2] + scenes.TOUCH_HEIGHT
        quat = self.fixture_quat[ids]
        first = self.fixture_pos[ids] + rotate(quat, start)
        self.path_start = self.path_start.index_copy(0, ids, first)
        step = rotate(quat, torch.stack([zero, self.SPACING * way, zero], dim=1))
        self.path_step = self.path_step.index_copy(0, ids, step)
        self.wiped = self.wiped.index_fill(0, ids, 0)
        self.set_goal(ids, first)

    def press(self) -> Tensor:
        """(N,) N with which the sponge presses down."""
        return (-self.force[:, 2]).clamp(min=0.0)

    def off_point(self) -> Tensor:
        """(N,) m, horizontally, from the point that is next."""
        return terms.planar(self.ee_pos, self.target_pos)

    def advance_task(self) -> None:
        low, high = self.PRESS
        pressed = (self.press() > low) & (self.press() < high)
        done = pressed & (self.off_point() < self.options.tolerance) & (self.wiped < self.POINTS)
        self.wiped = self.wiped + done
        following = self.wiped.clamp(max=self.POINTS - 1)[:, None]
        self.target_pos = self.path_start + following * self.path_step
        super().advance_task()

    def solved_now(self) -> Tensor:
        return self.wiped >= self.POINTS

    def distance(self) -> Tensor:
        return self.SPACING * (self.POINTS - self.wiped).float()

    def task_rewards(self) -> dict[str, Tensor]:
        near = (self.ee_pos - self.target_pos).norm(dim=1)
        return {
            "reach": terms.near(near, 0.2),
            "contact": terms.band(self.press(), *self.PRESS, margin=5.0) * (self.off_point() < 0.05),
            "progress": self.wiped / self.POINTS,
        }


def _heading(quat: Tensor) -> Tensor:
    """(N,) rad of the horizontal direction of the body's x axis, whichever way up it is."""
    x = rotate(quat, torch.tensor([[1.0, 0.0, 0.0]], device=quat.device).expand(len(quat), 3))
    return torch.atan2(x[:, 1], x[:, 0])
