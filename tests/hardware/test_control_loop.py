"""The control loop with the real simulated robot and a real policy file, on virtual time."""

from __future__ import annotations

import gc
import sys
import threading
import time

import numpy as np
import pytest
from pd_policy import build_contract, build_model, changed_command, write_pd_policy

from robot_rl.contract import Rate, Safety
from robot_rl.errors import ContractMismatch, DriverError
from robot_rl.hardware.clock import VirtualClock
from robot_rl.hardware.control_loop import ControlLoop, LoopConfig
from robot_rl.hardware.drivers.sim import SimDriver
from robot_rl.hardware.supervisor_config import RobotState, SupervisorConfig
from robot_rl.policy import Policy
from robot_rl.signals import FLIGHT_SIGNALS, Signal


class _Bench:
    """A loop whose time passes only when told to; keeps every command that reached the rotors."""

    def __init__(self, policy, config: SupervisorConfig | None = None, loop: LoopConfig | None = None) -> None:
        self.clock = VirtualClock()
        self.driver = _RecordingDriver(clock=self.clock)
        self.loop = ControlLoop(self.driver, policy, supervisor=config, config=loop, clock=self.clock)
        self.loop.connect()
        self.pilot = self.loop.pilot

    def fly(self, seconds: float) -> RobotState:
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            self.loop.tick()
            self.clock.advance(self.loop.control_dt)
        return self.loop.snapshot.state

    def airborne(self) -> _Bench:
        self.fly(0.05)
        assert self.pilot.arm().accepted
        assert self.pilot.take_off().accepted
        assert self.fly(4.0) is RobotState.FLYING
        return self

    @property
    def position(self) -> np.ndarray:
        return self.loop.snapshot.signals["base_pos_w"]


class _RecordingDriver(SimDriver):
    """The simulated robot, with a look at what it is sent."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.sent: list[np.ndarray] = []

    def write(self, command):
        sent = super().write(command)
        self.sent.append(sent["rotor_speed_target"].copy())
        return sent


class _Wrapped:
    """A real policy that misbehaves when told to."""

    def __init__(self, policy: Policy) -> None:
        self.contract, self._policy, self.trouble = policy.contract, policy, None

    def reset(self) -> None:
        self._policy.reset()

    def act(self, signals, time_step=None):
        answer = self._policy.act(signals, time_step)
        return answer if self.trouble is None else self.trouble(answer)


@pytest.fixture(scope="module")
def policy(pd_policy) -> Policy:
    return Policy.load(pd_policy)


def test_take_off_goal_figure_eight_and_landing(policy):
    bench = _Bench(policy).airborne()
    assert bench.position[2] == pytest.approx(0.5, abs=0.05)
    assert bench.pilot.go_to((0.5, -0.5, 1.0), yaw=1.0).accepted
    bench.fly(5.0)
    np.testing.assert_allclose(bench.position, [0.5, -0.5, 1.0], atol=0.05)
    assert bench.pilot.figure_eight().accepted
    errors = []
    for _ in range(60):
        bench.fly(0.1)
        errors.append(np.linalg.norm(bench.position - bench.loop.snapshot.setpoint.pos_w))
    assert max(errors) < 0.3
    assert bench.pilot.land().accepted
    assert bench.fly(10.0) is RobotState.DISARMED
    assert bench.position[2] == pytest.approx(0.0, abs=0.02)
    assert np.all(bench.driver.sent[-1] == 0.0)
    states = [t.after.value for t in bench.pilot.new_transitions()]
    assert states == ["armed", "taking_off", "flying", "landing", "disarmed"]
    assert bench.pilot.new_transitions() == []


def test_a_goal_ten_metres_away_is_flown_to_gently_and_ends_at_the_box(policy):
    bench = _Bench(policy).airborne()
    answer = bench.pilot.go_to((10.0, 0.0, 0.5))
    assert answer.accepted
    assert "box" in answer.message
    assert bench.fly(6.0) is RobotState.FLYING
    np.testing.assert_allclose(bench.position, [2.0, 0.0, 0.5], atol=0.05)


@pytest.mark.parametrize(
    ("fault", "ends_in", "cause"),
    [
        ("stale", RobotState.FAULT, "lost_signal"),
        ("nan", RobotState.FAULT, "lost_signal: base_ang_vel_b"),
        ("motor", RobotState.FAULT, "body_rate"),
        ("read_error", RobotState.FAULT, "lost_signal"),
        ("write_error", RobotState.FAULT, "driver_failure"),
        ("battery", RobotState.DISARMED, "landed"),
    ],
)
def test_faults_of_the_robot_end_in_the_documented_reaction(policy, fault, ends_in, cause):
    bench = _Bench(policy).airborne()
    bench.driver.inject(fault)
    assert bench.fly(8.0) is ends_in
    assert cause in bench.loop.snapshot.cause
    bench.driver.inject("none")
    bench.fly(1.0)
    assert np.all(bench.driver.sent[-1] == 0.0)


@pytest.mark.parametrize(
    "trouble",
    [
        lambda answer: {"rotor_speed_target": np.full(4, np.nan, np.float32)},
        lambda answer: {},
        lambda answer: None,
        lambda answer: {"rotor_speed_target": np.zeros(3, np.float32)},
        lambda answer: 1 / 0,
    ],
    ids=["nan", "missing", "none", "shape", "raises"],
)
def test_a_policy_that_fails_is_held_then_cut(policy, trouble):
    wrapped = _Wrapped(policy)
    bench = _Bench(wrapped).airborne()
    last = bench.driver.sent[-1]
    wrapped.trouble = trouble
    assert bench.fly(0.03) is RobotState.FLYING
    np.testing.assert_array_equal(bench.driver.sent[-1], last)
    wrapped.trouble = None
    assert bench.fly(1.0) is RobotState.FLYING  # a short failure is survived
    wrapped.trouble = trouble
    assert bench.fly(0.5) is RobotState.FAULT
    assert "policy_lost" in bench.loop.snapshot.cause
    assert np.all(bench.driver.sent[-1] == 0.0)


def test_a_policy_that_asks_for_too_much_gets_the_limit_and_is_counted(policy):
    wrapped = _Wrapped(policy)
    bench = _Bench(wrapped).airborne()
    bench.loop.take_stats()
    wrapped.trouble = lambda answer: {"rotor_speed_target": np.full(4, 1e9, np.float32)}
    bench.fly(0.05)
    assert np.all(bench.driver.sent[-1] <= np.float32(policy.contract.commands[0].upper[0]))
    assert bench.loop.take_stats().clipped >= 16


def test_a_lost_link_lands_but_only_where_there_was_one(policy):
    bench = _Bench(policy).airborne()
    assert bench.fly(3.0) is RobotState.FLYING
    bench.pilot.heartbeat()
    assert bench.fly(0.5) is RobotState.FLYING
    assert bench.fly(1.0) is RobotState.LANDING
    assert "command_link" in bench.loop.snapshot.cause
    assert not bench.pilot.go_to((0.0, 0.0, 1.0)).accepted
    assert bench.fly(8.0) is RobotState.DISARMED
    assert bench.pilot.arm().accepted  # by somebody who is there


def test_streamed_set_points_are_followed_and_a_wild_one_is_refused(policy):
    bench = _Bench(policy).airborne()
    for i in range(150):
        x = 0.4 * (0.01 * i)
        assert bench.pilot.stream((x, 0.0, 0.5), (0.4, 0.0, 0.0), (0.0, 0.0, 0.0)).accepted
        bench.fly(0.01)
    assert bench.position[0] == pytest.approx(0.6, abs=0.1)
    assert "max_path_speed" in bench.pilot.stream((0, 0, 1), (90.0, 0, 0), (0, 0, 0)).message
    assert "max_path_acceleration" in bench.pilot.stream((0, 0, 1), (0, 0, 0), (0, 90.0, 0)).message
    assert "finite" in bench.pilot.stream((0, 0, float("nan")), (0, 0, 0), (0, 0, 0)).message
    assert "finite" in bench.pilot.go_to((0, float("inf"), 1)).message
    assert "leaves the box" in bench.pilot.figure_eight(size=3.0).message
    assert "max_path_speed" in bench.pilot.figure_eight(period=1.0).message


def test_emergency_stop_in_flight_idles_at_once_and_needs_a_reset(policy):
    bench = _Bench(policy).airborne()
    assert bench.pilot.emergency_stop().accepted
    bench.fly(0.01)
    assert np.all(bench.driver.sent[-1] == 0.0)
    assert bench.fly(3.0) is RobotState.FAULT
    assert bench.position[2] == pytest.approx(0.0, abs=0.02)
    assert not bench.pilot.arm().accepted
    assert bench.pilot.disarm().accepted
    bench.fly(0.05)
    assert bench.pilot.arm().accepted


def test_a_defect_of_the_loop_leaves_idle_motors_and_says_so(policy):
    clock = VirtualClock()
    driver = _RecordingDriver(clock=clock)
    seen = []

    def break_down(snapshot):
        seen.append(snapshot)
        if len(seen) == 5:
            raise MemoryError("of the observer")

    loop = ControlLoop(driver, policy, clock=clock, on_tick=break_down)
    loop.connect()
    loop.run()
    assert "of the observer" in loop.snapshot.failure
    assert loop.snapshot.state is RobotState.FAULT
    assert np.all(driver.sent[-1] == 0.0)
    with pytest.raises(DriverError, match="not connected"):
        driver.read()


class _SlowClock(VirtualClock):
    """Loses time now and then, as a busy computer does."""

    def __init__(self, every: int, seconds: float) -> None:
        super().__init__()
        self._every, self._seconds, self._calls = every, seconds, 0

    def sleep_until(self, deadline: float) -> None:
        super().sleep_until(deadline)
        self._calls += 1
        if self._calls % self._every == 0:
            self.advance(self._seconds)


def test_late_ticks_are_counted_skipped_and_never_made_up_for(policy):
    clock = _SlowClock(every=50, seconds=0.035)
    loop = ControlLoop(SimDriver(clock=clock), policy, clock=clock)
    loop.connect()
    loop.run(until=lambda: clock.now() >= 3.0)
    stats = loop.take_stats()
    stretches = stats.ticks // 50
    assert stats.missed == pytest.approx(3 * stretches, abs=stretches)
    assert stats.period.worst == pytest.approx(0.045, abs=0.002)
    assert stats.ticks + stats.missed == pytest.approx(300, abs=4)
    assert stats.period.percentile(50) == pytest.approx(0.01, rel=0.1)


def test_too_many_missed_ticks_in_flight_end_in_a_landing(policy):
    clock = _SlowClock(every=2, seconds=0.04)
    driver = SimDriver(clock=clock)
    loop = ControlLoop(driver, policy, clock=clock)
    loop.connect()

    def script() -> bool:
        if clock.now() > 0.2 and loop.snapshot.state is RobotState.DISARMED:
            loop.pilot.arm()
            loop.pilot.take_off()
        return loop.snapshot.state is RobotState.LANDING or clock.now() > 8.0

    loop.run(until=script)
    assert any("missed_ticks" in t.cause for t in loop.pilot.new_transitions())


DIFFERENCES = {
    "robot": ({"robot": "go1"}, "robot: the policy is for 'go1'"),
    "upper limit": ({"commands": (changed_command(upper=(3000.0,) * 4),)}, "3000"),
    "order": ({"commands": (changed_command(elements=("a", "b", "c", "d")),)}, "elements"),
    "kind": ({"commands": (changed_command(kind="joint_torque"),)}, "kind"),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_policy_for_another_robot_is_refused_with_the_differences(name, tmp_path):
    changes, words = DIFFERENCES[name]
    other = Policy.load(write_pd_policy(tmp_path / "other.onnx", **changes))
    with pytest.raises(ContractMismatch, match=words):
        ControlLoop(SimDriver(), other)


def test_all_differences_are_listed_at_once():
    model = build_model()
    signals = (*FLIGHT_SIGNALS.values(), Signal("image_front", (8, 8, 3)))
    contract = build_contract(model, robot="go1", rate=Rate(0.01, 0.01, 0.01))
    import dataclasses

    class _Only:
        pass

    only = _Only()
    only.contract = dataclasses.replace(contract, signals=signals)
    with pytest.raises(ContractMismatch) as caught:
        ControlLoop(SimDriver(), only, config=LoopConfig(rate_hz=500.0))
    assert len(caught.value.differences) == 3
    assert all(any(word in d for d in caught.value.differences) for word in ("robot", "image_front", "rate"))


@pytest.mark.parametrize("rate", [500.0])
def test_other_rates_that_the_contract_allows_fly_too(policy, rate):
    bench = _Bench(policy, loop=LoopConfig(rate_hz=rate)).airborne()
    assert bench.position[2] == pytest.approx(0.5, abs=0.05)


def test_the_contract_tightens_the_supervisor(tmp_path):
    strict = Policy.load(write_pd_policy(tmp_path / "strict.onnx", safety=Safety(max_speed=0.2)))
    bench = _Bench(strict)
    bench.fly(0.05)
    bench.pilot.arm()
    bench.pilot.take_off()
    bench.fly(3.0)
    assert any("speed" in t.cause and "0.2" in t.cause for t in bench.pilot.new_transitions())


def test_in_real_time_a_thread_flies_lands_on_stop_and_leaves_nothing_behind(policy):
    driver = _RecordingDriver()
    config = LoopConfig(stall_limit=20.0)  # the machine may be busy
    limits = SupervisorConfig(max_missed_fraction=1.0, take_off_height=0.2)
    loop = ControlLoop(driver, policy, supervisor=limits, config=config)
    interval, collecting = sys.getswitchinterval(), gc.isenabled()
    loop.start()
    with pytest.raises(RuntimeError, match="already"):
        loop.start()
    _wait(lambda: "base_pos_w" in loop.snapshot.signals)
    assert loop.pilot.arm().accepted
    assert loop.pilot.take_off().accepted
    _wait(lambda: loop.snapshot.state is RobotState.FLYING)
    loop.stop(land=True)
    assert loop.snapshot.state is RobotState.DISARMED
    assert np.all(driver.sent[-1] == 0.0)
    assert (sys.getswitchinterval(), gc.isenabled()) == (interval, collecting)
    assert not any(t.name == "control_loop" for t in threading.enumerate())
    stats = loop.take_stats()
    assert stats.ticks > 50
    assert stats.policy_time.count > 50
    loop.stop()


class _HangingDriver(_RecordingDriver):
    """Stops answering when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.hang, self.released = threading.Event(), threading.Event()
        self.stopped = threading.Event()

    def read(self):
        if self.hang.is_set():
            self.released.wait(20.0)
        return super().read()

    def stop(self) -> None:
        super().stop()
        self.stopped.set()


def test_a_driver_that_hangs_is_stopped_by_the_second_thread(policy):
    driver = _HangingDriver()
    loop = ControlLoop(driver, policy, config=LoopConfig(stall_limit=3.0))
    loop.start()
    _wait(lambda: "base_pos_w" in loop.snapshot.signals)
    driver.hang.set()
    assert driver.stopped.wait(20.0)
    driver.released.set()
    _wait(lambda: loop.snapshot.state is RobotState.FAULT)
    assert "no tick" in loop.snapshot.cause
    loop.stop()


def _wait(until, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
