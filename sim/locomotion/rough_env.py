"""Walk as a velocity command says on slopes, stairs and obstacles: the environment of the `*-velocity-rough` tasks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robot_rl.observer import Observer
from robot_rl.sim.articulated.rotations import from_yaw, rotate, yaw_of
from robot_rl.sim.articulated.scene import APRON, FLOOR, height_field_scene
from robot_rl.sim.locomotion.mirror import SCALAR, SCAN, Mirror, Parts, joined, mirrors
from robot_rl.sim.locomotion.observer import ProprioceptionObserver, ScanObserver, scaled_scan
from robot_rl.sim.locomotion.terrain import Terrain
from robot_rl.sim.locomotion.terrain_options import HEIGHT_SCAN, KINDS, SCAN_SPACING, SCAN_X, SCAN_Y, RoughOptions
from robot_rl.sim.locomotion.velocity_env import VelocityEnv

if TYPE_CHECKING:
    import mujoco

    from robot_rl.sim.task_spec import TaskSpec

START_SPREAD = 0.4  # m around the middle of a tile
START_LIFT = 0.05  # m: nothing may begin inside a height field, whose cells push it out sideways as well


class RoughEnv(VelocityEnv):
    """N walking robots on a grid of tiles, each on the level it can do; the kind of terrain of a robot never changes.

    After an episode a robot goes up a level if it left its tile (walked more than half its side as the crow flies), and
    down if it came less than half as far as it would have by following its commands; a robot that fell is held to have
    been asked to go on at its last command. Who has done the last level starts on any.

    Attributes:
        level, kind: (N,) of the tile on which the episode began.
        scan: (N, 187) m, the true height scan, see `HEIGHT_SCAN`.
    """

    options: RoughOptions  # pyright: ignore[reportIncompatibleVariableOverride]
    buffers = (*VelocityEnv.buffers, "level", "start_xy", "asked", "scan")

    def scene(self) -> mujoco.MjSpec:
        self.terrain = Terrain(self.options.terrain, self.device)
        return height_field_scene(self.robot, self.terrain.heights, self.options.terrain.cell)

    def friction_geoms(self) -> Sequence[str]:
        return (FLOOR, *APRON)

    def make_observer(self) -> Observer:
        felt = tuple(s for s in self.task.signals if s.name != HEIGHT_SCAN.name)
        own = (self.robot.default_pose, self.options.history)
        if self.options.height_scan == "critic":
            return ProprioceptionObserver(felt, *own)
        return ScanObserver((*felt, HEIGHT_SCAN), *own, self.robot.base_height)

    def _allocate(self) -> None:
        super()._allocate()
        n, device = self.num_envs, self.device
        self.kind = torch.arange(n, device=device) % len(KINDS)
        self.level = torch.full((n,), -1, device=device)  # not drawn yet
        self.start_xy, self.asked = torch.zeros(n, 2, device=device), torch.zeros(n, 2, device=device)
        self.scan = torch.zeros(n, SCAN_X * SCAN_Y, device=device)
        x, y = ((torch.arange(k, device=device) - (k - 1) / 2) * SCAN_SPACING for k in (SCAN_X, SCAN_Y))
        self._scan_points = torch.cartesian_prod(x, y)

    def reset(self, seed: int | None = None) -> dict[str, Tensor]:
        if seed is not None:
            self.level = torch.full_like(self.level, -1)
        return super().reset(seed)

    def base_height(self) -> Tensor:
        return self.physics.qpos[:, 2] - self.terrain.height(self.physics.qpos[:, :2])

    def foot_height(self) -> Tensor:
        feet = self.foot_pos_w()
        return feet[..., 2] - self.terrain.height(feet[..., :2])

    def task_signals(self) -> dict[str, Tensor]:
        return {**super().task_signals(), HEIGHT_SCAN.name: self.scan}

    def sensed(self, signals: dict[str, Tensor]) -> dict[str, Tensor]:
        out, size = super().sensed(signals), self.options.noise.scale * self.options.noise.height_scan
        out[HEIGHT_SCAN.name] = out[HEIGHT_SCAN.name] + self.uniform(-size, size, *self.scan.shape)
        return out

    def critic_parts(self) -> Parts:
        seen = scaled_scan(self.scan, self.robot.base_height)
        return [*super().critic_parts(), (SCAN, seen[:, :-1]), (SCALAR, seen[:, -1:])]

    @cached_property
    def symmetry(self) -> dict[str, Mirror]:
        own, scan = super().symmetry, joined([SCAN, SCALAR], mirrors(self.robot))
        if self.options.height_scan == "policy":
            return {**own, "teacher": own["policy"]}
        (at, signs), offset = own["policy"], len(own["policy"][0])
        return {**own, "teacher": (at + tuple(offset + i for i in scan[0]), signs + scan[1])}

    def metrics(self) -> dict[str, Tensor]:
        """Besides: the level of the terrain."""
        return {**super().metrics(), "terrain_level": self.level.to(self.asked)}

    def sample_state(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        self.level = self.level.index_copy(0, ids, self._levels(ids))
        qpos, qvel = super().sample_state(ids)
        centre = self.terrain.centre(self.level[ids], self.kind[ids])
        qpos[:, :2] = centre + self.uniform(-START_SPREAD, START_SPREAD, len(ids), 2)
        qpos[:, 2] += self.terrain.height(qpos[:, :2]) + START_LIFT
        self.start_xy = self.start_xy.index_copy(0, ids, qpos[:, :2])
        self.asked = self.asked.index_fill(0, ids, 0.0)
        return qpos, qvel

    def start_task(self, ids: Tensor) -> None:
        super().start_task(ids)
        self.scan = self.scan.index_copy(0, ids, self._scanned(self.physics.qpos[ids]))

    def advance_task(self) -> None:
        self.asked = self.asked + self.control_dt * self._command_w()[:, :2]
        super().advance_task()
        self.scan = self._scanned(self.physics.qpos)

    def _command_w(self) -> Tensor:
        """(N, 3) m/s: the commanded velocity in the world, turned as the robots are."""
        flat = torch.cat([self.command[:, :2], torch.zeros_like(self.command[:, :1])], dim=1)
        return rotate(from_yaw(yaw_of(self.base_quat)), flat)

    def _levels(self, ids: Tensor) -> Tensor:
        """The levels (k,) on which the next episodes of robots `ids` begin; the physics is still at the ends."""
        o, k = self.options.curriculum, len(ids)
        if o.level >= 0:
            return torch.full_like(ids, o.level)
        levels, level = self.options.terrain.levels, self.level[ids]
        draw = self.uniform(0.0, 1.0, k)
        walked = (self.physics.qpos[:, :2] - self.start_xy).norm(dim=1)
        left = self.control_dt * (self.max_episode_steps - self.episode_step)
        unheeded = torch.where(self.failed(), left * self.command[:, :2].norm(dim=1), 0.0)
        asked = self.asked.norm(dim=1) + unheeded
        up = (walked > 0.5 * self.options.terrain.tile) & ~self.physics.unstable
        down = (walked < 0.5 * asked) & ~up
        moved = level + up[ids].long() - down[ids].long()
        anywhere = (draw * levels).long()
        moved = torch.where(moved >= levels, anywhere, moved.clamp(min=0))
        first = (draw * (min(o.start, levels - 1) + 1)).long()
        return torch.where(level < 0, first, moved)

    def _scanned(self, qpos: Tensor) -> Tensor:
        """(k, 187) m for states (k, nq): the grid turns with the heading and stays level."""
        yaw = yaw_of(qpos[:, 3:7])
        cos, sin = torch.cos(yaw)[:, None], torch.sin(yaw)[:, None]
        x, y = self._scan_points.unbind(1)
        points = torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1) + qpos[:, None, :2]
        return self.terrain.height(points) - qpos[:, 2:3]

    def _look_first(self, ids: Tensor) -> None:
        super()._look_first(ids)
        self.obs_dims["teacher"] = self._observations()["teacher"].shape[1]

    def _observations(self, policy: bool = True) -> dict[str, Tensor]:
        """Besides: `teacher`, what the policy sees or would see with the height scan; to distil students from."""
        obs = super()._observations(policy)
        if policy:
            seen = [] if self.options.height_scan == "policy" else [self._signals[HEIGHT_SCAN.name]]
            obs["teacher"] = torch.cat([obs["policy"], *(scaled_scan(s, self.robot.base_height) for s in seen)], dim=1)
        return obs


def make_rough_env(task: TaskSpec, num_envs: int, seed: int, device: str = "cpu") -> RoughEnv:
    """What the walking tasks on rough ground name as their environment."""
    return RoughEnv(task, num_envs, seed, device)
