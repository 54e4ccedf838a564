"""Each condition, each reaction and each transition of the supervisor; and that nothing gets past it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.contract import Command, Safety
from robot_rl.errors import ConfigError
from robot_rl.hardware.monitors import Observation, tilt, usable_sample, yaw
from robot_rl.hardware.setpoints import Setpoint
from robot_rl.hardware.supervisor import Supervisor
from robot_rl.hardware.supervisor_config import Reaction, Reactions, RobotState, SupervisorConfig

ROTORS = Command(
    "rotor_speed_target", "rotor_speed", "rad/s", ("a", "b", "c", "d"), (0.0,) * 4, (2272.6,) * 4, (0.0,) * 4
)
DT = 0.01
JOINTED = ("joint_limit", "joint_speed", "pose")  # conditions of robots with joints, see test_jointed_supervisor.py
STATES = [s for s in RobotState if s not in (RobotState.STANDING_UP, RobotState.RUNNING, RobotState.LYING_DOWN)]
CONFIG = SupervisorConfig()


def _reference(z: float = 0.5, x: float = 0.0) -> Setpoint:
    return Setpoint(np.array([x, 0.0, z]), np.zeros(3), np.zeros(3), 0.0)


def _signals(**changes) -> dict[str, np.ndarray]:
    values = {
        "base_pos_w": (0.0, 0.0, 0.5),
        "base_quat_wxyz": (1.0, 0.0, 0.0, 0.0),
        "base_lin_vel_w": (0.0, 0.0, 0.0),
        "base_ang_vel_b": (0.0, 0.0, 0.0),
        "battery_voltage": (3.9,),
        **changes,
    }
    return {name: np.asarray(value, np.float32) for name, value in values.items()}


def _obs(signals: dict[str, np.ndarray] | None = None, **changes) -> Observation:
    ages = {"base_pos_w": 0.0, "base_quat_wxyz": 0.0}
    fields = {
        "signals": _signals() if signals is None else signals,
        "ages": ages,
        "max_ages": dict.fromkeys(ages, 0.1),
        "reference": _reference(),
    }
    return Observation(**{**fields, **changes})


class _Flight:
    """A supervisor with a clock that ticks."""

    def __init__(self, config: SupervisorConfig = CONFIG) -> None:
        self.supervisor = Supervisor((ROTORS,), config)
        self.now = 0.0

    def show(self, obs: Observation, seconds: float = DT) -> RobotState:
        for _ in range(max(1, round(seconds / DT))):
            self.now += DT
            self.supervisor.watch(obs, self.now)
        return self.supervisor.state

    def in_state(self, state: RobotState) -> _Flight:
        ground = _obs(_signals(base_pos_w=(0, 0, 0)), reference=_reference(0.0))
        self.show(ground)
        if state is RobotState.DISARMED:
            return self
        assert self.supervisor.arm(self.now).accepted
        if state is RobotState.ARMED:
            return self
        if state is RobotState.FAULT:
            self.supervisor.emergency_stop(self.now)
            return self
        assert self.supervisor.rise(self.now).accepted
        if state is RobotState.TAKING_OFF:
            return self
        assert self.show(_obs()) is RobotState.FLYING
        if state is RobotState.LANDING:
            assert self.supervisor.descend(self.now).accepted
        assert self.supervisor.state is state
        return self


def _tilted(angle: float) -> tuple[float, ...]:
    return math.cos(angle / 2), math.sin(angle / 2), 0.0, 0.0


# Condition → the observation that shows it, and for how long it must last.
CONDITIONS: dict[str, tuple[Observation, float]] = {
    "tilt": (_obs(_signals(base_quat_wxyz=_tilted(1.5))), 0.2),
    "body_rate": (_obs(_signals(base_ang_vel_b=(30.0, 0, 0))), 0.2),
    "speed": (_obs(_signals(base_lin_vel_w=(6.0, 0, 0))), 0.2),
    "box": (_obs(_signals(base_pos_w=(2.7, 0, 0.5)), reference=_reference(x=2.0)), DT),
    "box_far": (_obs(_signals(base_pos_w=(4.0, 0, 0.5)), reference=_reference(x=3.5)), DT),
    "tracking": (_obs(reference=_reference(x=1.2)), 0.2),
    "bad_signal": (_obs(bad=("base_ang_vel_b",)), DT),
    "stale_signal": (_obs(ages={"base_pos_w": 0.15}), DT),
    "lost_signal": (_obs(ages={"base_pos_w": 0.31}), DT),
    "missed_ticks": (_obs(missed_fraction=0.6), DT),
    "command_link": (_obs(link_age=1.5), DT),
    "battery_low": (_obs(_signals(battery_voltage=(3.2,))), 0.6),
    "battery_low_long": (_obs(_signals(battery_voltage=(3.2,))), 10.1),
    "battery_critical": (_obs(_signals(battery_voltage=(2.9,))), 0.6),
    "ground_contact": (_obs(_signals(base_pos_w=(0, 0, 0.01))), 0.6),
    "policy_failure": (_obs(policy_error="NaN"), DT),
    "policy_lost": (_obs(policy_error="NaN"), 0.2),
    "driver_failure": (_obs(driver_error="no answer"), 0.1),
}
EXPECTED = {
    Reaction.IGNORE: RobotState.FLYING,
    Reaction.WARN: RobotState.FLYING,
    Reaction.LAND: RobotState.LANDING,
    Reaction.IDLE: RobotState.FAULT,
}


def test_the_table_of_conditions_is_complete():
    timeouts = {"take_off_timeout", "landing_timeout"}
    assert {*CONDITIONS, *JOINTED} | timeouts == {f.name for f in dataclasses.fields(Reactions)}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_each_condition_has_its_default_reaction_in_flight(condition):
    flight = _Flight().in_state(RobotState.FLYING)
    obs, seconds = CONDITIONS[condition]
    state = flight.show(obs, seconds)
    assert state is EXPECTED[CONFIG.reaction.of(condition)]
    if CONFIG.reaction.of(condition) >= Reaction.LAND:
        assert condition in flight.supervisor.cause
    else:
        assert condition in flight.supervisor.active


@pytest.mark.parametrize(
    ("condition", "reaction"),
    [
        (f.name, choice)
        for f in dataclasses.fields(Reactions)
        for choice in f.metadata["choices"]
        if f.name in CONDITIONS and f.name not in ("box_far", "policy_lost", "lost_signal", "battery_low_long")
    ],
)
def test_each_allowed_choice_of_reaction_is_obeyed(condition, reaction):
    config = dataclasses.replace(CONFIG, reaction=dataclasses.replace(CONFIG.reaction, **{condition: reaction}))
    flight = _Flight(config).in_state(RobotState.FLYING)
    assert flight.show(*CONDITIONS[condition]) is EXPECTED[Reaction[reaction.upper()]]


@pytest.mark.parametrize("condition", ["tilt", "body_rate", "speed", "tracking", "ground_contact", "battery_critical"])
def test_a_condition_shorter_than_its_time_changes_nothing(condition):
    flight = _Flight().in_state(RobotState.FLYING)
    obs, _ = CONDITIONS[condition]
    for _ in range(10):
        assert flight.show(obs, 0.05) is RobotState.FLYING
        assert flight.show(_obs()) is RobotState.FLYING


@pytest.mark.parametrize("condition", ["lost_signal", "policy_lost", "driver_failure"])
def test_what_leaves_no_way_to_fly_cannot_be_relaxed(condition):
    for relaxed in ("ignore", "warn", "land"):
        with pytest.raises(ConfigError, match=condition):
            Reactions(**{condition: relaxed})


def test_a_faulty_landing_with_a_sane_state_goes_on_and_with_an_insane_one_stops():
    flight = _Flight().in_state(RobotState.FLYING)
    assert flight.show(CONDITIONS["battery_critical"][0], 0.6) is RobotState.LANDING
    assert flight.show(CONDITIONS["battery_critical"][0], 1.0) is RobotState.LANDING
    assert flight.show(CONDITIONS["tilt"][0], 0.2) is RobotState.FAULT
    assert flight.show(_obs(), 5.0) is RobotState.FAULT  # it stays, though all is well again


def test_landing_ends_on_the_ground_and_not_in_the_air():
    flight = _Flight().in_state(RobotState.LANDING)
    sinking = _signals(base_pos_w=(0, 0, 0.3), base_lin_vel_w=(0, 0, -0.3))
    assert flight.show(_obs(sinking, reference=_reference(0.1)), 2.0) is RobotState.LANDING
    hovering = _signals(base_pos_w=(0, 0, 0.3))
    assert flight.show(_obs(hovering, reference=_reference(0.28)), 2.0) is RobotState.LANDING
    resting = _obs(_signals(base_pos_w=(0, 0, 0.0)), reference=_reference(-0.25))
    assert flight.show(resting, 0.1) is RobotState.LANDING
    assert flight.show(resting, 0.5) is RobotState.DISARMED


def test_take_off_ends_at_height_or_in_a_landing_after_too_long():
    flight = _Flight().in_state(RobotState.TAKING_OFF)
    climbing = _obs(_signals(base_pos_w=(0, 0, 0.2)), reference=_reference(0.5))
    assert flight.show(climbing, 9.0) is RobotState.TAKING_OFF
    assert flight.show(climbing, 2.0) is RobotState.LANDING
    assert "take_off_timeout" in flight.supervisor.cause
    late = _Flight().in_state(RobotState.LANDING)
    assert late.show(_obs(), CONFIG.landing_time + 1.0) is RobotState.FAULT
    assert "landing_timeout" in late.supervisor.cause


REQUESTS = {
    "arm": {RobotState.DISARMED: RobotState.ARMED},
    "disarm": {RobotState.ARMED: RobotState.DISARMED, RobotState.FAULT: RobotState.DISARMED},
    "rise": {RobotState.ARMED: RobotState.TAKING_OFF},
    "descend": {RobotState.TAKING_OFF: RobotState.LANDING, RobotState.FLYING: RobotState.LANDING},
    "emergency_stop": {state: RobotState.FAULT for state in RobotState},
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("request_name", REQUESTS)
def test_each_request_in_each_state(request_name, state):
    flight = _Flight().in_state(state)
    answer = getattr(flight.supervisor, request_name)(flight.now)
    wanted = REQUESTS[request_name].get(state)
    assert answer.accepted == (wanted is not None)
    assert flight.supervisor.state is (wanted or state)
    assert answer.message


@pytest.mark.parametrize("condition", ["tilt", "box", "stale_signal", "battery_critical", "command_link"])
def test_arming_is_refused_while_something_is_wrong_and_the_reason_is_given(condition):
    flight = _Flight()
    flight.show(*CONDITIONS[condition])
    answer = flight.supervisor.arm(flight.now)
    assert not answer.accepted
    assert condition in answer.message


def test_arming_needs_every_signal_a_still_robot_and_where_asked_for_a_link():
    flight = _Flight()
    assert "signal" in flight.supervisor.arm(0.0).message
    flight.show(_obs(_signals(base_lin_vel_w=(1.0, 0, 0))))
    assert "still" in flight.supervisor.arm(flight.now).message
    strict = _Flight(dataclasses.replace(CONFIG, require_link=True))
    strict.show(_obs())
    assert "heartbeat" in strict.supervisor.arm(strict.now).message
    assert strict.supervisor.arm(strict.now, link_present=True).accepted


def test_an_armed_robot_is_disarmed_when_something_goes_wrong_on_the_ground():
    flight = _Flight().in_state(RobotState.ARMED)
    assert flight.show(CONDITIONS["command_link"][0]) is RobotState.DISARMED


@pytest.mark.parametrize("state", STATES)
def test_motors_turn_only_in_the_air(state):
    flight = _Flight().in_state(state)
    full = {"rotor_speed_target": np.full(4, 1500.0, np.float32)}
    sent = flight.supervisor.command(full, DT).command["rotor_speed_target"]
    assert np.all(sent == (1500.0 if state.moving else 0.0))


NUMBER = st.floats(width=32, allow_nan=True, allow_infinity=True)
PROPOSAL = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from(["rotor_speed_target", "other"]),
        st.one_of(
            st.lists(NUMBER, max_size=6).map(lambda v: np.array(v, np.float32)),
            st.sampled_from([None, "fast", np.full((1, 4), 9.0), np.full(4, 1e300), 3.0, np.array([b"x"] * 4)]),
        ),
    ),
    st.sampled_from(["fast", 7, [1.0, 2.0, 3.0, 4.0]]),
)
OBSERVED = st.builds(
    lambda pos, quat, vel, rate, volt, age, missed, link, bad, policy, driver: _obs(
        _signals(base_pos_w=pos, base_quat_wxyz=quat, base_lin_vel_w=vel, base_ang_vel_b=rate, battery_voltage=(volt,)),
        ages={"base_pos_w": age},
        missed_fraction=missed,
        link_age=link,
        bad=bad,
        policy_error=policy,
        driver_error=driver,
    ),
    *[st.tuples(*[st.floats(-(2.0**100), 2.0**100, width=32)] * 3)],
    st.sampled_from([(1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), _tilted(0.2)]),
    st.tuples(*[st.floats(-(2.0**100), 2.0**100, width=32)] * 3),
    st.tuples(*[st.floats(-(2.0**100), 2.0**100, width=32)] * 3),
    st.floats(0.0, 5.0),
    st.floats(0.0, math.inf),
    st.floats(0.0, 1.0),
    st.one_of(st.none(), st.floats(0.0, 5.0)),
    st.sampled_from([(), ("base_pos_w",)]),
    st.sampled_from(["", "NaN"]),
    st.sampled_from(["", "no answer"]),
)
EVENT = st.one_of(
    st.tuples(st.just("watch"), st.one_of(st.just(_obs()), OBSERVED)),
    st.tuples(st.just("command"), PROPOSAL),
    st.tuples(st.sampled_from(list(REQUESTS)), st.none()),
)


@settings(max_examples=300, deadline=None)
@given(start=st.sampled_from(STATES), events=st.lists(EVENT, max_size=25), dt=st.floats(-1.0, 2.0))
def test_whatever_happens_the_command_is_finite_in_limits_and_idle_on_the_ground(start, events, dt):
    flight = _Flight().in_state(start)
    supervisor = flight.supervisor
    for kind, value in events:
        flight.now += DT
        if kind == "watch":
            supervisor.watch(value, flight.now)
        elif kind == "command":
            sent = supervisor.command(value, dt).command
            assert set(sent) == {"rotor_speed_target"}
            numbers = sent["rotor_speed_target"]
            assert numbers.shape == (4,)
            assert np.all(np.isfinite(numbers))
            assert np.all(numbers >= 0.0)
            assert np.all(numbers.astype(np.float64) <= 2272.6)
            assert supervisor.state.moving or np.all(numbers == 0.0)
        else:
            getattr(supervisor, kind)(flight.now)


def test_the_contract_can_only_tighten_the_limits():
    tight = CONFIG.tightened(Safety(max_tilt=0.5, max_body_rate=100.0))
    assert tight.max_tilt == 0.5
    assert tight.max_body_rate == CONFIG.max_body_rate


def test_angles_are_those_of_the_rotation():
    assert tilt(np.array(_tilted(0.7), np.float32)) == pytest.approx(0.7, abs=1e-6)
    assert tilt(np.array([0.0, 1.0, 0.0, 0.0], np.float32)) == pytest.approx(math.pi, abs=1e-3)
    assert yaw(np.array([math.cos(0.4), 0, 0, math.sin(0.4)], np.float32)) == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "value", "usable"),
    [
        ("base_pos_w", [1.0, 2.0, 3.0], True),
        ("base_pos_w", [1.0, math.nan, 3.0], False),
        ("base_pos_w", [1.0, math.inf, 3.0], False),
        ("base_pos_w", [1.0, 2.0], False),
        ("base_quat_wxyz", [1.0, 0.0, 0.0, 0.0], True),
        ("base_quat_wxyz", [0.0, 0.0, 0.0, 0.0], False),
        ("base_quat_wxyz", [2.0, 0.0, 0.0, 0.0], False),
    ],
)
def test_samples_that_may_be_acted_on(name, value, usable):
    shape = (4,) if "quat" in name else (3,)
    assert usable_sample(name, np.array(value, np.float32), shape) is usable


def test_the_documentation_has_the_present_table():
    text = (Path(__file__).parents[2] / "docs" / "run_on_a_robot.md").read_text()
    for field in dataclasses.fields(Reactions):
        choices = ", ".join(field.metadata["choices"])
        assert f"| `{field.name}` | {field.metadata['description']} | {field.default} | {choices} |" in text
