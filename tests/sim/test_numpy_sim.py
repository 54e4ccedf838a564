"""The robot-side simulator: physics, ground, battery, sensors, and that it needs no torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.sim.quadrotor.battery import BatteryModel
from robot_rl.sim.quadrotor.equations import ROTOR_SPEED_MAX
from robot_rl.sim.quadrotor.numpy_sim import NumpyQuadrotor, NumpySimOptions
from robot_rl.sim.quadrotor.options import Noise
from robot_rl.sim.robots.crazyflie import L2F, ROBOT

QUIET = NumpySimOptions(noise=Noise(scale=0.0))
HOVER = L2F.hover_rotor * ROTOR_SPEED_MAX


def test_needs_no_torch() -> None:
    code = (
        "import sys; from robot_rl.sim.quadrotor.numpy_sim import NumpyQuadrotor; s = NumpyQuadrotor();"
        "s.step([0] * 4); s.signals(); sys.exit('torch' in sys.modules or 'mujoco' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("vehicle", sorted(ROBOT.parameter_sets))
def test_hover_speed_hovers(vehicle: str) -> None:
    params = ROBOT.parameters(vehicle)
    sim = NumpyQuadrotor(vehicle, options=QUIET)
    speed = params.hover_rotor * ROTOR_SPEED_MAX
    sim.reset((0.0, 0.0, 5.0), rotor_speed=speed)
    sim.advance([speed] * 4, 1.0)
    height = sim.true_signals()["base_pos_w"][0, 2]
    assert height == pytest.approx(5.0, abs=2e-3)


def test_rests_on_the_ground_without_sinking_or_turning() -> None:
    sim = NumpyQuadrotor(options=QUIET)
    sim.advance([0.5 * HOVER, 0.6 * HOVER, 0.4 * HOVER, 0.5 * HOVER], 1.0)
    true = sim.true_signals()
    assert sim.on_ground.all()
    assert true["base_pos_w"][0, 2] == 0.0
    assert np.abs(true["base_pos_w"]).max() < 1e-3
    assert np.all(true["base_lin_vel_w"] == 0.0)
    assert true["base_quat_wxyz"][0, 0] > 0.9999
    assert true["base_lin_acc_b"][0, 2] == pytest.approx(9.81, abs=1e-3)


def test_takes_off_and_lands_level() -> None:
    sim = NumpyQuadrotor(options=QUIET)
    sim.advance([1.1 * HOVER] * 4, 1.5)
    assert sim.true_signals()["base_pos_w"][0, 2] > 0.3
    assert not sim.on_ground.any()
    sim.reset((0.0, 0.0, 0.2), (np.cos(0.05), np.sin(0.05), 0.0, 0.0), (0.2, 0.0, -0.5), rotor_speed=HOVER)
    sim.advance([0.9 * HOVER] * 4, 0.5)
    sim.advance([0.0] * 4, 0.5)
    true = sim.true_signals()
    assert sim.on_ground.all()
    assert true["base_pos_w"][0, 2] == 0.0
    assert abs(true["base_quat_wxyz"][0, 0]) > 0.9999
    assert np.allclose(true["base_lin_vel_w"], 0.0)


def test_falls_on_its_back_and_stays_there() -> None:
    sim = NumpyQuadrotor(options=QUIET)
    sim.reset((0.0, 0.0, 0.1), (np.cos(1.4), np.sin(1.4), 0.0, 0.0))
    sim.advance([HOVER] * 4, 1.0)
    true = sim.true_signals()
    assert true["base_pos_w"][0, 2] == 0.0
    assert abs(true["base_quat_wxyz"][0, 0]) < 0.01


def test_one_vehicle_on_floats_equals_many_on_arrays() -> None:
    rng = np.random.default_rng(1)
    start = {"pos_w": (0, 0, 1.0), "quat_wxyz": (0.9, 0.1, -0.2, 0.3), "ang_vel_b": (1, -2, 0.5), "rotor_speed": 900.0}
    one, many = NumpyQuadrotor("pybullet", options=QUIET), NumpyQuadrotor("pybullet", num_envs=3, options=QUIET)
    one.reset(**start)
    many.reset(**start)
    for command in rng.uniform(0, ROTOR_SPEED_MAX, (200, 4)):
        one.step(command)
        many.step(command)
    assert np.allclose(many.state, one.state, rtol=1e-12, atol=1e-12)


def test_battery_sags_under_load_and_takes_thrust() -> None:
    sim = NumpyQuadrotor(options=NumpySimOptions(noise=Noise(scale=0.0), battery=BatteryModel(capacity=0.002)))
    sim.reset((0, 0, 5.0))
    rest = sim.battery_voltage[0]
    sim.reset((0, 0, 5.0), rotor_speed=HOVER)
    loaded = sim.battery_voltage[0]
    assert loaded < rest - 0.1
    sim.advance([HOVER] * 4, 2.0)
    assert sim.charge[0] < 0.6
    assert sim.battery_voltage[0] < loaded
    assert sim.signals()["battery_voltage"][0, 0] == pytest.approx(sim.battery_voltage[0], abs=1e-6)
    assert sim.true_signals()["base_lin_vel_w"][0, 2] < -0.1


def test_full_battery_lasts_about_seven_minutes_of_hover() -> None:
    battery = BatteryModel()
    hours = battery.capacity / battery.current([L2F.hover_rotor] * 4)
    assert 6.0 < 60 * hours < 8.0


def test_noise_has_the_stated_size_and_the_seed_decides_it() -> None:
    def draws(seed: int) -> dict[str, np.ndarray]:
        sim = NumpyQuadrotor(num_envs=4000, seed=seed, options=NumpySimOptions(ground=False))
        sim.reset((1.0, 2.0, 3.0))
        return sim.signals()

    a, b, c = draws(0), draws(0), draws(1)
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(a["base_pos_w"], c["base_pos_w"])
    assert np.std(a["base_pos_w"] - [1.0, 2.0, 3.0]) == pytest.approx(1e-3, rel=0.05)
    assert np.std(a["base_ang_vel_b"]) == pytest.approx(2e-3, rel=0.05)
    assert np.std(2 * a["base_quat_wxyz"][:, 1:]) == pytest.approx(1e-3, rel=0.05)


def test_command_delay_and_sensor_latency_are_whole_steps() -> None:
    options = NumpySimOptions(noise=Noise(scale=0.0), command_delay=0.01, ground=False)
    late, prompt = (
        NumpyQuadrotor(options=options),
        NumpyQuadrotor(options=NumpySimOptions(Noise(scale=0.0), ground=False)),
    )
    late.advance([0.0] * 4, 0.0)
    late.reset()
    late.advance([HOVER] * 4, 0.03)
    prompt.advance([0.0] * 4, 0.01)
    prompt.advance([HOVER] * 4, 0.02)
    assert np.array_equal(late.state, prompt.state)
    seeing = NumpyQuadrotor(options=NumpySimOptions(noise=Noise(scale=0.0), sensor_latency=0.01, ground=False))
    seeing.advance([0.0] * 4, 0.03)
    prompt.reset()
    prompt.advance([0.0] * 4, 0.02)
    assert np.array_equal(seeing.signals()["base_lin_vel_w"], prompt.true_signals()["base_lin_vel_w"])


def test_wrong_values_are_refused() -> None:
    sim = NumpyQuadrotor()
    with pytest.raises(ConfigError, match="4 finite"):
        sim.step([0.0, np.nan, 0.0, 0.0])
    with pytest.raises(ConfigError, match="4 finite"):
        sim.step([0.0] * 3)
    with pytest.raises(UnknownName, match="l2f, pybullet, reidentified"):
        NumpyQuadrotor("l3f")
    with pytest.raises(ConfigError, match="bias"):
        NumpyQuadrotor(options=NumpySimOptions(bias={"pos": (0, 0, 0)}))
