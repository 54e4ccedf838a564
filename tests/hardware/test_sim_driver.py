"""The simulated robot as a driver: the protocol, real time, faults, and what it does without commands."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from robot_rl import registry
from robot_rl.errors import ConfigError, DriverError, UnknownName
from robot_rl.hardware.clock import MonotonicClock, VirtualClock
from robot_rl.hardware.drivers.sim import FAULTS, SimDriver
from robot_rl.protocols import Driver

HOVER = {"rotor_speed_target": np.full(4, 1700.0, np.float32)}


def _connected(clock: VirtualClock, **options) -> SimDriver:
    driver = SimDriver(options, clock)
    driver.connect()
    return driver


def _climb(driver: SimDriver, clock: VirtualClock, seconds: float, command=HOVER):
    for _ in range(round(seconds / 0.01)):
        driver.write(command)
        clock.advance(0.01)
    return driver.read()


def test_it_is_the_registered_default_and_satisfies_the_protocol():
    assert registry.load("driver", "sim") is SimDriver
    assert isinstance(SimDriver(), Driver)


def test_reading_gives_what_was_announced():
    driver = SimDriver()
    announced = {s.name: s.shape for s in driver.signals}
    driver.connect()
    reading = driver.read()
    assert {name: value.shape for name, value in reading.signals.items()} == announced
    assert set(reading.stamps) == set(announced)
    driver.stop()


def test_time_passes_with_the_clock_and_thrust_lifts():
    clock = VirtualClock()
    driver = _connected(clock, noise=False)
    first = driver.read()
    assert first.signals["base_pos_w"][2] == 0.0
    clock.advance(0.5)
    assert driver.read().stamps["base_pos_w"] == pytest.approx(0.5, abs=0.003)
    assert _climb(driver, clock, 1.0).signals["base_pos_w"][2] > 0.1


def test_write_returns_what_was_sent_within_the_limits_and_refuses_nonsense():
    driver = _connected(VirtualClock())
    sent = driver.write({"rotor_speed_target": np.array([-5.0, 0.0, 1000.0, 9e9], np.float32)})
    top = driver.commands[0].upper[3]
    np.testing.assert_allclose(sent["rotor_speed_target"], [0.0, 0.0, 1000.0, top], rtol=1e-6)
    for bad in ({}, {"rotor_speed_target": np.zeros(3)}, {"rotor_speed_target": np.array([1, 2, 3, np.nan])}):
        with pytest.raises(DriverError, match="4 finite rad/s"):
            driver.write(bad)


def test_without_commands_the_motors_stop_after_the_time_out():
    clock = VirtualClock()
    driver = _connected(clock, noise=False, command_timeout=0.2)
    up = _climb(driver, clock, 1.0)
    assert up.signals["base_pos_w"][2] > 0.1
    clock.advance(1.9)
    fallen = driver.read()
    assert fallen.signals["base_pos_w"][2] == pytest.approx(0.0, abs=1e-3)


def test_stop_works_in_any_state_and_then_nothing_else_does():
    driver = SimDriver()
    driver.stop()
    driver.connect()
    driver.stop()
    driver.stop()
    with pytest.raises(DriverError, match="connect"):
        driver.read()
    with pytest.raises(DriverError, match="connect"):
        driver.write(HOVER)
    driver.connect()
    assert driver.read().signals["base_pos_w"].shape == (3,)
    driver.stop()


def test_each_fault_shows():
    assert set(FAULTS) == {"none", "stale", "nan", "battery", "motor", "read_error", "write_error"}
    clock = VirtualClock()
    driver = _connected(clock, noise=False)
    before = driver.read()
    driver.inject("stale")
    clock.advance(0.5)
    assert driver.read().stamps == before.stamps
    driver.inject("nan")
    assert np.isnan(driver.read().signals["base_ang_vel_b"]).all()
    driver.inject("battery")
    assert driver.read().signals["battery_voltage"][0] < 3.0
    driver.inject("read_error")
    with pytest.raises(DriverError, match="read_error"):
        driver.read()
    driver.inject("write_error")
    with pytest.raises(DriverError, match="write_error"):
        driver.write(HOVER)
    driver.inject("motor")
    rate = _climb(driver, clock, 0.3).signals["base_ang_vel_b"]
    assert np.linalg.norm(rate) > 1.0
    with pytest.raises(ConfigError, match="one of"):
        driver.inject("gremlins")


def test_a_fault_after_a_while_waits_for_the_flight():
    clock = VirtualClock()
    driver = _connected(clock, noise=False, fault="battery", fault_after=0.5)
    clock.advance(1.9)
    assert driver.read().signals["battery_voltage"][0] > 3.0
    assert _climb(driver, clock, 1.5).signals["battery_voltage"][0] < 3.0


def test_noise_is_seeded_and_can_be_switched_off():
    def first(**options) -> np.ndarray:
        return _connected(VirtualClock(), **options).read().signals["base_pos_w"]

    np.testing.assert_array_equal(first(seed=3), first(seed=3))
    assert not np.array_equal(first(seed=3), first(seed=4))
    np.testing.assert_array_equal(first(noise=False), np.zeros(3, np.float32))


def test_the_battery_empties_when_asked_for():
    clock = VirtualClock()
    driver = _connected(clock, battery=True, noise=False)
    full = driver.read().signals["battery_voltage"][0]
    assert _climb(driver, clock, 2.0).signals["battery_voltage"][0] < full


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"vehicel": "l2f"}, UnknownName, "vehicle"),
        ({"physics_dt": 1.0}, ConfigError, "physics_dt"),
        ({"noise": "yes"}, ConfigError, "noise"),
        ({"fault": "gremlins"}, ConfigError, "one of"),
        ({"start_pos": (0.0, 0.0)}, ConfigError, "3 numbers"),
    ],
)
def test_wrong_options_are_refused_by_name(options, error, words):
    with pytest.raises(error, match=words):
        SimDriver(options)


def test_an_unknown_vehicle_lists_those_there_are():
    with pytest.raises((DriverError, UnknownName), match="l2f"):
        SimDriver({"vehicle": "747"}).connect()


def test_the_robot_side_needs_neither_torch_nor_mujoco_nor_ros():
    code = (
        "import sys; from robot_rl.hardware.run import run_without_ros;"
        "from robot_rl.hardware.drivers.sim import DRIVER;"
        "d = DRIVER(); d.connect(); d.read(); d.stop();"
        "bad = {'torch', 'mujoco', 'rclpy', 'gymnasium'} & set(sys.modules); sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_monotonic_clock_waits_until_and_not_before():
    clock = MonotonicClock()
    deadline = clock.now() + 0.05
    clock.sleep_until(deadline)
    assert clock.now() >= deadline
    clock.sleep_until(deadline - 1.0)


def test_virtual_time_does_not_run_backwards():
    clock = VirtualClock(5.0)
    clock.sleep_until(4.0)
    assert clock.now() == 5.0
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1.0)
