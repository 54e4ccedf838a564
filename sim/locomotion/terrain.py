"""Rough ground as a grid of heights: made from options, put into the physics as a height field, looked up in torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_rl.sim.locomotion.terrain_options import KINDS, TerrainOptions
from robot_rl.sim.ranges import Range

Heights = NDArray[np.float64]

BORDER = 0.2  # m of level ground around each tile, where neighbours meet at height 0
KNOTS = 0.2  # m between the random heights of rough ground, as in legged_gym
BLOCKS_PER_M2, BLOCK_SIDES = 0.8, (0.4, 1.2)  # number and m


class Terrain:
    """Level, kind → tile; point → height. The world's origin is in the middle of the grid, borders have height 0.

    Attributes:
        heights: (rows, columns) m, rows along y, columns along x, `options.cell` apart.
    """

    def __init__(self, options: TerrainOptions, device: torch.device) -> None:
        self.options = options
        self.heights = grid(options)
        rows, columns = self.heights.shape
        self.size = (columns - 1) * options.cell, (rows - 1) * options.cell
        self._flat = torch.tensor(self.heights.ravel(), dtype=torch.float32, device=device)

    def height(self, xy: Tensor) -> Tensor:
        """Height (…,) m of the ground at points (…, 2) m; beyond the grid that of its edge.

        Exactly the surface that MuJoCo collides with: each cell is two triangles that share the diagonal from its
        corner (0, 0) to (1, 1).
        """
        rows, columns = self.heights.shape
        u = ((xy[..., 0] + 0.5 * self.size[0]) / self.options.cell).clamp(0.0, columns - 1.0)
        v = ((xy[..., 1] + 0.5 * self.size[1]) / self.options.cell).clamp(0.0, rows - 1.0)
        i, j = u.long().clamp(max=columns - 2), v.long().clamp(max=rows - 2)
        fx, fy, corner = u - i, v - j, j * columns + i
        low, high = self._flat[corner], self._flat[corner + columns + 1]
        # The third corner of the triangle lies on the side that the point is on.
        third = self._flat[torch.where(fy > fx, corner + columns, corner + 1)]
        far, near = torch.maximum(fx, fy), torch.minimum(fx, fy)
        return low + far * (third - low) + near * (high - third)

    def centre(self, level: Tensor, kind: Tensor) -> Tensor:
        """Middles (k, 2) m of tiles."""
        x = (level + 0.5) * self.options.tile - 0.5 * self.size[0]
        y = (kind + 0.5) * self.options.tile - 0.5 * self.size[1]
        return torch.stack([x, y], dim=-1).to(self._flat)


def grid(options: TerrainOptions) -> Heights:
    """All tiles side by side, (rows, columns) m."""
    o, n = options, round(options.tile / options.cell)
    heights = np.zeros((len(KINDS) * n + 1, o.levels * n + 1))
    for level in range(o.levels):
        for k, kind in enumerate(KINDS):
            rng = np.random.default_rng([o.seed, level, k])
            difficulty = level / max(1, o.levels - 1)
            heights[k * n : (k + 1) * n + 1, level * n : (level + 1) * n + 1] = tile(o, kind, difficulty, rng)
    return heights


def tile(options: TerrainOptions, kind: str, difficulty: float, rng: np.random.Generator) -> Heights:
    """One tile (n + 1, n + 1) m of difficulty 0…1; its edge has height 0, its middle is level."""
    o, n = options, round(options.tile / options.cell)
    axis: Heights = o.cell * (np.arange(n + 1, dtype=np.float64) - 0.5 * n)
    x, y = np.meshgrid(axis, axis)
    # Distance to the edge of the sloping part, the same all around: pyramids.
    inside = np.clip(0.5 * o.tile - BORDER - np.maximum(np.abs(x), np.abs(y)), 0.0, None)
    inside = np.minimum(inside, 0.5 * (o.tile - o.platform) - BORDER)
    hill = at(o.slope, difficulty) * inside
    if kind in ("slope_up", "slope_down"):
        return -hill if kind == "slope_up" else hill
    if kind in ("stairs_up", "stairs_down"):
        stairs = at(o.step, difficulty) * np.ceil(np.round(inside / o.tread, 6))
        return -stairs if kind == "stairs_up" else stairs
    free = (inside > 0) & (np.maximum(np.abs(x), np.abs(y)) > 0.5 * o.platform)
    if kind == "rough_slope":
        return -0.5 * hill + free * bumps(n + 1, max(1, round(KNOTS / o.cell)), at(o.bumps, difficulty), rng)
    return free * blocks(axis, o.tile, at(o.blocks, difficulty), rng)


def bumps(points: int, stride: int, height: float, rng: np.random.Generator) -> Heights:
    """Uniform noise in ±height/2 on every `stride`-th point, linear in between."""
    coarse = rng.uniform(-0.5 * height, 0.5 * height, (points // stride + 2,) * 2)
    position = np.arange(points) / stride
    knots = np.arange(len(coarse))
    rows = np.stack([np.interp(position, knots, column) for column in coarse.T], axis=1)
    return np.stack([np.interp(position, knots, row) for row in rows])


def blocks(axis: Heights, side: float, height: float, rng: np.random.Generator) -> Heights:
    """Boxes and pits of whole and half height at random places; later ones replace earlier ones."""
    out = np.zeros((len(axis), len(axis)))
    for _ in range(round(BLOCKS_PER_M2 * side * side)):
        (cx, cy), (a, b) = rng.uniform(-0.5 * side, 0.5 * side, 2), rng.uniform(*BLOCK_SIDES, 2)
        z = height * rng.choice([-1.0, -0.5, 0.5, 1.0])
        out[np.ix_(np.abs(axis - cy) < 0.5 * b, np.abs(axis - cx) < 0.5 * a)] = z
    return out


def at(span: Range, difficulty: float) -> float:
    """From the range's beginning at difficulty 0 to its end at 1."""
    return span[0] + (span[1] - span[0]) * difficulty
