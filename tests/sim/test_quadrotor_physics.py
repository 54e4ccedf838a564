"""The equations of motion: conservation laws, equilibrium, gradients, delays, and one result in torch and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robot_rl.sim.delay import DelayLine
from robot_rl.sim.quadrotor import equations as eq
from robot_rl.sim.quadrotor.backend import make_stepper
from robot_rl.sim.quadrotor.params import GAIN, THRUST, TORQUE, WIND
from robot_rl.sim.robots.crazyflie import ROBOT

CPU = torch.device("cpu")


def vehicle(name: str = "l2f", n: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(ROBOT.parameters(name).column(), dtype=dtype)[:, None].repeat(1, n)


def random_state(n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    state = torch.randn(17, n, generator=g, dtype=dtype)
    state[2] += 5.0
    state[3:7] /= state[3:7].norm(dim=0)
    state[13:17] = torch.rand(4, n, generator=g, dtype=dtype)
    return state


def test_free_fall_conserves_energy() -> None:
    params = vehicle(n=8)
    params[THRUST] = 0.0
    state = random_state(8)
    mass, J = params[0], params[1:4]

    def energy(s: torch.Tensor) -> torch.Tensor:
        return mass * eq.GRAVITY * s[2] + 0.5 * mass * (s[7:10] ** 2).sum(0) + 0.5 * (J * s[10:13] ** 2).sum(0)

    before = energy(state)
    for _ in range(100):
        state = eq.step(torch, state, params, torch.zeros(4, 8), 0.01)
    assert torch.allclose(energy(state), before, rtol=1e-8)


def test_without_torque_angular_momentum_keeps_its_direction_and_size() -> None:
    params = vehicle("reidentified", n=8)
    params[THRUST] = 0.0
    state = random_state(8, seed=1)
    state[10:13] *= 5.0

    def momentum(s: torch.Tensor) -> torch.Tensor:
        L = params[1:4] * s[10:13]
        return torch.stack([sum(row[i] * L[i] for i in range(3)) for row in eq.rotation(*s[3:7])])

    before = momentum(state)
    for _ in range(250):
        state = eq.step(torch, state, params, torch.zeros(4, 8), 0.002)
    assert torch.allclose(momentum(state), before, rtol=1e-6, atol=1e-11)


def test_quaternion_stays_of_unit_norm_and_rotors_in_range() -> None:
    state, params = random_state(64, dtype=torch.float32), vehicle(n=64, dtype=torch.float32)
    g = torch.Generator().manual_seed(2)
    for _ in range(200):
        state = eq.step(torch, state, params, 3 * torch.rand(4, 64, generator=g) - 1, 0.01)
    assert torch.allclose(state[3:7].norm(dim=0), torch.ones(64), atol=1e-6)
    assert state[13:17].min() >= 0 and state[13:17].max() <= 1


@pytest.mark.parametrize("name", sorted(ROBOT.parameter_sets))
def test_hover_is_an_equilibrium(name: str) -> None:
    params, hover = vehicle(name), ROBOT.parameters(name).hover_rotor
    params[eq.PARAMS.index("ground_z")] = -1e3
    state = torch.zeros(17, 1, dtype=torch.float64)
    state[3], state[13:17] = 1.0, hover
    after = state
    for _ in range(100):
        after = eq.step(torch, after, params, torch.full((4, 1), hover, dtype=torch.float64), 0.01)
    assert torch.allclose(after, state, atol=1e-6)


def test_stronger_rotors_on_one_side_turn_the_right_way() -> None:
    """Body x forward, y left: left rotors roll to the right (+x), rear rotors pitch down (+y); yaw as ROTOR_SPIN."""
    for rotors, axis, sign in (((2, 3), 0, 1), ((1, 2), 1, 1), ((1, 3), 2, 1), ((0, 2), 2, -1)):
        params, state = vehicle(), torch.zeros(17, 1, dtype=torch.float64)
        state[3], state[13:17] = 1.0, 0.5
        for i in rotors:
            params[GAIN.start + i] = 1.1
        omega = eq.step(torch, state, params, torch.full((4, 1), 0.5), 0.01)[10:13, 0]
        assert sign * omega[axis] > 0
        assert omega.abs().argmax() == axis


def test_drag_slows_and_wind_carries() -> None:
    params, state = vehicle("pybullet"), torch.zeros(17, 1, dtype=torch.float64)
    state[3], state[13:17], state[7], state[2] = 1.0, 0.66, 2.0, 5.0
    moving = eq.step(torch, state, params, torch.full((4, 1), 0.66), 0.01)
    rate = 9.1785e-7 * 4 * 0.66 * eq.ROTOR_SPEED_MAX / 0.027
    assert float(moving[7, 0]) == pytest.approx(2.0 * np.exp(-rate * 0.01), rel=1e-6)
    params[WIND.start] = 2.0
    assert float(eq.step(torch, state, params, torch.full((4, 1), 0.66), 0.01)[7, 0]) == pytest.approx(2.0, rel=1e-9)


def test_ground_effect_lifts_near_the_ground() -> None:
    params, state = vehicle("pybullet"), torch.zeros(17, 1, dtype=torch.float64)
    state[3], state[13:17] = 1.0, 0.66
    climb = []
    for height in (0.05, 0.2, 5.0):
        state[2] = height
        climb.append(float(eq.step(torch, state, params, torch.full((4, 1), 0.66), 0.01)[9, 0]))
    assert climb[0] > climb[1] > climb[2]


def test_gradient_agrees_with_finite_differences() -> None:
    """Three steps with delay, drag, ground effect, wind and torque; derivatives by state, command and parameters."""
    state, params = random_state(1, seed=3), vehicle("pybullet")
    state[10:13] *= 0.3
    params[WIND], params[TORQUE] = 0.5, 1e-6
    command = torch.tensor([[0.6], [0.7], [0.65], [0.62]], dtype=torch.float64)
    before, switch = command.flip(0), torch.tensor([0.004], dtype=torch.float64)

    def rollout(s: torch.Tensor, u: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            s = eq.step_delayed(torch, s, p, before, u, switch, 0.01)
        return s

    inputs = [t.clone().requires_grad_(True) for t in (state, command, params)]
    assert torch.autograd.gradcheck(rollout, inputs, eps=1e-9, atol=1e-3, rtol=2e-3, nondet_tol=0.0)


def test_torch_and_numpy_give_one_trajectory() -> None:
    state, params = random_state(16, seed=4), vehicle("reidentified", n=16)
    other, numbers = state.numpy().copy(), params.numpy().copy()
    g = torch.Generator().manual_seed(5)
    for _ in range(100):
        command = torch.rand(4, 16, generator=g, dtype=torch.float64)
        state = eq.step(torch, state, params, command, 0.01)
        other = eq.step(np, other, numbers, command.numpy(), 0.01)
    assert np.allclose(state.numpy(), other, rtol=1e-9, atol=1e-9)


INDUCTOR = pytest.param("inductor", marks=[pytest.mark.slow, pytest.mark.timeout(600)])


@pytest.mark.parametrize("kind", ["auto", "native", INDUCTOR])
def test_backends_agree_with_eager(kind: str) -> None:
    state, params = random_state(37, dtype=torch.float32), vehicle("pybullet", n=37, dtype=torch.float32)
    g = torch.Generator().manual_seed(6)
    before, after = torch.rand(2, 4, 37, generator=g)
    switch = 0.01 * torch.rand(37, generator=g)
    eager, other = make_stepper("eager", CPU), make_stepper(kind, CPU)
    for arguments in ((None, after, None), (before, after, switch)):
        a, b = (s(state, params, *arguments, 0.01) for s in (eager, other))
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)


def test_without_a_compiler_eager_serves_with_a_message(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CXX", raising=False)
    assert make_stepper("native", CPU).kind == "eager"
    assert "apt-get install g++" in caplog.text
    assert make_stepper("auto", CPU).kind == "eager"


def test_delay_is_exact_between_control_steps() -> None:
    """Commands through the delay line agree with a 20 times finer simulation that switches at the right time."""
    n, dt, fine = 6, 0.01, 0.0005
    delays = torch.tensor([0.0, 0.0035, 0.01, 0.0145, 0.02, 0.0295], dtype=torch.float32)
    g = torch.Generator().manual_seed(7)
    commands = torch.rand(30, 4, n, generator=g)
    line = DelayLine(4, n, 0.03, dt, CPU)
    line.fill(torch.arange(n), torch.full((4, n), 0.5))
    coarse = torch.zeros(17, n)
    coarse[3], coarse[13:17] = 1.0, 0.5
    exact, params = coarse.double(), vehicle(n=n)
    for k, command in enumerate(commands):
        line.push(command)
        older, newer, switch = line.at(delays)
        coarse = eq.step_delayed(torch, coarse, params.float(), older, newer, switch, dt)
        for j in range(20):
            age = torch.floor((k * dt + j * fine - delays.double()) / dt + 1e-6).long()
            active = torch.stack([commands[a, :, i] if a >= 0 else torch.full((4,), 0.5) for i, a in enumerate(age)], 1)
            exact = eq.step(torch, exact, params, active.double(), fine)
    assert torch.allclose(coarse.double(), exact, rtol=1e-4, atol=2e-4)
    wrong = coarse[:, [1, 0, 2, 3, 4, 5]].double()
    assert not torch.allclose(wrong, exact, rtol=1e-4, atol=2e-4)
