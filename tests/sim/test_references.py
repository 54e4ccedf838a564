"""Set-points: derivatives, geometry, end points, in torch and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robot_rl.errors import ConfigError
from robot_rl.sim.quadrotor.options import Reference
from robot_rl.sim.quadrotor.references import Target, Waypoints, figure_eight, step_reference
from robot_rl.sim.quadrotor.targets import Targets

POINTS = ((0.0, 0.0, 0.5), (1.0, 0.0, 0.8), (1.0, 1.0, 0.5), (0.2, 0.4, 1.0))


@pytest.mark.parametrize("path", ["figure-eight", "waypoints"])
def test_velocity_and_acceleration_are_derivatives(path: str) -> None:
    way = Waypoints(POINTS)

    def sample(t: np.ndarray) -> Target:
        return figure_eight(np, t, 3.5) if path == "figure-eight" else way.sample(np, t)

    t, h = np.linspace(0.11, 5.9, 401), 1e-5
    t = t[np.all(np.abs(t[:, None] - np.append(way.times, 2.0)) > 1e-3, axis=1)]
    left, mid, right = sample(t - h), sample(t), sample(t + h)
    assert np.allclose((right.pos - left.pos) / (2 * h), mid.vel, atol=1e-6)
    assert np.allclose((right.vel - left.vel) / (2 * h), mid.acc, atol=1e-5)


def test_figure_eight_has_the_stated_size_speed_and_start() -> None:
    t = np.linspace(0.0, 20.0, 20001)
    eight = figure_eight(np, t, period=5.5, size=1.0)
    assert np.ptp(eight.pos[0]) == pytest.approx(2.0, abs=1e-4)
    assert np.ptp(eight.pos[1]) == pytest.approx(1.0, abs=1e-4)
    assert np.allclose(eight.pos[:, 0], 0.0, atol=1e-12) and np.allclose(eight.vel[:, 0], 0.0)
    assert np.linalg.norm(eight.vel, axis=0).max() == pytest.approx(
        1.6, abs=0.03
    )  # Learning to Fly in Seconds' controller
    again = figure_eight(np, t + 5.5, period=5.5)
    assert np.allclose(eight.pos[:, t > 2.1], again.pos[:, t > 2.1], atol=1e-9)


def test_waypoints_pass_through_the_points_and_stop() -> None:
    way = Waypoints(POINTS, speed=0.7)
    at = way.sample(np, way.times)
    assert np.allclose(at.pos.T, POINTS, atol=1e-9)
    late = way.sample(np, np.array([0.0, way.times[-1], way.times[-1] + 100.0]))
    assert np.allclose(late.vel, 0.0, atol=1e-9) and np.allclose(late.acc, 0.0, atol=1e-9)
    assert np.allclose(late.pos[:, 2], POINTS[-1])
    for bad in (POINTS[:1], ((0, 0), (1, 1)), ((0, 0, 0), (np.nan, 0, 0))):
        with pytest.raises(ConfigError, match="way points"):
            Waypoints(bad)


def test_torch_and_numpy_agree() -> None:
    t = np.linspace(0.0, 8.0, 100)
    way = Waypoints(POINTS)
    for f in (figure_eight, step_reference, way.sample):
        for a, b in zip(f(np, t), f(torch, torch.tensor(t)), strict=True):
            assert np.allclose(a, b.numpy(), atol=1e-12)


def test_langevin_is_smooth_bounded_and_consistent() -> None:
    g, dt = torch.Generator().manual_seed(0), 0.01
    targets = Targets(Reference(kind="langevin", sigma=1.5, filter=0.5), 256, dt, g)
    targets.reset(torch.arange(256))
    assert torch.all(targets.rows == 0)
    rows = []
    for k in range(1500):
        targets.advance(torch.full((256,), (k + 1) * dt))
        rows.append(targets.rows)
    path = torch.stack(rows)
    assert torch.allclose(path[1:, 3:6] - path[:-1, 3:6], dt * path[1:, 6:9], atol=1e-5)
    assert torch.allclose(path[1:, 0:3] - path[:-1, 0:3], dt * path[1:, 3:6], atol=1e-5)
    assert 0.1 < path[500:, 0:3].std() < 1.5
    assert 0.5 < path[500:, 6:9].std() < 4.0


def test_mixed_references_hold_in_half_of_the_environments() -> None:
    g = torch.Generator().manual_seed(0)
    targets = Targets(Reference(kind="mixed"), 1000, 0.01, g)
    targets.reset(torch.arange(1000))
    for k in range(50):
        targets.advance(torch.full((1000,), 0.01 * (k + 1)))
    still = (targets.rows[0:9] == 0).all(0).float().mean()
    assert 0.45 < still < 0.55
