"""The fused kernel and its torch twin: same loss, next state and gradient; and both against finite differences."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.sim.codegen.build import find_compiler
from robot_rl.sim.quadrotor import objective as ob
from robot_rl.sim.quadrotor import observer_equations as oe
from robot_rl.sim.quadrotor.analytic import AnalyticConfig, AnalyticFlight
from robot_rl.sim.quadrotor.flight_observer import nominal_of
from robot_rl.sim.quadrotor.fused import fused_rollout, torch_rollout
from robot_rl.sim.robots.crazyflie import ROBOT

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler: apt-get install g++")
VEHICLE = ROBOT.parameters("l2f")
HIDDEN = (32, 16)


def network(seed: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    h1, h2 = HIDDEN
    shapes = [(h1, oe.OBS_SIZE), (h1,), (h2, h1), (h2,), (4, h2), (4,)]
    layers = [0.2 * torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    layers[5] += 0.35
    return [x.to(dtype) for x in layers]


def flown(kernel: str, num_envs: int = 64, horizon: int = 12, seed: int = 1) -> AnalyticFlight:
    config = AnalyticConfig(horizon=horizon, kernel=kernel)
    task = AnalyticFlight(VEHICLE, num_envs, config)
    task.reset(seed)
    return task


@needs_compiler
def test_native_and_torch_give_the_same_gradient() -> None:
    task = flown("native")
    task._fill_noise()
    before = task._carry.clone()
    layers = [x.requires_grad_() for x in network(0)]
    loss, carry = torch_rollout(before, task._vehicles, task._noise, layers, nominal_of(VEHICLE), 0.99)
    expected = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, layers)])
    flat = torch.cat([x.detach().reshape(-1) for x in layers])
    found, after = torch.empty_like(flat), before.clone()
    native_loss = fused_rollout(nominal_of(VEHICLE), HIDDEN)(after, task._vehicles, task._noise, flat, found, 0.99)
    assert native_loss == pytest.approx(float(loss.detach()), rel=1e-5)
    torch.testing.assert_close(after, carry.detach(), rtol=1e-4, atol=1e-4)
    assert (found - expected).norm() / expected.norm() < 1e-5


def test_torch_gradient_equals_finite_differences() -> None:
    """In double precision, without gradient decay, and with the observer's estimates frozen.

    The gradient of those estimates is cut on purpose.
    """
    task = flown("torch", num_envs=32, horizon=5)
    carry, vehicles = task._carry.double(), task._vehicles.double()
    noise = torch.randn(5, ob.NOISE_ROWS, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    nominal = nominal_of(VEHICLE)._replace()
    layers = network(2, torch.float64)
    layers[0][:, 26:32] = 0.0  # disturbance estimate: inputs 26 … 31

    def value(parts: list[Tensor]) -> Tensor:
        return torch_rollout(carry, vehicles, noise, parts, nominal, 1.0)[0]

    leaves = [x.clone().requires_grad_() for x in layers]
    gradient = torch.autograd.grad(value(leaves), leaves)
    for layer, index in ((0, 5), (1, 3), (2, 17), (4, 9), (5, 2)):
        step = 1e-6
        shifted = []
        for sign in (1, -1):
            parts = [x.clone() for x in layers]
            parts[layer].view(-1)[index] += sign * step
            shifted.append(value(parts))
        numeric = (shifted[0] - shifted[1]) / (2 * step)
        assert float(gradient[layer].view(-1)[index]) == pytest.approx(float(numeric), rel=1e-4, abs=1e-9)


@needs_compiler
def test_noise_is_standardised_and_determined() -> None:
    kernel = fused_rollout(nominal_of(VEHICLE), HIDDEN)
    outs = []
    for _ in range(2):
        state = np.random.default_rng(7).integers(1, 2**32, 32, dtype=np.uint32)
        out = torch.empty(100_003)
        kernel.fill_noise(state, out)
        outs.append(out)
    assert torch.equal(*outs)
    assert abs(float(outs[0].mean())) < 0.02 and float(outs[0].std()) == pytest.approx(1.0, abs=0.02)
    assert abs(float((outs[0][1:] * outs[0][:-1]).mean())) < 0.02


@pytest.mark.parametrize(("kernel", "horizon"), [("torch", 12), pytest.param("native", 40, marks=needs_compiler)])
def test_restored_state_goes_on_identically(kernel: str, horizon: int) -> None:
    task, layers = flown(kernel, num_envs=32, horizon=horizon), network(0)
    for _ in range(3):
        task.loss_and_gradient(layers)
    saved = task.state_dict()
    first = [task.loss_and_gradient(layers)[0] for _ in range(3)]
    other = flown(kernel, num_envs=32, horizon=horizon, seed=9)
    other.load_state_dict(saved)
    assert [other.loss_and_gradient(layers)[0] for _ in range(3)] == first


def test_vehicles_are_as_declared() -> None:
    task = AnalyticFlight(VEHICLE, 4096, AnalyticConfig(kernel="torch", delay_max=0.02, randomised=0.5, moving=0.25))
    row = dict(zip(ob.VEHICLE, task._vehicles, strict=True))
    delays = torch.stack([row[f"delay{j}"] for j in range(4)])
    assert torch.allclose(delays.sum(0), torch.ones(4096), atol=1e-6) and float(delays.min()) >= 0
    mean_delay = float((delays * torch.arange(4.0)[:, None]).sum(0).mean()) * ob.CONTROL_DT
    assert mean_delay == pytest.approx(0.01, abs=5e-4)
    nominal = (row["mass"] == row["mass"].mode().values).float().mean()
    assert float(nominal) == pytest.approx(0.5, abs=0.03)
    assert float((row["target_sigma"] > 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    thrust = 4 * (row["thrust0"] + row["thrust1"] * row["hover"] + row["thrust2"] * row["hover"] ** 2)
    torch.testing.assert_close(thrust, row["mass"] * 9.81, rtol=1e-5, atol=1e-6)
    angle = 2 * torch.arccos(task._carry[3].clamp(-1, 1))
    assert float(angle.max()) <= torch.pi / 2 + 1e-5


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 32"):
        AnalyticFlight(VEHICLE, 100, AnalyticConfig())
    with pytest.raises(ConfigError, match=r"task\.delay_max = 0\.5; allowed: 0 … 0\.03"):
        AnalyticConfig(delay_max=0.5)
    with pytest.raises(ConfigError, match="auto, native, torch"):
        dataclasses.replace(AnalyticConfig(), kernel="cuda")
