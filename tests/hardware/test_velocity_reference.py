"""What a walking robot is asked for: within limits, without jumps, and zero when nobody repeats it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.hardware.setpoints import VelocityLimits
from robot_rl.hardware.velocity_reference import VelocityReference

LIMITS = VelocityLimits()
MOST = (LIMITS.max_forward, LIMITS.max_sideways, LIMITS.max_yaw_rate)
SPEED = st.floats(-100.0, 100.0)


def _values(setpoint) -> np.ndarray:
    return np.append(setpoint.lin_vel_b, setpoint.yaw_rate)


@settings(deadline=None)
@given(st.lists(st.tuples(SPEED, SPEED, SPEED, st.floats(0.0, 0.3)), max_size=30))
def test_it_stays_within_speed_and_acceleration_whatever_is_asked(requests):
    reference = VelocityReference(LIMITS)
    before = _values(reference.current)
    for forward, sideways, turn, dt in requests:
        reference.walk(forward, sideways, turn)
        now = _values(reference.step(dt))
        assert np.all(np.abs(now) <= np.array(MOST) + 1e-9)
        rates = np.array([LIMITS.max_acceleration, LIMITS.max_acceleration, LIMITS.max_yaw_acceleration])
        assert np.all(np.abs(now - before) <= rates * dt + 1e-9)
        before = now


def test_it_reaches_what_is_asked_and_times_out():
    reference = VelocityReference(LIMITS)
    for _ in range(100):
        np.testing.assert_allclose(reference.walk(0.5, -0.2, 0.4), [0.5, -0.2, 0.4])
        reference.step(0.02)
    np.testing.assert_allclose(_values(reference.current), [0.5, -0.2, 0.4])
    for _ in range(round(LIMITS.timeout / 0.02) - 2):
        reference.step(0.02)
    np.testing.assert_allclose(_values(reference.current), [0.5, -0.2, 0.4])
    for _ in range(50):
        reference.step(0.02)
    assert np.all(_values(reference.current) == 0.0)


def test_its_signals_are_those_of_a_walking_policy():
    reference = VelocityReference(LIMITS)
    reference.walk(0.5, 0.1, 0.2)
    signals = reference.step(0.01).signals()
    assert {name: value.shape for name, value in signals.items()} == {
        "command_lin_vel_b": (2,),
        "command_yaw_rate": (1,),
    }
    assert np.all(_values(reference.stand()) == 0.0)


@pytest.mark.parametrize("dt", [-0.1, math.nan, math.inf])
def test_time_that_cannot_pass_is_refused(dt):
    with pytest.raises(ValueError, match="dt"):
        VelocityReference().step(dt)
