"""MuJoCo Warp on its CPU device: the promises of every backend, and agreement with MuJoCo.

One model and one process: kernels are compiled for each kind of model, which takes a minute on a fresh machine.
"""

from __future__ import annotations

import logging

import mujoco_warp
import pytest
import torch
import warp as wp
from contact_models import pd, quadruped, standing
from physics_contract import PhysicsContract

from robot_rl.errors import ConfigError
from robot_rl.sim.physics.mujoco import MujocoPhysics
from robot_rl.sim.physics.warp import WarpPhysics

pytestmark = pytest.mark.slow


class TestWarp(PhysicsContract):
    backend = "warp"
    neighbour_tolerance = 1e-6  # derived constants are computed anew, in float32, for all of them


def test_it_agrees_with_mujoco_in_the_air_and_on_the_ground() -> None:
    """Float32 against float64 through a fall and an impact, each under its own feedback.

    Measured over one second: 4e-7 (positions, m and rad), 1e-5 (speeds), 3e-4 N (forces of 35 N).
    """
    model = quadruped()
    ours, reference = WarpPhysics(model, 2), MujocoPhysics(model, 2)
    for p in (ours, reference):
        p.set_state(torch.arange(2), *standing(2))
    for _ in range(250):
        for p in (ours, reference):
            p.step(pd(p.qpos, p.qvel))
        torch.testing.assert_close(ours.qpos, reference.qpos, atol=2e-5, rtol=0.0)
        torch.testing.assert_close(ours.qvel, reference.qvel, atol=2e-3, rtol=0.0)
    torch.testing.assert_close(ours.sensordata, reference.sensordata, atol=0.02, rtol=0.0)


def test_views_are_the_simulators_own_memory() -> None:
    physics = WarpPhysics(quadruped(), 2)
    physics.set_state(torch.arange(2), *standing(2))
    held = physics.qpos
    physics.step(torch.zeros(2, 12))
    assert held.data_ptr() == physics.qpos.data_ptr() == physics._data.qpos.ptr


def test_buffers_grow_when_contacts_do_not_fit(caplog: pytest.LogCaptureFixture) -> None:
    physics, roomy = WarpPhysics(quadruped(), 2, constraints=24), WarpPhysics(quadruped(), 2)
    with caplog.at_level(logging.WARNING, logger="robot_rl.sim"):
        for p in (physics, roomy):
            p.set_state(torch.arange(2), *standing(2))
            for _ in range(120):
                p.step(pd(p.qpos, p.qvel))
    assert "did not fit" in caplog.text and physics._data.njmax > 24
    assert not physics.unstable.any()
    assert float((physics.qpos - roomy.qpos).abs().max()) < 0.05


def test_a_solver_that_stops_at_its_limit_needs_no_more_room(caplog: pytest.LogCaptureFixture) -> None:
    model = quadruped()
    model.opt.ls_iterations = 1
    physics = WarpPhysics(model, 2)
    rows, limit = physics._data.njmax, int(mujoco_warp.OverflowType.LS_ITERATIONS)
    physics.set_state(torch.arange(2), *standing(2))
    reached = False
    with caplog.at_level(logging.WARNING, logger="robot_rl.sim"):
        for _ in range(60):
            physics.step(pd(physics.qpos, physics.qvel))
            reached |= bool((wp.to_torch(physics._data.overflow) & limit).any())
    assert reached, "the case did not occur"
    assert physics._data.njmax == rows and not caplog.records


def test_integrators_it_lacks_are_named() -> None:
    model = quadruped()
    model.opt.integrator = 1  # mjINT_RK4
    with pytest.raises(ConfigError, match="implicitfast"):
        WarpPhysics(model, 1)
