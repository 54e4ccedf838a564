"""Flying a policy file without ROS: the same driver, control loop and supervisor, one scripted mission, one result."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.hardware.clock import Clock, MonotonicClock, VirtualClock
from robot_rl.hardware.control_loop import ControlLoop, LoopConfig, Snapshot
from robot_rl.hardware.driver_choice import make_driver
from robot_rl.hardware.ending import Ending
from robot_rl.hardware.parameters import with_values
from robot_rl.hardware.setpoints import ReferenceLimits
from robot_rl.hardware.supervisor import Answer, Transition
from robot_rl.hardware.supervisor_config import FlightState, SupervisorConfig
from robot_rl.policy import Policy

Log = NDArray[np.float64]


@dataclass(frozen=True)
class RunSettings:
    """All settings of a run without ROS, by group; the same groups as the ROS 2 node's parameters."""

    loop: LoopConfig = field(default_factory=LoopConfig)
    reference: ReferenceLimits = field(default_factory=ReferenceLimits)
    supervisor: SupervisorConfig = field(default_factory=SupervisorConfig)


@dataclass(frozen=True)
class RunResult:
    """A flown mission; T ticks, K command elements.

    Attributes:
        time: (T,) s from the first tick. state: T flight states.
        pos_w, target_pos_w: (T, 3) m, as measured and as asked for. quat_wxyz: (T, 4). command: (T, K).
        measured: (T,) bool, the ticks that count for the error: on the mission's course, after the first 2 s of it.
        success: the mission was flown to its end and the robot landed.
        outcome: in words, with the cause when it failed.
        transitions: every change of state. stats: timing and counts, see `LoopStats.summary`.
    """

    time: Log
    pos_w: Log
    target_pos_w: Log
    quat_wxyz: Log
    command: Log
    state: tuple[FlightState, ...]
    measured: NDArray[np.bool_]
    success: bool
    outcome: str
    transitions: tuple[Transition, ...]
    stats: dict[str, float]

    @property
    def errors(self) -> Log:
        """Distances to the reference in the measured ticks, m."""
        return np.linalg.norm(self.pos_w - self.target_pos_w, axis=1)[self.measured]

    def summary(self) -> dict[str, Any]:
        """What to print, or to write as JSON."""
        errors = self.errors
        figures = {
            "rmse_m": float(np.sqrt(np.mean(errors**2))) if len(errors) else None,
            "max_error_m": float(np.max(errors)) if len(errors) else None,
            "flown_s": float(self.time[-1] - self.time[0]) if len(self.time) else 0.0,
        }
        history = [f"{t.time:.2f} s {t.after.value}: {t.cause}" for t in self.transitions]
        return {"success": self.success, "outcome": self.outcome, **figures, "states": history, "loop": self.stats}


# A script runs between ticks: it makes requests, and each `yield` lets one tick pass.
Script = Generator[None, None, None]
Mission = Callable[["Flight"], Script]


def _hover(flight: Flight) -> Script:
    yield from flight.stay(flight.seconds)


def _figure_eight(flight: Flight) -> Script:
    flight.need(flight.pilot.figure_eight(period=5.5))
    yield from flight.stay(flight.seconds)


def _figure_eight_fast(flight: Flight) -> Script:
    flight.need(flight.pilot.figure_eight(period=3.5))
    yield from flight.stay(flight.seconds)


def _square(flight: Flight) -> Script:
    x, y, z = flight.pilot.reference.current.pos_w.tolist()
    for dx, dy in ((0.5, 0.0), (0.5, 0.5), (0.0, 0.5), (0.0, 0.0)):
        flight.need(flight.pilot.go_to((x + dx, y + dy, z)))
        yield from flight.stay(flight.seconds / 4)


MISSIONS: Mapping[str, Mission] = {
    "hover": _hover,
    "figure-eight": _figure_eight,
    "figure-eight-fast": _figure_eight_fast,
    "square": _square,
}


def run_without_ros(
    policy: str | os.PathLike[str],
    driver: str = "sim",
    mission: str = "hover",
    seconds: float = 10.0,
    *,
    driver_options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    real_time: bool = True,
    on_progress: Callable[[Snapshot], None] | None = None,
) -> RunResult:
    """Arm, take off, fly one mission for `seconds`, land. In the main thread, SIGINT, SIGTERM and SIGHUP end the
    mission with a landing, and a second one idles the motors at once.

    Args:
        policy: a policy file; its golden vectors are replayed first.
        driver: a driver's name, or `package.module:NAME`.
        mission: one of `MISSIONS`.
        driver_options: settings of the driver by name.
        settings: settings of `RunSettings` by dotted name, for example `{"supervisor.max_tilt": 1.0}`.
        real_time: False lets a simulated robot fly as fast as the computer can, with the same result each time.
        on_progress: called after each tick; it must return at once.

    Raises:
        UnknownName, ConfigError: a wrong name or value. ContractError: the policy file is refused.
        ContractMismatch: the policy does not fit the robot. DriverError: the robot cannot be reached.
    """
    if mission not in MISSIONS:
        raise UnknownName("mission", mission, MISSIONS)
    if not 0.0 < seconds < 86400.0:
        raise ConfigError(f"seconds = {seconds}: must lie in (0, 86400)")
    clock = MonotonicClock() if real_time else VirtualClock()
    robot = make_driver(driver, driver_options or {}, clock)
    if not real_time and driver != "sim":
        raise ConfigError(f"driver '{driver}' has its own time; real_time=False is only for the driver 'sim'")
    chosen = with_values(RunSettings(), settings or {})
    recorder = _Recorder(on_progress)
    loop = ControlLoop(
        robot,
        Policy.load(Path(policy)),
        supervisor=chosen.supervisor,
        reference=chosen.reference,
        config=chosen.loop,
        clock=clock,
        on_tick=recorder.add,
    )
    return _flown(loop, recorder, clock, seconds, MISSIONS[mission])


def _flown(loop: ControlLoop, recorder: _Recorder, clock: Clock, seconds: float, mission: Mission) -> RunResult:
    flight = Flight(loop, recorder, clock, seconds, mission)
    loop.connect()
    try:
        with _signals_to(flight):
            loop.run(until=flight.over)
    except KeyboardInterrupt:
        flight.success, flight.outcome = False, "interrupted by the user; motors idle"
    if loop.snapshot.failure:
        flight.outcome = loop.snapshot.failure
    return recorder.result(flight, loop)


@contextmanager
def _signals_to(flight: Flight) -> Generator[None, None, None]:
    """The first signal to end asks the flight to land, the next one raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: object) -> None:
        flight.ending.on_signal(number, frame)
        if flight.ending.hurry:
            raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [(number, signal.signal(number, on_signal)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


class _Aborted(Exception):
    """The mission cannot go on; the text says why."""


class Flight:
    """Steps through arming, take-off, a mission and landing between the ticks of a control loop.

    Attributes:
        pilot: for the mission's requests. seconds: how long the mission shall last.
        success, outcome: how it ended. ending: whether a signal asked it to end.
    """

    def __init__(self, loop: ControlLoop, recorder: _Recorder, clock: Clock, seconds: float, mission: Mission) -> None:
        self._loop, self._recorder, self._clock, self._mission = loop, recorder, clock, mission
        self.pilot, self.seconds = loop.pilot, seconds
        self.success, self.outcome, self.ending = False, "not started", Ending()
        self._counts_from = 0.0
        self._leaving = False
        self._script = self._whole()

    def over(self) -> bool:
        """Asked before each tick; makes the next requests."""
        if self.ending.reason and not self._leaving:
            self._leave(f"interrupted by {self.ending.reason}")
        try:
            next(self._script)
        except StopIteration:
            return True
        except _Aborted as reason:
            self._leave(str(reason))
        return False

    def need(self, answer: Answer) -> None:
        """Go on only if a request was accepted."""
        if not answer.accepted:
            raise _Aborted(answer.message)

    def stay(self, seconds: float) -> Script:
        """Let `seconds` pass in the air; the first 2 s of the mission do not count for its error."""
        end = self._clock.now() + seconds
        while self._clock.now() < end:
            self._recorder.measuring = self._clock.now() >= self._counts_from
            self._expect(FlightState.FLYING)
            yield

    def _whole(self) -> Script:
        yield
        self.need(self.pilot.arm())
        self.need(self.pilot.take_off())
        yield
        while not self._is(FlightState.FLYING):
            self._expect(FlightState.TAKING_OFF)
            yield
        self._counts_from = self._clock.now() + 2.0
        yield from self._mission(self)
        self._recorder.measuring = False
        self.need(self.pilot.land("mission flown"))
        yield
        while not self._is(FlightState.DISARMED):
            self._expect(FlightState.LANDING)
            yield
        self.success, self.outcome = True, "mission flown, landed"

    def _leave(self, reason: str) -> None:
        self._leaving, self.outcome = True, reason
        self._recorder.measuring = False
        self._script = self._come_down()

    def _come_down(self) -> Script:
        self.pilot.land(self.outcome)
        while self._loop.snapshot.state.airborne:
            yield
        last = self._loop.snapshot
        if last.cause not in self.outcome:
            self.outcome += f"; then {last.state.value} ({last.cause})"

    def _is(self, state: FlightState) -> bool:
        return self._loop.snapshot.state is state

    def _expect(self, state: FlightState) -> None:
        now = self._loop.snapshot
        if now.state is not state:
            raise _Aborted(f"{now.state.value} ({now.cause})")


class _Recorder:
    """Keeps what each tick left behind."""

    def __init__(self, on_progress: Callable[[Snapshot], None] | None) -> None:
        self._snapshots: list[Snapshot] = []
        self._measured: list[bool] = []
        self._on_progress = on_progress
        self.measuring = False

    def add(self, snapshot: Snapshot) -> None:
        self._snapshots.append(snapshot)
        self._measured.append(self.measuring and snapshot.state is FlightState.FLYING)
        if self._on_progress is not None:
            self._on_progress(snapshot)

    def result(self, flight: Flight, loop: ControlLoop) -> RunResult:
        kept = [s for s in self._snapshots if s.setpoint is not None]
        start = kept[0].time if kept else 0.0

        def column(values: list[Any], width: int) -> Log:
            return np.asarray(values, np.float64).reshape(len(kept), width)

        def sensed(name: str, width: int) -> Log:
            return column([s.signals.get(name, np.full(width, np.nan)) for s in kept], width)

        commands = [np.concatenate([np.ravel(v) for v in s.command.values()] or [np.zeros(0)]) for s in kept]
        width = max((len(c) for c in commands), default=0)
        return RunResult(
            time=column([s.time - start for s in kept], 1)[:, 0],
            pos_w=sensed("base_pos_w", 3),
            target_pos_w=column([s.setpoint.pos_w for s in kept if s.setpoint is not None], 3),
            quat_wxyz=sensed("base_quat_wxyz", 4),
            command=column([c if len(c) == width else np.full(width, np.nan) for c in commands], width),
            state=tuple(s.state for s in kept),
            measured=np.asarray(self._measured[: len(kept)], bool),
            success=flight.success,
            outcome=flight.outcome,
            transitions=tuple(replace(t, time=t.time - start) for t in flight.pilot.new_transitions()),
            stats=loop.take_stats().summary(),
        )
