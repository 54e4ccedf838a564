"""The mixer: exact inside the range, and giving up yaw before roll and pitch outside it."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.policies.base.flight.mixer import Mixer, desaturate, rotor_speed_after
from robot_rl.policies.base.flight.vehicle import CRAZYFLIE, Vehicle

MIXER = Mixer(CRAZYFLIE)
HOVER = CRAZYFLIE.mass * CRAZYFLIE.gravity


def wrench_of(command: np.ndarray) -> np.ndarray:
    """(N, 4) collective and torques that rotors at these normalised speeds give."""
    return CRAZYFLIE.thrust(command) @ MIXER.to_wrench.T


def test_wrench_within_reach_is_produced_exactly() -> None:
    torque = np.array([[2e-4, -1e-4, 3e-5]])
    command = MIXER.command(np.array([HOVER]), torque, np.full((1, 4), 0.6), lead=1.0)
    np.testing.assert_allclose(wrench_of(command)[0], [HOVER, *torque[0]], rtol=1e-9)


def test_yaw_gives_way_to_roll_and_pitch() -> None:
    wanted = np.array([[HOVER, 3e-3, -2e-3, 2e-3]])  # yaw alone exceeds what is left
    got = wrench_of(MIXER.command(wanted[:, 0], wanted[:, 1:], np.full((1, 4), 0.6), lead=1.0))[0]
    np.testing.assert_allclose(got[1:3], wanted[0, 1:3], rtol=1e-9)
    assert 0.0 <= got[3] < 0.9 * wanted[0, 3]


def test_collective_moves_to_keep_roll() -> None:
    roll = 0.9 * 2 * CRAZYFLIE.max_thrust * 0.028  # nearly all there is
    got = wrench_of(MIXER.command(np.array([0.0]), np.array([[roll, 0.0, 0.0]]), np.zeros((1, 4)), lead=1.0))[0]
    assert got[1] == pytest.approx(roll, rel=1e-9)
    assert got[0] > 0.0


def test_too_much_roll_and_pitch_are_scaled_together() -> None:
    rng = np.random.default_rng(0)
    torque = np.concatenate([rng.normal(0, 0.1, (200, 2)), np.zeros((200, 1))], axis=1)
    got = wrench_of(MIXER.command(np.full(200, HOVER), torque, np.full((200, 4), 0.6), lead=1.0))
    share = got[:, 1:3] / torque[:, :2]
    np.testing.assert_allclose(share[:, 0], share[:, 1], rtol=1e-6)
    assert np.all((share > 0) & (share <= 1 + 1e-9)) and np.any(share < 0.5)


def test_overshoot_gives_up_yaw_before_roll() -> None:
    slow = np.full((1, 4), 0.5)
    wanted = np.array([[HOVER, 1.5e-3, 0.0, 6e-4]])
    full = MIXER.command(wanted[:, 0], wanted[:, 1:], slow, lead=1.0)
    overshot = MIXER.command(wanted[:, 0], wanted[:, 1:], slow, lead=6.0)
    free = slow + 6.0 * (full - slow)
    assert not np.all((free >= 0) & (free <= 1))  # the lead does not fit
    gained, asked = (MIXER.to_wrench @ (x - full)[0] for x in (overshot, free))
    assert gained[1] / asked[1] > gained[3] / asked[3]
    assert gained[1] > 0 and gained[3] > -1e-12


def test_commands_stay_in_range_whatever_is_asked() -> None:
    rng = np.random.default_rng(1)
    thrust, torque = rng.normal(0, 2, 500), rng.normal(0, 0.05, (500, 3))
    command = MIXER.command(thrust, torque, rng.uniform(0, 1, (500, 4)), lead=8.0)
    assert np.all((command >= 0.0) & (command <= 1.0))


def test_rotor_values_inside_the_range_pass_unchanged() -> None:
    command = np.random.default_rng(2).uniform(0.0, 1.0, (100, 4))
    np.testing.assert_allclose(MIXER.limited(command), command, atol=1e-12)


def test_desaturation_keeps_roll_of_the_demand() -> None:
    demand = np.array([[1.4, 0.9, 0.5, 1.0]])
    got = desaturate(demand @ MIXER.to_wrench.T, MIXER.from_wrench, 0.0, 1.0)
    roll_pitch = MIXER.to_wrench[1:3]
    np.testing.assert_allclose(roll_pitch @ got[0], roll_pitch @ demand[0], atol=1e-12)


def test_lead_reaches_the_wanted_speed_sooner() -> None:
    start, wanted = np.full((1, 4), 0.5), 4 * float(CRAZYFLIE.thrust(np.array(0.6)))
    reached = {}
    for lead in (1.0, 5.0):
        command = MIXER.command(np.array([wanted]), np.zeros((1, 3)), start, lead)
        reached[lead] = rotor_speed_after(start, command, np.array([[0.02]]), CRAZYFLIE)[0, 0]
    assert 0.5 < reached[1.0] < reached[5.0] <= 0.6


def test_motor_model_uses_rise_and_fall_times() -> None:
    vehicle = Vehicle.from_mapping({"tau_rise": 0.05, "tau_fall": 0.25})
    up = rotor_speed_after(np.array([[0.0] * 4]), np.array([[1.0] * 4]), np.array([[0.05]]), vehicle)
    down = rotor_speed_after(np.array([[1.0] * 4]), np.array([[0.0] * 4]), np.array([[0.25]]), vehicle)
    np.testing.assert_allclose(up, 1 - np.exp(-1))
    np.testing.assert_allclose(down, np.exp(-1))


def test_the_nominal_vehicle_is_the_simulators() -> None:
    from robot_rl.sim.quadrotor.equations import ROTOR_SPEED_MAX
    from robot_rl.sim.robots.crazyflie import ROBOT

    sim = ROBOT.parameters("l2f")
    assert (CRAZYFLIE.mass, CRAZYFLIE.inertia, CRAZYFLIE.torque_ratio) == (sim.mass, sim.inertia, sim.torque_ratio)
    assert (CRAZYFLIE.tau_rise, CRAZYFLIE.tau_fall) == (sim.tau_rise, sim.tau_fall)
    assert CRAZYFLIE.thrust_curve == pytest.approx(sim.thrust)
    assert CRAZYFLIE.max_rotor_speed == pytest.approx(ROTOR_SPEED_MAX)
    assert CRAZYFLIE.hover_speed == pytest.approx(sim.hover_rotor)
    np.testing.assert_allclose(np.abs(CRAZYFLIE.rotor_xy), sim.arm)


def test_speed_and_thrust_are_inverse_on_a_curve_with_all_terms() -> None:
    vehicle = Vehicle.from_mapping({"thrust_curve": (0.0035, 0.0144, 0.0922)})
    speed = np.linspace(0, 1, 21)
    np.testing.assert_allclose(vehicle.speed_for(vehicle.thrust(speed)), speed, atol=1e-12)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [({"mass": 1.0}, "cannot hover"), ({"mass": float("nan")}, "finite"), ({"rotor_xy": ((1, 0),)}, "4 rotors")],
)
def test_impossible_vehicles_are_refused(numbers: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Vehicle.from_mapping(numbers)


def test_unknown_vehicle_number_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="torque_ratio"):
        Vehicle.from_mapping({"weight": 1.0})
