"""Whatever the robot, the policy and the people do, in whatever order: what reaches the motors is finite, within both
limits, and idle unless the robot may fly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pd_policy import build_contract, build_model

from robot_rl.contract import Command, Contract
from robot_rl.errors import ContractMismatch
from robot_rl.hardware.clock import VirtualClock
from robot_rl.hardware.control_loop import ControlLoop
from robot_rl.hardware.monitors import STATE_SIGNALS
from robot_rl.hardware.setpoints import ReferenceLimits
from robot_rl.hardware.supervisor_config import RobotState, SupervisorConfig
from robot_rl.protocols import Array, Reading
from robot_rl.signals import FLIGHT_SIGNALS, Signal

CONTRACT = build_contract(build_model())
ROTORS = CONTRACT.commands[0]
SIGNALS = (*(FLIGHT_SIGNALS[name] for name in STATE_SIGNALS), Signal("battery_voltage", (1,), "V", "", 1.0))
LIMITS = SupervisorConfig()


class ScriptedRobot:
    """A driver whose vehicle is where the script puts it, and that breaks when the script says so.

    Attributes:
        pos, quat, vel, rate, volt: what is measured. spoil: changes a reading. trouble: an exception to raise, by call.
        delay: seconds that a read takes. writes: every command that arrived, with the state it came in.
    """

    name, robot = "scripted", "crazyflie"

    def __init__(self, clock: VirtualClock, commands: tuple[Command, ...] = CONTRACT.commands) -> None:
        self.signals, self.commands, self.clock = SIGNALS, commands, clock
        self.pos, self.quat, self.vel = [0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
        self.rate, self.volt = [0.0, 0.0, 0.0], [4.0]
        self.spoil: Callable[[Reading], Any] = lambda reading: reading
        self.trouble: set[str] = set()
        self.delay = 0.0
        self.connected, self.stops = False, 0
        self.writes: list[dict[str, Array]] = []

    def connect(self) -> None:
        self.connected = True

    def read(self) -> Reading:
        self.clock.advance(self.delay)
        if "read" in self.trouble:
            raise OSError
        values = (self.pos, self.quat, self.vel, self.rate, self.volt)
        signals = {s.name: np.asarray(v, np.float64) for s, v in zip(SIGNALS, values, strict=True)}
        return self.spoil(Reading(signals, dict.fromkeys(signals, self.clock.now())))

    def write(self, command: Mapping[str, Array]) -> dict[str, Array]:
        self.writes.append({name: np.array(value) for name, value in command.items()})
        for value in command.values():
            value.fill(np.nan)  # a driver may use the arrays as it likes
        if "write" in self.trouble:
            raise OSError
        return dict(command)

    def stop(self) -> None:
        self.connected, self.stops = False, self.stops + 1
        if "stop" in self.trouble:
            raise OSError("the cable is out")


class ScriptedPolicy:
    """Proposes what the script says."""

    def __init__(self, contract: Contract = CONTRACT) -> None:
        self.contract, self.proposal, self.resets = contract, np.full(4, 1500.0, np.float32), 0
        self.seen: list[dict[str, Array]] = []

    def reset(self) -> None:
        self.resets += 1

    def act(self, signals: Mapping[str, Array], time_step: float | None = None) -> Any:
        self.seen.append(dict(signals))
        if isinstance(self.proposal, Exception):
            raise self.proposal
        return self.proposal if isinstance(self.proposal, dict) else {ROTORS.name: self.proposal}


class Scene:
    """A loop, its robot and its policy on virtual time."""

    def __init__(self, commands: tuple[Command, ...] = CONTRACT.commands) -> None:
        self.clock = VirtualClock(100.0)
        self.robot, self.policy = ScriptedRobot(self.clock, commands), ScriptedPolicy()
        # A quick take-off, so that tests are quick too.
        reference = ReferenceLimits(max_speed=5.0, max_acceleration=50.0, take_off_speed=5.0)
        self.loop = ControlLoop(self.robot, self.policy, reference=reference, clock=self.clock)
        self.loop.connect()

    @property
    def state(self) -> RobotState:
        return self.loop.snapshot.state

    @property
    def last(self) -> Array:
        return self.robot.writes[-1][ROTORS.name]

    def ticks(self, count: int) -> RobotState:
        for _ in range(count):
            self.loop.tick()
            self.clock.advance(self.loop.control_dt)
        return self.state

    def flying(self) -> Scene:
        self.ticks(3)
        assert self.loop.pilot.arm().accepted
        assert self.loop.pilot.take_off().accepted
        for _ in range(600):
            self.robot.pos = self.loop.snapshot.setpoint.pos_w.tolist()
            if self.ticks(1) is RobotState.FLYING:
                return self
        raise AssertionError(self.loop.snapshot.cause)


def _spoiled(name: str, value: Any = None, stamp: Any = None) -> Callable[[Reading], Any]:
    def spoil(reading: Reading) -> Reading:
        signals, stamps = dict(reading.signals), dict(reading.stamps)
        signals[name] = reading.signals[name] if value is None else value
        stamps[name] = stamps[name] if stamp is None else stamp
        return Reading(signals, stamps)

    return spoil


NAMES = st.sampled_from([s.name for s in SIGNALS])
NUMBERS = st.one_of(st.floats(), st.floats(-3.0, 3.0))
VALUES = st.one_of(
    st.lists(NUMBERS, max_size=5),
    st.lists(NUMBERS, min_size=3, max_size=4).map(np.array),
    st.sampled_from(["x", b"", object(), np.array([None] * 3), np.array(["a"] * 3), 1e39, {}, [[1.0], [1.0, 2.0]]]),
)
STAMPS = st.one_of(st.floats(), st.sampled_from([None, "now", 0.0, 1e18, np.float64("nan")]))
SPOILS = st.one_of(
    st.builds(_spoiled, NAMES, VALUES, STAMPS),
    st.sampled_from(
        [lambda r: None, lambda r: (), lambda r: Reading({}, {}), lambda r: r, lambda r: Reading(None, {})]
    ),
)
PROPOSALS = st.one_of(
    st.lists(st.one_of(st.floats(), st.floats(0.0, 2500.0)), max_size=5).map(lambda v: np.array(v, np.float64)),
    st.lists(st.floats(0.0, 2500.0), min_size=4, max_size=4),
    st.sampled_from([None, {}, "full", 1e300, {ROTORS.name: None}, {ROTORS.name: "x"}, RuntimeError("no"), OSError()]),
)
TRIPLE = st.tuples(NUMBERS, NUMBERS, NUMBERS)
REQUESTS = st.one_of(
    *(
        st.just((name,))
        for name in ("arm", "disarm", "take_off", "land", "emergency_stop", "heartbeat", "figure_eight")
    ),
    st.tuples(st.just("go_to"), TRIPLE, st.none() | NUMBERS),
    st.tuples(st.just("stream"), TRIPLE, TRIPLE, TRIPLE, st.none() | NUMBERS),
)
EVENTS = st.one_of(
    st.just(("request", ("emergency_stop",))),
    st.just(("request", ("land",))),
    st.tuples(st.just("request"), REQUESTS),
    st.tuples(st.just("spoil"), SPOILS),
    st.tuples(st.just("propose"), PROPOSALS),
    st.tuples(st.just("trouble"), st.sets(st.sampled_from(["read", "write"]))),
    st.tuples(st.just("delay"), st.sampled_from([0.0, 0.0, 0.3, 5.0])),
    st.tuples(st.just("pass"), st.integers(1, 20)),
    st.tuples(st.sampled_from(["pos", "vel", "rate"]), TRIPLE.map(list)),
    st.tuples(st.just("volt"), st.lists(NUMBERS, min_size=1, max_size=1)),
    st.tuples(st.just("quat"), st.sampled_from([[1.0, 0, 0, 0], [0.0, 1.0, 0, 0], [0.0, 0, 0, 0], [0.7, 0.7, 0, 0]])),
)


def _apply(scene: Scene, event: tuple[str, Any]) -> None:
    kind, value = event
    if kind == "request":
        answer = getattr(scene.loop.pilot, value[0])(*value[1:])
        assert answer is None or answer.accepted or answer.message
    elif kind == "propose":
        scene.policy.proposal = value
    elif kind != "pass":
        setattr(scene.robot, kind, value)


def _check(scene: Scene, before: RobotState) -> None:
    sent = scene.last
    assert sent.shape == (4,) and sent.dtype == np.float32
    assert np.all(np.isfinite(sent))
    assert np.all((sent.astype(np.float64) >= ROTORS.lower) & (sent.astype(np.float64) <= ROTORS.upper))
    now = scene.loop.snapshot
    if not now.state.moving:
        np.testing.assert_array_equal(sent, ROTORS.idle)
    else:
        assert before is not RobotState.FAULT  # only by disarming and arming
        for name in STATE_SIGNALS:
            oldest = LIMITS.lost_factor * FLIGHT_SIGNALS[name].max_age
            assert now.time - now.stamps[name] <= oldest
            assert now.stamps[name] <= scene.clock.now() + 0.05
    for seen in scene.policy.seen:
        assert all(np.all(np.isfinite(value)) for value in seen.values())
    scene.policy.seen.clear()


@given(in_flight=st.sampled_from([True, True, True, False]), events=st.lists(EVENTS, max_size=25))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_order_of_events_gets_past_the_supervisor(in_flight, events):
    scene = Scene().flying() if in_flight else Scene()
    for event in events:
        _apply(scene, event)
        for _ in range(event[1] if event[0] == "pass" else 1):
            before = scene.state
            scene.ticks(1)
            _check(scene, before)
            if event == ("request", ("emergency_stop",)):
                assert scene.state is RobotState.FAULT
    scene.robot.trouble = {"stop"}
    scene.loop.run(until=lambda: True)
    np.testing.assert_array_equal(scene.last, ROTORS.idle)
    assert scene.robot.stops == 1
    assert scene.state in (RobotState.DISARMED, RobotState.FAULT)


@pytest.mark.parametrize("stamp", [math.nan, math.inf, 1e9, None, "now"])
def test_stamps_that_never_look_old_do_not_hide_a_dead_sensor(stamp):
    scene = Scene().flying()
    scene.robot.spoil = lambda r: Reading(r.signals, dict.fromkeys(r.stamps, stamp))
    assert scene.ticks(40) is RobotState.FAULT
    assert "lost_signal" in scene.loop.snapshot.cause


def test_a_driver_that_fills_the_same_array_again_cannot_change_a_checked_sample():
    scene = Scene().flying()
    buffer = np.array(scene.robot.pos, np.float32)
    scene.robot.spoil = lambda r: Reading({**r.signals, "base_pos_w": buffer}, r.stamps)
    scene.ticks(1)
    buffer.fill(np.nan)
    assert np.all(np.isfinite(scene.loop.snapshot.signals["base_pos_w"]))
    assert scene.ticks(5) is RobotState.FLYING
    assert all(np.all(np.isfinite(seen["base_pos_w"])) for seen in scene.policy.seen)


def test_an_emergency_stop_cannot_be_undone_before_it_reached_the_motors():
    scene = Scene().flying()
    pilot = scene.loop.pilot
    assert pilot.emergency_stop().accepted
    assert pilot.disarm().accepted
    assert "motors have not been stopped" in pilot.arm().message
    assert not pilot.take_off().accepted
    scene.ticks(1)
    np.testing.assert_array_equal(scene.last, ROTORS.idle)


def test_a_policy_starts_every_flight_from_its_initial_memory():
    scene = Scene()
    scene.ticks(3)
    pilot, resets = scene.loop.pilot, scene.policy.resets
    assert pilot.arm().accepted and pilot.take_off().accepted and pilot.land().accepted  # all within one tick
    scene.ticks(1)
    assert scene.state is RobotState.LANDING
    assert scene.policy.resets == resets + 1


def test_a_lost_battery_reading_lands_but_never_cuts_the_motors():
    scene = Scene().flying()
    scene.robot.spoil = _spoiled("battery_voltage", [math.nan])
    assert scene.ticks(99) is RobotState.FLYING
    assert scene.ticks(30) is RobotState.LANDING
    assert "battery_voltage" in scene.loop.snapshot.cause


class _Different(ScriptedRobot):
    """Offers what a test says."""


def _refusal(signals: tuple[Signal, ...] = SIGNALS, command: Mapping[str, Any] | None = None) -> list[str]:
    robot = _Different(VirtualClock(), (replace(ROTORS, **(command or {})),))
    robot.signals = signals
    with pytest.raises(ContractMismatch) as caught:
        ControlLoop(robot, ScriptedPolicy(replace(CONTRACT, signals=CONTRACT.signals[:2])))
    return caught.value.differences


def test_what_the_supervisor_needs_must_be_there_even_if_the_policy_does_not_use_it():
    without = tuple(s for s in SIGNALS if s.name != "base_ang_vel_b")
    assert "base_ang_vel_b" in _refusal(without)[0]
    flat = tuple(replace(s, shape=(2,)) if s.name == "base_lin_vel_w" else s for s in SIGNALS)
    assert "base_lin_vel_w' shape: supervisor (3,), robot (2,)" in _refusal(flat)[0]
    scalar = tuple(replace(s, shape=()) if s.name == "battery_voltage" else s for s in SIGNALS)
    assert "battery_voltage" in _refusal(scalar)[0]


def test_a_policy_may_not_say_what_idle_is_nor_be_faster_than_the_robot():
    assert "idle: policy (0.0, 0.0, 0.0, 0.0), robot (5.0" in _refusal(command={"idle": (5.0,) * 4})[0]
    (first, *_) = _refusal(command={"max_rate": (100.0,) * 4})
    assert "max_rate: policy inf, robot 100 rad/s/s" in first


def test_the_narrower_limit_holds_where_policy_and_robot_differ_by_rounding():
    below = tuple(np.nextafter(np.float32(v), np.float32(0.0)).item() for v in ROTORS.upper)
    scene = Scene((replace(ROTORS, upper=below),)).flying()
    scene.policy.proposal = np.full(4, 1e9, np.float32)
    scene.ticks(1)
    assert np.all(scene.last.astype(np.float64) <= below)


def test_a_robot_left_armed_or_in_flight_must_be_armed_anew():
    scene = Scene()
    scene.ticks(3)
    assert scene.loop.pilot.arm().accepted
    scene.loop.run(until=lambda: True)
    assert scene.state is RobotState.DISARMED
    scene = Scene().flying()
    scene.loop.run(until=lambda: True)
    assert scene.state is RobotState.FAULT
    np.testing.assert_array_equal(scene.last, ROTORS.idle)
