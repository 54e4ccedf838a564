"""The flight observer's integrated offset: what it removes, at which rate, and that it does not wind up."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from robot_rl.sim.quadrotor import observer_equations as oe
from robot_rl.sim.quadrotor.flight_observer import FlightObserver
from robot_rl.sim.quadrotor.objective import APPROACH_RATE
from robot_rl.sim.robots.crazyflie import ROBOT

OBSERVER = FlightObserver(ROBOT.parameters("l2f"))


def signals(position: Tensor, velocity: Tensor, dt: float) -> dict[str, Tensor]:
    """Upright and not turning, the target at rest in the origin; arguments (1, 3) in m and m/s."""
    still = {s.name: torch.zeros(1, *s.shape) for s in OBSERVER.signals}
    upright = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    moving = {"base_pos_w": position, "base_lin_vel_w": velocity, "time_step": torch.full((1, 1), dt)}
    return {**still, "base_quat_wxyz": upright, **moving}


def offset_after(seconds: float, dt: float, path: list[float], speed: float = 0.0, decay: float = 0.0) -> Tensor:
    """(3,) m: the offset after `seconds` at `path` · e^(−decay t), moving at `speed` besides."""
    memory = {m.name: torch.zeros(1, *m.shape) for m in OBSERVER.memory}
    start = torch.tensor([path])
    for k in range(round(seconds / dt)):
        position = start * math.exp(-decay * k * dt)
        _, memory = OBSERVER(signals(position, speed - decay * position, dt), memory)
    return memory["offset"][0]


def test_a_lasting_error_is_integrated_along_each_axis() -> None:
    expected = oe.INTEGRAL_RATE * 2.0 * torch.tensor([0.01, -0.02, 0.0])
    torch.testing.assert_close(offset_after(2.0, 0.01, [0.01, -0.02, 0.0]), expected)


def test_the_network_sees_position_and_offset_together() -> None:
    memory = {m.name: torch.zeros(1, *m.shape) for m in OBSERVER.memory} | {"offset": torch.tensor([[0.0, 0.05, 0.0]])}
    shifted, _ = OBSERVER(signals(torch.tensor([[0.1, 0.0, 0.0]]), torch.zeros(1, 3), 0.01), memory)
    expected, _ = OBSERVER(
        signals(torch.tensor([[0.1, 0.05, 0.0]]), torch.zeros(1, 3), 0.01), memory | {"offset": torch.zeros(1, 3)}
    )
    torch.testing.assert_close(shifted, expected)


@pytest.mark.parametrize("dt", [0.002, 0.02])
def test_its_rate_does_not_depend_on_how_often_it_is_called(dt: float) -> None:
    torch.testing.assert_close(offset_after(1.0, dt, [0.02, 0.0, 0.01]), offset_after(1.0, 0.01, [0.02, 0.0, 0.01]))


@pytest.mark.parametrize(("rate", "most"), [(1.0 / oe.INTEGRAL_LEAD, 1e-6), (APPROACH_RATE, 0.025)])
def test_the_way_in_hardly_winds_it_up(rate: float, most: float) -> None:
    """Coming in as e^(−t / INTEGRAL_LEAD) velocity cancels position; more slowly, as is trained for, it nearly does."""
    for away in ([0.4, -0.3, 0.2], [1.0, -1.0, 1.0]):
        assert offset_after(3.0, 0.01, away, decay=rate).abs().max() < most


def test_who_is_held_far_from_the_target_winds_nothing_up() -> None:
    assert offset_after(10.0, 0.01, [0.5, -1.0, 0.21]).abs().max() == 0.0
    memory = {m.name: torch.zeros(1, *m.shape) for m in OBSERVER.memory} | {"offset": torch.full((1, 3), 0.1)}
    for _ in range(200):
        _, memory = OBSERVER(signals(torch.tensor([[0.5, -0.5, 0.05]]), torch.zeros(1, 3), 0.01), memory)
    assert memory["offset"][0, :2].abs().max() < 0.1 * math.exp(-1.9 * oe.INTEGRAL_LEAK), "what was there leaks away"
    assert memory["offset"][0, 2] > 0.1, "near the target it does not"


def test_what_lasts_for_ever_has_a_limit() -> None:
    torch.testing.assert_close(
        offset_after(60.0, 0.02, [0.05, -0.05, 0.05]), oe.MAX_OFFSET * torch.tensor([1.0, -1.0, 1.0])
    )
