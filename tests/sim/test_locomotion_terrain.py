"""Rough ground: what stands in the options is what the physics collides with and what is looked up."""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np
import pytest
import torch

from robot_rl.errors import ConfigError
from robot_rl.sim.articulated.scene import compile_scene, height_field_scene
from robot_rl.sim.locomotion.terrain import BORDER, Terrain, at, grid
from robot_rl.sim.locomotion.terrain_options import KINDS, TerrainOptions
from robot_rl.sim.robots.go1 import OWN

SMALL = TerrainOptions(levels=3, tile=4.0, platform=1.0, seed=7)
CPU = torch.device("cpu")


def tile_of(heights: np.ndarray, options: TerrainOptions, level: int, kind: str) -> np.ndarray:
    n, k = round(options.tile / options.cell), KINDS.index(kind)
    return heights[k * n : (k + 1) * n + 1, level * n : (level + 1) * n + 1]


def test_heights_are_those_that_rays_hit() -> None:
    """Off the points of the grid too: the same triangles as MuJoCo's; and level ground beyond its edge."""
    terrain = Terrain(SMALL, CPU)
    model = compile_scene(height_field_scene(OWN, terrain.heights, SMALL.cell), 0.004)
    data = mujoco.MjData(model)
    data.qpos[:3] = 100.0, 100.0, 50.0
    mujoco.mj_forward(model, data)
    rng, hit = np.random.default_rng(0), np.zeros(1, dtype=np.int32)
    x, y = (0.5 * size + 2.0 for size in terrain.size)
    points = np.stack([rng.uniform(-x, x, 400), rng.uniform(-y, y, 400)], axis=1)
    ray = lambda p: mujoco.mj_ray(model, data, [*p, 5.0], [0.0, 0.0, -1.0], None, 1, -1, hit)  # noqa: E731
    measured = np.array([5.0 - ray(p) for p in points])
    looked_up = terrain.height(torch.tensor(points, dtype=torch.float32)).numpy()
    assert np.abs(measured).max() > 0.3
    np.testing.assert_allclose(looked_up, measured, atol=1e-4)


def test_tiles_join_and_their_middles_are_level() -> None:
    heights, terrain = grid(SMALL), Terrain(SMALL, CPU)
    n, ring = round(SMALL.tile / SMALL.cell), round(BORDER / SMALL.cell)
    for kind in KINDS:
        for level in range(SMALL.levels):
            tile = tile_of(heights, SMALL, level, kind)
            edge = np.concatenate([tile[:ring].ravel(), tile[-ring:].ravel(), tile[:, :ring].ravel()])
            assert (edge == 0).all()
            half = round(0.5 * SMALL.platform / SMALL.cell) - 1
            assert np.ptp(tile[n // 2 - half : n // 2 + half, n // 2 - half : n // 2 + half]) == 0
            assert tile.any()
    middle = terrain.centre(torch.tensor([1]), torch.tensor([KINDS.index("stairs_down")]))
    assert terrain.height(middle) == tile_of(heights, SMALL, 1, "stairs_down").max()


@pytest.mark.parametrize("kind", ["slope", "stairs"])
def test_up_and_down_have_the_slope_and_the_steps_of_their_level(kind: str) -> None:
    heights = grid(SMALL)
    for level in range(SMALL.levels):
        up, down = (tile_of(heights, SMALL, level, f"{kind}_{way}") for way in ("up", "down"))
        assert np.array_equal(up, -down)
        middle = up[len(up) // 2]
        assert middle.argmin() not in (0, len(up) - 1) and middle.min() < 0  # a pit: out of it leads up
        rises = np.abs(np.diff(down[len(down) // 2]))
        difficulty = level / (SMALL.levels - 1)
        if kind == "slope":
            assert rises.max() / SMALL.cell == pytest.approx(at(SMALL.slope, difficulty))
        else:
            assert np.unique(rises.round(6)) == pytest.approx([0.0, at(SMALL.step, difficulty)])


def test_every_kind_gets_harder() -> None:
    heights = grid(SMALL)
    for kind in KINDS:
        highest = [np.ptp(tile_of(heights, SMALL, level, kind)) for level in range(SMALL.levels)]
        assert highest == sorted(highest) and highest[0] < highest[-1]


def test_a_seed_determines_the_ground() -> None:
    again, other = (grid(dataclasses.replace(SMALL, seed=seed)) for seed in (7, 8))
    assert np.array_equal(grid(SMALL), again)
    for kind in KINDS:
        same = np.array_equal(tile_of(again, SMALL, 1, kind), tile_of(other, SMALL, 1, kind))
        assert same == (kind not in ("rough_slope", "discrete"))
    longer = grid(dataclasses.replace(SMALL, levels=5))  # the first and blocks of the others are the same places
    assert np.array_equal(tile_of(longer, SMALL, 0, "discrete"), tile_of(again, SMALL, 0, "discrete"))


def test_grids_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"terrain\.tile = 4\.01 must be a multiple"):
        TerrainOptions(tile=4.01)
    with pytest.raises(ConfigError, match="platform"):
        TerrainOptions(tile=4.0, platform=3.5)
