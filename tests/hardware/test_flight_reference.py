"""The reference never jumps, keeps its limits and its box, and its derivatives are those of its position."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.errors import ConfigError
from robot_rl.hardware.reference import FlightReference
from robot_rl.hardware.setpoints import FigureEight, ReferenceLimits, StreamedPoint

LIMITS = ReferenceLimits()
COORDINATE = st.floats(-20.0, 20.0, allow_nan=False)
GOAL = st.tuples(COORDINATE, COORDINATE, COORDINATE)


def _flown(reference: FlightReference, seconds: float, dt: float = 0.002) -> np.ndarray:
    """Rows of position, velocity, acceleration, yaw."""
    points = [reference.step(dt) for _ in range(round(seconds / dt))]
    return np.array([[*p.pos_w, *p.lin_vel_w, *p.lin_acc_w, p.yaw] for p in points])


@settings(max_examples=40, deadline=None)
@given(goals=st.lists(st.tuples(GOAL, st.floats(0.05, 3.0)), min_size=1, max_size=5))
def test_goals_anywhere_at_any_time_keep_speed_acceleration_and_box(goals):
    reference = FlightReference(LIMITS)
    reference.start_at(np.array([0.5, -0.5, 0.0]), 0.0)
    for goal, seconds in goals:
        reference.go_to(goal)
        flown = _flown(reference, seconds, dt=0.01)
        pos, vel, acc = flown[:, 0:3], flown[:, 3:6], flown[:, 6:9]
        assert np.linalg.norm(vel, axis=1).max() <= LIMITS.max_speed * (1 + 1e-9)
        assert np.linalg.norm(acc, axis=1).max() <= LIMITS.max_acceleration * (1 + 1e-9)
        assert np.all(pos >= np.array(LIMITS.box_lower) - 1e-9)
        assert np.all(pos <= np.array(LIMITS.box_upper) + 1e-9)


@settings(max_examples=40, deadline=None)
@given(
    goal=GOAL,
    point=st.tuples(*[st.floats(-2.0, 2.0)] * 6),
    waits=st.tuples(*[st.floats(0.0, 1.5)] * 4),
)
def test_switching_between_all_kinds_of_references_never_jumps(goal, point, waits):
    reference = FlightReference(LIMITS)
    reference.start_at(np.zeros(3), 0.0)
    requests = (
        lambda: reference.take_off(1.0),
        lambda: reference.go_to(goal, yaw=2.0),
        lambda: reference.follow(FigureEight((0.0, 0.0, 1.0))),
        lambda: reference.stream(StreamedPoint(point[:3], point[3:])),
        lambda: reference.land(0.0),
    )
    dt, before = 0.01, reference.current
    for request, wait in zip(requests, (*waits, 4.0), strict=True):
        request()
        for _ in range(round(wait / dt) + 1):
            now = reference.step(dt)
            # Fastest possible: a path at its limit while the gap to it closes at the limit of goals.
            assert np.linalg.norm(now.pos_w - before.pos_w) <= 6.0 * dt
            assert np.linalg.norm(now.pos_w - before.pos_w - now.lin_vel_w * dt) <= 0.05
            assert abs(np.angle(np.exp(1j * (now.yaw - before.yaw)))) <= LIMITS.max_yaw_rate * dt + 1e-9
            before = now


@pytest.mark.parametrize("kind", ["goal", "figure_eight", "stream", "land"])
def test_velocity_and_acceleration_are_the_derivatives_of_position(kind):
    reference = FlightReference(LIMITS)
    reference.start_at(np.array([0.3, 0.2, 1.0]), 0.0)
    reference.go_to((1.0, -1.0, 1.2))
    _flown(reference, 0.7)
    if kind == "figure_eight":
        reference.follow(FigureEight((0.0, 0.0, 1.0)))
    elif kind == "stream":
        reference.stream(StreamedPoint((0.5, 0.1, 1.0), (0.2, 0.0, 0.1), (0.5, 0.0, 0.0), horizon=10.0))
    elif kind == "land":
        reference.land(0.0)
    dt = 0.001
    flown = _flown(reference, 1.5, dt)
    pos, vel, acc = flown[:, 0:3], flown[:, 3:6], flown[:, 6:9]
    np.testing.assert_allclose((pos[2:] - pos[:-2]) / (2 * dt), vel[1:-1], atol=2e-5)
    # A point at the speed limit starts and stops at once, so the jerk steps: half a step of it is the error here.
    np.testing.assert_allclose((vel[2:] - vel[:-2]) / (2 * dt), acc[1:-1], atol=2e-2)


def test_the_step_size_does_not_change_where_the_reference_goes():
    ends = []
    for dt in (0.001, 0.01, 0.05):
        reference = FlightReference(LIMITS)
        reference.start_at(np.zeros(3), 0.0)
        reference.go_to((1.5, 0.5, 1.0))
        ends.append(_flown(reference, 1.0, dt)[-1, 0:6])
    np.testing.assert_allclose(ends[1], ends[0], atol=1e-6)
    np.testing.assert_allclose(ends[2], ends[0], atol=1e-6)


def test_a_goal_is_reached_without_overshoot_and_one_outside_is_replaced_by_the_nearest():
    reference = FlightReference(LIMITS)
    reference.start_at(np.zeros(3), 0.0)
    goal = reference.go_to((10.0, 0.0, 1.0))
    np.testing.assert_allclose(goal, [2.0, 0.0, 1.0])
    flown = _flown(reference, 8.0, 0.01)
    assert np.all(np.diff(flown[:, 0]) >= -1e-12)
    np.testing.assert_allclose(flown[-1, 0:3], goal, atol=1e-3)
    assert reference.distance_to_goal() < 2e-3


def test_figure_eight_has_the_published_shape():
    path = FigureEight((0.0, 0.0, 1.0), period=5.5, size=1.0, ramp=2.0)
    times = np.linspace(0.0, path.end_of_turn(1), 4001)
    samples = [path.sample(t) for t in times]
    pos, vel, acc = (np.array([s[i] for s in samples]) for i in range(3))
    np.testing.assert_allclose(pos[0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(vel[0], 0.0, atol=1e-12)
    np.testing.assert_allclose(pos[-1], [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(np.ptp(pos, axis=0), [2.0, 1.0, 0.0], atol=1e-4)
    speed = np.linalg.norm(vel, axis=1).max()
    assert speed == pytest.approx(path.peak_speed, rel=1e-3)
    assert speed == pytest.approx(1.6, abs=0.05)  # stated beside the source
    assert np.linalg.norm(acc, axis=1).max() <= path.peak_acceleration
    dt = times[1]
    np.testing.assert_allclose(np.gradient(pos, dt, axis=0)[2:-2], vel[2:-2], atol=1e-4)


def test_landing_goes_on_below_the_ground_and_straight_down():
    reference = FlightReference(LIMITS)
    reference.start_at(np.array([0.4, -0.3, 1.0]), 0.0)
    reference.land(0.0)
    flown = _flown(reference, 8.0, 0.01)
    np.testing.assert_allclose(flown[:, 0:2], np.tile([0.4, -0.3], (len(flown), 1)), atol=1e-9)
    assert flown[-1, 2] == pytest.approx(-LIMITS.landing_depth, abs=1e-3)
    assert np.abs(flown[:, 5]).max() <= LIMITS.landing_speed * (1 + 1e-9)


def test_a_stream_that_ends_comes_to_rest_ahead():
    reference = FlightReference(LIMITS)
    reference.start_at(np.array([0.0, 0.0, 1.0]), 0.0)
    time = 0.0
    for _ in range(100):  # a point that moves at 0.5 m/s
        reference.stream(StreamedPoint((0.5 * time, 0.0, 1.0), (0.5, 0.0, 0.0)))
        time += 0.02
        reference.step(0.02)
    assert reference.current.lin_vel_w[0] == pytest.approx(0.5, abs=0.02)
    assert reference.current.pos_w[0] == pytest.approx(0.5 * time, abs=0.02)
    flown = _flown(reference, 4.0, 0.01)
    assert np.all(np.diff(flown[:, 0]) >= -1e-6)
    np.testing.assert_allclose(flown[-1, 3:6], 0.0, atol=1e-3)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: ReferenceLimits(max_speed=0.0), "max_speed"),
        (lambda: ReferenceLimits(max_acceleration=float("nan")), "max_acceleration"),
        (lambda: ReferenceLimits(box_lower=(0.0, 0.0, 3.0)), "box_lower"),
        (lambda: FigureEight((0.0, 0.0, 1.0), period=0.1), "period"),
    ],
)
def test_impossible_limits_are_refused_by_name(build, words):
    with pytest.raises(ConfigError, match=words):
        build()


@pytest.mark.parametrize("dt", [-0.01, float("nan"), float("inf")])
def test_time_that_is_not_a_duration_is_refused(dt):
    with pytest.raises(ValueError, match="dt"):
        FlightReference().step(dt)
