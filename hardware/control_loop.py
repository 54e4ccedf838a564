"""The control loop: one thread at the control rate that reads, decides and writes; nothing else ever writes to the
robot.

`driver.read → supervisor → reference → policy → safety filter → driver.write`, on absolute deadlines of a monotonic
clock. ROS 2, files and people sit around it: they call the thread-safe requests and look at `snapshot`. An exception of
the policy or the driver is a condition for the supervisor; any other one brings the motors to rest and ends the loop.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from robot_rl.contract import Contract
from robot_rl.hardware.clock import Clock, MonotonicClock
from robot_rl.hardware.fit import agreed_commands, check_fit, sensed_names
from robot_rl.hardware.kind_of import kind_of
from robot_rl.hardware.loop_stats import LoopStats
from robot_rl.hardware.monitors import BATTERY_SIGNAL, Observation
from robot_rl.hardware.parameters import check_settings, setting
from robot_rl.hardware.pilot import Pilot
from robot_rl.hardware.realtime import quiet_interpreter
from robot_rl.hardware.samples import Samples
from robot_rl.hardware.setpoints import AnySetpoint, ReferenceLimits, VelocityLimits
from robot_rl.hardware.supervisor import Supervisor
from robot_rl.hardware.supervisor_config import RobotState, SupervisorConfig
from robot_rl.protocols import Array, Driver, JointDriver

_LOG = logging.getLogger("robot_rl.hardware")


class RunnablePolicy(Protocol):
    """What the loop needs of `robot_rl.policy.Policy`."""

    contract: Contract

    def reset(self) -> None: ...

    def act(self, signals: Mapping[str, Array], time_step: float | None = None) -> dict[str, Array]: ...


@dataclass(frozen=True)
class LoopConfig:
    """Rate and threads of the loop."""

    rate_hz: float = setting(0.0, "control rate in Hz; 0 takes the policy's own", 0.0, 2000.0)
    realtime_priority: int = setting(0, "SCHED_FIFO priority of the loop's thread; 0: none", 0, 99)
    stall_limit: float = setting(1.0, "seconds without a tick after which a second thread stops the robot", 0.1, 30.0)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Snapshot:
    """One tick as others may see it; arrays must not be written to.

    Attributes:
        time: s on the loop's clock. state, cause: the supervisor's.
        signals, stamps: newest usable samples and when they were measured.
        setpoint: the reference. command: what the driver says it sent; empty while joints are damped.
        active: the supervisor's conditions that hold. failure: why the loop ended, or empty.
    """

    time: float = 0.0
    state: RobotState = RobotState.DISARMED
    cause: str = "not started"
    signals: Mapping[str, Array] = field(default_factory=dict)
    stamps: Mapping[str, float] = field(default_factory=dict)
    setpoint: AnySetpoint | None = None
    command: Mapping[str, Array] = field(default_factory=dict)
    active: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""


class ControlLoop:
    """One robot, one policy, one thread. Requests (`pilot.arm`, `pilot.go_to`, …) may come from any thread.

    Attributes:
        pilot: the requests.
        snapshot: the last tick.
        control_dt: period in s.
    """

    def __init__(
        self,
        driver: Driver,
        policy: RunnablePolicy,
        *,
        supervisor: SupervisorConfig | None = None,
        reference: ReferenceLimits | None = None,
        velocity: VelocityLimits | None = None,
        config: LoopConfig | None = None,
        clock: Clock | None = None,
        on_tick: Callable[[Snapshot], None] | None = None,
    ) -> None:
        """Raises ContractMismatch when the policy does not fit the driver or the rate. Touches no hardware."""
        contract = policy.contract
        self.config = config or LoopConfig()
        self.control_dt = 1.0 / self.config.rate_hz if self.config.rate_hz else contract.rate.control_dt
        check_fit(contract, driver, self.control_dt)
        self._driver, self._policy, self._on_tick = driver, policy, on_tick
        self._joints = driver if isinstance(driver, JointDriver) else None
        self._clock = clock or MonotonicClock()
        limits = (supervisor or SupervisorConfig()).tightened(contract.safety)
        if self._joints is not None and self._joints.gains and not contract.gains:
            _LOG.warning("the policy does not say which gains it was trained with; %s uses %s", driver.name,
                         dict(self._joints.gains))  # fmt: skip
        commands = agreed_commands(contract, driver)
        self._kind = kind_of(driver, contract, commands, limits, reference, velocity)
        self._supervisor = Supervisor(commands, limits, self._kind)
        self._lock = threading.Lock()
        self.pilot = Pilot(self._supervisor, self._kind, self._clock, self._lock)
        self._shapes = {s.name: s.shape for s in driver.signals}
        watched = dict.fromkeys((*self._kind.state_signals, BATTERY_SIGNAL, *sensed_names(contract)))
        ages = {s.name: s.max_age for s in driver.signals} | {s.name: s.max_age for s in contract.signals}
        self._max_ages = {name: ages[name] for name in watched if name in ages}
        self._samples = Samples(driver.signals)
        self._stats = LoopStats(self.control_dt)
        self._missed: deque[tuple[float, int]] = deque()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._last_taken: float | None = None
        self._driver_error = ""
        self._policy_error = ""
        self._led = False
        self._state = RobotState.DISARMED
        self._next_collection = 0.0
        self._heartbeat = 0.0
        self.snapshot = Snapshot()

    def connect(self) -> None:
        """Reach the robot and run the policy once, so that its first call in flight is not its slowest.

        Raises:
            DriverError: no connection; the message says what to check.
        """
        level = {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()}
        level |= {n: np.array([1, 0, 0, 0], np.float32) for n in level if n.endswith("quat_wxyz")}
        try:
            self._driver.connect()
            self._policy.act({**level, **self._kind.reference.current.signals()}, self.control_dt)
            self._policy.reset()
        except Exception:
            self._stop_driver()
            raise

    def start(self) -> None:
        """Connect and run in a thread until `stop`. Raises DriverError, or RuntimeError when running already."""
        if self._thread is not None:
            raise RuntimeError("the control loop is running already")
        self._samples.clear()
        self._missed.clear()
        self._last_taken, self._state = None, self._supervisor.state
        self.snapshot = Snapshot(self._clock.now(), self._supervisor.state, self._supervisor.cause)
        self.connect()
        self._stop.clear()
        self._thread = threading.Thread(target=self.run, name="control_loop", daemon=True)
        self._thread.start()

    def stop(self, land: bool = False, wait: Callable[[float], object] = time.sleep) -> None:
        """End the loop with motors at rest and a robot that must be armed anew; with `land`, land or lie down first if
        that is still possible, calling `wait(seconds)` until it has. Idempotent.
        """
        thread = self._thread
        if thread is not None:
            if land and thread.is_alive():
                self.pilot.descend("the loop is being stopped")
                self._wait_until_down(thread, wait)
            self._stop.set()
            self._close("the control loop was stopped")  # whatever a late tick still writes is idle
            thread.join(timeout=2.0 + 2.0 * self.control_dt)
            if thread.is_alive():
                _LOG.error("the control loop did not end: the driver or the policy hangs")
            else:
                self._thread = None
        self._stop_driver()

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """The loop itself, in the calling thread, until `stop` is called or `until()`; the motors are idle
        afterwards.
        """
        ended = threading.Event()
        self._heartbeat = self._clock.now()
        threading.Thread(target=self._guard_stalls, args=(ended,), name="stall_guard", daemon=True).start()
        try:
            with quiet_interpreter(self.config.realtime_priority):
                self._run(until or (lambda: False))
        except Exception as error:  # a defect of the loop: nothing may be left turning
            _LOG.exception("the control loop failed")
            self.pilot.emergency_stop(f"control loop failed: {error}")
            self.snapshot = Snapshot(self._clock.now(), RobotState.FAULT, "loop failure", failure=repr(error))
        finally:
            ended.set()
            self._close("the control loop was ended")
            self._write(self._supervisor.rest())
            self._stop_driver()

    def take_stats(self) -> LoopStats:
        """What was measured since the last call."""
        with self._lock:
            stats, self._stats = self._stats, LoopStats(self.control_dt)
        return stats

    def tick(self) -> Snapshot:
        """One control step, now."""
        start = self._clock.now()
        bad = self._read()
        # A policy that differentiates its signals must know how far apart they are, not when it was asked.
        taken = self._clock.now()
        dt = self.control_dt if self._last_taken is None else max(taken - self._last_taken, 0.0)
        obs = self._observe(taken, bad)
        with self._lock:
            if self._last_taken is not None:
                self._stats.add_period(dt)
            self._stats.add_ages(obs.ages)
            state = self._supervisor.watch(obs, taken)
            before, self._state = self._state, state
            setpoint = self._kind.guide(state, state is not before, self._samples.values, dt)
        proposed = self._propose(setpoint, dt)
        with self._lock:
            decision = self._supervisor.command(proposed, dt)
            self._policy_error = self._policy_error or self._supervisor.policy_error
            self._stats.clipped += decision.clipped
            self._stats.interventions += any(e in ("hold", "idle") for e in decision.events)
            state, cause, active = self._supervisor.state, self._supervisor.cause, dict(self._supervisor.active)
        sent = self._write(decision.command)
        self._last_taken = taken
        values, stamps = dict(self._samples.values), dict(self._samples.stamps)
        self.snapshot = Snapshot(taken, state, cause, values, stamps, setpoint, sent, active)
        if self._on_tick is not None:
            self._on_tick(self.snapshot)
        with self._lock:
            self._stats.ticks += 1
            self._stats.tick_time.add(self._clock.now() - start)
        return self.snapshot

    def _run(self, until: Callable[[], bool]) -> None:
        deadline = self._clock.now()
        while not self._stop.is_set() and not until():
            self._heartbeat = self._clock.now()
            self.tick()
            self._collect_garbage()
            deadline += self.control_dt
            late = self._clock.now() - deadline
            skipped = int(late / self.control_dt) if late > 0.0 else 0
            if skipped:
                deadline += skipped * self.control_dt
                self._missed.append((self._clock.now(), skipped))
                with self._lock:
                    self._stats.missed += skipped
            self._clock.sleep_until(deadline)

    def _read(self) -> tuple[str, ...]:
        """Take in the driver's newest samples; returns the names of those that cannot be used."""
        try:
            reading = self._driver.read()
            return self._samples.take(reading, self._clock.now())
        except Exception as error:  # whatever a driver raises, the answer is the same: there is no new sample
            self._count("driver_errors", f"driver {self._driver.name} could not be read: {error}")
            return ()

    def _observe(self, now: float, bad: tuple[str, ...]) -> Observation:
        while self._missed and self._missed[0][0] < now - 1.0:
            self._missed.popleft()
        missed = sum(count for _, count in self._missed)
        return Observation(
            signals=dict(self._samples.values),
            ages={name: self._samples.age(name, now) for name in self._max_ages},
            max_ages=self._max_ages,
            bad=bad,
            reference=self._kind.reference.current,
            missed_fraction=min(1.0, missed * self.control_dt),
            link_age=self.pilot.link_age(now),
            driver_error=self._driver_error,
            policy_error=self._policy_error,
            needed=self._kind.state_signals,
        )

    def _propose(self, setpoint: AnySetpoint, dt: float) -> dict[str, Array] | None:
        """The policy's command, or None with `_policy_error` set; None as well where it does not lead."""
        self._policy_error = ""
        led_before, self._led = self._led, self._supervisor.policy_leads
        if not self._led:
            return None
        start = self._clock.now()
        try:
            if not led_before:
                self._policy.reset()
            proposed = self._policy.act({**self._samples.values, **setpoint.signals()}, dt)
        except Exception as error:  # a policy must never be able to end the loop
            self._policy_error = f"{type(error).__name__}: {error}"
            self._count("policy_errors", f"the policy failed: {error}")
            return None
        with self._lock:
            self._stats.policy_time.add(self._clock.now() - start)
        return proposed

    def _write(self, command: Mapping[str, Array] | None) -> Mapping[str, Array]:
        try:
            sent = self._driver.write(command) if command is not None else self._damp()
        except Exception as error:  # as in _read; the supervisor decides
            self._driver_error = f"{type(error).__name__}: {error}"  # never empty, whatever was raised
            self._count("driver_errors", f"driver {self._driver.name} could not be written to: {error}")
            return {}
        self._driver_error = ""
        return sent

    def _damp(self) -> Mapping[str, Array]:
        assert self._joints is not None  # `check_fit` has seen to it
        self._joints.damp()
        return {}

    def _count(self, counter: str, message: str) -> None:
        """Count an error; only the first of each second is logged."""
        with self._lock:
            first = getattr(self._stats, counter) == 0
            setattr(self._stats, counter, getattr(self._stats, counter) + 1)
        if first:
            _LOG.warning(message)

    def _collect_garbage(self) -> None:
        """Young garbage, once a second, right after a write: the automatic collection is off while the loop runs."""
        now = self._clock.now()
        if now >= self._next_collection:
            gc.collect(0)
            self._next_collection = now + 1.0

    def _wait_until_down(self, thread: threading.Thread, wait: Callable[[float], object]) -> None:
        deadline = time.monotonic() + self._supervisor.config.landing_time
        while self._supervisor.state.moving and time.monotonic() < deadline and thread.is_alive():
            wait(0.02)

    def _close(self, cause: str) -> None:
        """Leave a state from which nothing can move until somebody arms again."""
        with self._lock:
            self._supervisor.close(self._clock.now(), cause)
            self._state = self._supervisor.state
            self.snapshot = replace(self.snapshot, state=self._state, cause=self._supervisor.cause)

    def _stop_driver(self) -> None:
        try:
            self._driver.stop()
        except Exception:  # it must not, but nothing of ours may be left undone because it does
            _LOG.exception("driver %s could not be stopped", self._driver.name)

    def _guard_stalls(self, ended: threading.Event) -> None:
        """Second thread: a driver or policy that hangs must not leave the last command standing."""
        while not ended.wait(0.1):
            silent = self._clock.now() - self._heartbeat
            if silent > self.config.stall_limit:
                self.pilot.emergency_stop(f"no tick of the control loop for {silent:.1f} s")
                self._stop_driver()
                return
