"""Robots and vehicle parameters: sources' derived numbers, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.registry import load, names
from robot_rl.sim.quadrotor.equations import PARAMS, ROTOR_SPEED_MAX
from robot_rl.sim.robots.crazyflie import L2F, PYBULLET, REIDENTIFIED, ROBOT


@pytest.mark.parametrize("name", names("robot"))
def test_every_robot_is_complete(name: str) -> None:
    robot = load("robot", name)
    assert robot.name == name
    assert robot.parameters() is robot.parameters(robot.default_set)
    for command in robot.commands:
        assert all(a < b for a, b in zip(command.lower, command.upper, strict=True))
    with pytest.raises(UnknownName, match=robot.default_set):
        robot.parameters("no-such-set")


def test_published_derived_numbers() -> None:
    """Hover at 14 475 rpm, thrust to weight 2.25 (Learning to Fly in Seconds); 1.47 for the re-identified vehicle."""
    assert L2F.hover_rotor * 21702 == pytest.approx(14475, abs=2)
    assert L2F.hover_rotor * ROTOR_SPEED_MAX == pytest.approx(1515.8, abs=0.2)
    assert L2F.thrust_to_weight == pytest.approx(2.25, abs=0.01)
    assert L2F.max_thrust == pytest.approx(0.149, abs=5e-4)
    assert REIDENTIFIED.thrust_to_weight == pytest.approx(1.47, abs=0.01)
    assert PYBULLET.torque_ratio == pytest.approx(0.0251, abs=1e-4)


def test_column_has_every_parameter_in_its_row() -> None:
    column = dict(zip(PARAMS, PYBULLET.column(), strict=True))
    assert (column["mass"], column["jz"], column["thrust2"]) == (0.027, 2.17e-5, PYBULLET.thrust[2])
    assert (column["gain3"], column["supply"], column["fx"], column["windz"]) == (1.0, 1.0, 0.0, 0.0)
    assert column["drag_xy"] == 9.1785e-7 and column["ground_effect"] == PYBULLET.ground_effect


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mass": 0.0}, "mass"),
        ({"mass": float("nan")}, "mass"),
        ({"mass": 0.08}, "thrust to weight"),
        ({"inertia": (1e-6, 1e-6, 3e-6)}, "triangle"),
        ({"tau_fall": -0.1}, "tau_fall"),
        ({"drag_z": -1.0}, "drag_z"),
    ],
)
def test_impossible_vehicles_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(L2F, **change)


def test_inconsistent_robots_are_refused() -> None:
    with pytest.raises(UnknownName, match="l2f"):
        dataclasses.replace(ROBOT, default_set="x")
    with pytest.raises(ConfigError, match="once"):
        dataclasses.replace(ROBOT, signals=ROBOT.signals * 2)
    short = dataclasses.replace(ROBOT.commands[0], upper=(1.0,))
    with pytest.raises(ConfigError, match="elements"):
        dataclasses.replace(ROBOT, commands=(short,))
