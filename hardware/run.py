"""Running a policy file without ROS: the same driver, control loop and supervisor, one scripted mission, one result."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.hardware.clock import Clock, MonotonicClock, VirtualClock
from robot_rl.hardware.control_loop import ControlLoop, LoopConfig, Snapshot
from robot_rl.hardware.driver_choice import make_driver
from robot_rl.hardware.ending import Ending
from robot_rl.hardware.missions import MISSIONS, Mission, Place, Script, Velocity, mission_named
from robot_rl.hardware.parameters import with_values
from robot_rl.hardware.recording import Recorder, RunResult
from robot_rl.hardware.setpoints import ReferenceLimits, VelocityLimits
from robot_rl.hardware.supervisor import Answer
from robot_rl.hardware.supervisor_config import RobotState, SupervisorConfig
from robot_rl.policy import Policy


@dataclass(frozen=True)
class RunSettings:
    """All settings of a run without ROS, by group; the same groups as the ROS 2 node's parameters."""

    loop: LoopConfig = field(default_factory=LoopConfig)
    reference: ReferenceLimits = field(default_factory=ReferenceLimits)
    velocity: VelocityLimits = field(default_factory=VelocityLimits)
    supervisor: SupervisorConfig = field(default_factory=SupervisorConfig)


def run_without_ros(
    policy: str | os.PathLike[str],
    driver: str = "sim",
    mission: str = "",
    seconds: float = 10.0,
    *,
    velocity: Velocity = (0.0, 0.0, 0.0),
    goals: Sequence[Place] = (),
    driver_options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    real_time: bool = True,
    on_progress: Callable[[Snapshot], None] | None = None,
) -> RunResult:
    """Arm, get up, do one mission for `seconds`, come down. In the main thread, SIGINT, SIGTERM and SIGHUP end the
    mission by landing or lying down, and a second one stops or damps the motors at once.

    Args:
        policy: a policy file; its golden vectors are replayed first.
        driver: a driver's name, or `package.module:NAME`.
        mission: one of `missions.FLIGHTS` or `missions.WALKS`; empty: the first one for this robot.
        velocity: for the mission `velocity`: forward and sideways m/s, yaw rate rad/s.
        goals: for the mission `goals`: m in the world, one after the other for equal times.
        driver_options: settings of the driver by name.
        settings: settings of `RunSettings` by dotted name, for example `{"supervisor.max_tilt": 1.0}`.
        real_time: False lets a simulated robot move as fast as the computer can, with the same result each time.
        on_progress: called after each tick; it must return at once.

    Raises:
        UnknownName, ConfigError: a wrong name or value. ContractError: the policy file is refused.
        ContractMismatch: the policy does not fit the robot. DriverError: the robot cannot be reached.
    """
    if mission and mission not in MISSIONS:
        raise UnknownName("mission", mission, MISSIONS)
    if not 0.0 < seconds < 86400.0:
        raise ConfigError(f"seconds = {seconds}: must lie in (0, 86400)")
    loaded = Policy.load(Path(policy))
    clock = MonotonicClock() if real_time else VirtualClock()
    robot = make_driver(driver, driver_options or {}, clock, loaded.contract)
    if not real_time and driver != "sim":
        raise ConfigError(f"driver '{driver}' has its own time; real_time=False is only for the driver 'sim'")
    chosen = with_values(RunSettings(), settings or {})
    recorder = Recorder(on_progress)
    loop = ControlLoop(
        robot, loaded, supervisor=chosen.supervisor, reference=chosen.reference, velocity=chosen.velocity,
        config=chosen.loop, clock=clock, on_tick=recorder.add,
    )  # fmt: skip
    run = Run(loop, recorder, clock, mission_named(mission, loop.pilot), seconds, velocity, tuple(goals))
    return _done(run, loop, recorder)


def _done(run: Run, loop: ControlLoop, recorder: Recorder) -> RunResult:
    loop.connect()
    try:
        with _signals_to(run):
            loop.run(until=run.over)
    except KeyboardInterrupt:
        run.success, run.outcome = False, "interrupted by the user; motors idle or damped"
    if loop.snapshot.failure:
        run.outcome = loop.snapshot.failure
    return recorder.result(run.success, run.outcome, loop.pilot.new_transitions(), loop.take_stats().summary())


@contextmanager
def _signals_to(run: Run) -> Generator[None, None, None]:
    """The first signal to end asks the robot to come down, the next one raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: object) -> None:
        run.ending.on_signal(number, frame)
        if run.ending.hurry:
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


class Run:
    """Steps through arming, getting up, a mission and coming down between the ticks of a control loop; a `Course`.

    Attributes:
        pilot, seconds, velocity, goals: for the mission, see `missions.Course`.
        success, outcome: how it ended. ending: whether a signal asked it to end.
    """

    def __init__(
        self,
        loop: ControlLoop,
        recorder: Recorder,
        clock: Clock,
        mission: Mission,
        seconds: float,
        velocity: Velocity = (0.0, 0.0, 0.0),
        goals: tuple[Place, ...] = (),
    ) -> None:
        self._loop, self._recorder, self._clock, self._mission = loop, recorder, clock, mission
        self.pilot, self.seconds, self.velocity, self.goals = loop.pilot, seconds, velocity, goals
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

    def stay(self, seconds: float, meanwhile: Callable[[], Answer] | None = None) -> Script:
        """Let `seconds` pass while the policy leads; the first 2 s of the mission do not count for its error."""
        end = self._clock.now() + seconds
        while self._clock.now() < end:
            self._recorder.measuring = self._clock.now() >= self._counts_from
            self._expect(self._running)
            if meanwhile is not None:
                self.need(meanwhile())
            yield

    @property
    def _running(self) -> RobotState:
        return RobotState.FLYING if self.pilot.flies else RobotState.RUNNING

    def _whole(self) -> Script:
        flies = self.pilot.flies
        yield
        self.need(self.pilot.arm())
        self.need(self.pilot.rise())
        yield
        while not self._is(self._running):
            self._expect(RobotState.TAKING_OFF if flies else RobotState.STANDING_UP)
            yield
        self._counts_from = self._clock.now() + 2.0
        yield from self._mission(self)
        self._recorder.measuring = False
        self.need(self.pilot.descend("mission flown" if flies else "mission done"))
        yield
        while not self._is(RobotState.DISARMED):
            self._expect(RobotState.LANDING if flies else RobotState.LYING_DOWN)
            yield
        self.success, self.outcome = True, "mission flown, landed" if flies else "mission done, lying"

    def _leave(self, reason: str) -> None:
        self._leaving, self.outcome = True, reason
        self._recorder.measuring = False
        self._script = self._come_down()

    def _come_down(self) -> Script:
        self.pilot.descend(self.outcome)
        while self._loop.snapshot.state.moving:
            yield
        last = self._loop.snapshot
        if last.cause not in self.outcome:
            self.outcome += f"; then {last.state.value} ({last.cause})"

    def _is(self, state: RobotState) -> bool:
        return self._loop.snapshot.state is state

    def _expect(self, state: RobotState) -> None:
        now = self._loop.snapshot
        if now.state is not state:
            raise _Aborted(f"{now.state.value} ({now.cause})")
