"""Training runs: iterate, log, checkpoint, resume exactly, stop cleanly. It knows neither tasks nor algorithms."""

from __future__ import annotations

import dataclasses
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from robot_rl.config import overlay, to_dict
from robot_rl.errors import CheckpointError, ConfigError, NumericalError
from robot_rl.policies import provenance
from robot_rl.policies.algorithm import Algorithm, AlgorithmSpec, load_algorithm
from robot_rl.policies.distributed import SharedStop, joined
from robot_rl.policies.guards import NonFinite, require_range
from robot_rl.policies.random_state import random_state, set_random_state
from robot_rl.policies.run_folder import RunFolder, write_checkpoint
from robot_rl.policies.same_run import require_same_run, stage_before
from robot_rl.policies.shared_run_folder import NoLog, SharedRunFolder
from robot_rl.policies.training_log import MetricsLog, ProgressDisplay
from robot_rl.protocols import BatchedEnv

CHECKPOINT_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class RunnerConfig:
    """How a run is kept; none of it changes what is learnt.

    Attributes:
        checkpoint_every: iterations between checkpoints.
        keep: checkpoints that stay on disk (at least 2).
        tensorboard: write TensorBoard events beside metrics.jsonl.
    """

    checkpoint_every: int = 50
    keep: int = 3
    tensorboard: bool = True

    def __post_init__(self) -> None:
        require_range("checkpoint_every", self.checkpoint_every, 1, 10**9)
        require_range("keep", self.keep, 2, 10**6)


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """What the command line knows about a run and the runner only writes down.

    Attributes:
        task: name of the task; with algorithm, robot, seed and config it must be the same when a run is resumed.
        robot: name of the robot and its parameter set.
        command: what the user typed; empty: taken from this process.
        resume_command: printed when the run is interrupted.
        extra: further plain values for run.json, by which the run is recognised too (changes to the task, …).
    """

    task: str
    robot: str = ""
    command: str = ""
    resume_command: str = ""
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """Outcome of `train`: `completed` is False after Ctrl-C or SIGTERM; times are summed over resumed parts."""

    folder: Path
    completed: bool
    iterations: int
    env_steps: int
    cpu_seconds: float
    algorithm: Algorithm


def train(
    spec: AlgorithmSpec,
    env: BatchedEnv,
    folder: Path | str,
    config: Any,
    *,
    seed: int = 0,
    info: RunInfo,
    resume: bool = False,
    start: Path | None = None,
    runner: RunnerConfig | None = None,
    console: Console | None = None,
) -> TrainResult:
    """Train until the algorithm is done, or until Ctrl-C or SIGTERM, and leave a run folder behind.

    Args:
        spec: the algorithm (see `load_algorithm`).
        env: environments made for the task with `spec.task_overrides`; reset with `seed` by the algorithm.
        folder: run folder; must be new (or empty) unless `resume`.
        config: instance of `spec.config_class`.
        seed: decides everything random.
        info: for run.json.
        resume: go on from the newest readable checkpoint; the result equals an uninterrupted run bit for bit.
        start: another run of the same task and algorithm to go on from in this new one, under other settings: a next
            stage. Counters go on, so the config must ask for more than that run has done.
        runner: checkpoint interval and the like.
        console: where progress is shown; None is silent.

    Raises:
        CheckpointError: the folder holds a run already (without resume), another run (with resume), only damaged
            checkpoints, or cannot be written.
        NumericalError: a number was not finite; the state lies in `nan_dump.pt`.
        ConfigError: torchrun started several processes, which this algorithm cannot use.
    """
    runner = runner or RunnerConfig()
    identity = _identity(spec, config, seed, info)
    with joined() as ranks, _determined(ranks.seed(seed)), _stop_request() as stop:
        if ranks.count > 1 and not spec.distributed:
            raise ConfigError(f"{spec.name} trains in one process; start it without torchrun")
        run, shown = SharedRunFolder(folder, runner.keep, ranks), console if ranks.rank == 0 else None
        algorithm = spec.create(env, config, seed)
        if prepare := getattr(algorithm, "prepare", None):
            prepare(env)
        try:
            first = None if start is None or resume else SharedRunFolder(start, runner.keep, ranks)
            session = _open(run, algorithm, env, identity, spec.may_grow, info, resume, first, runner, shown)
            return session.finish(_iterate(session, spec, ranks.stop(stop), runner, shown))
        finally:
            run.close()


@dataclasses.dataclass
class _Session:
    """One process's part of a run."""

    run: SharedRunFolder
    algorithm: Algorithm
    env: BatchedEnv
    record: dict[str, Any]
    resume_command: str
    log: MetricsLog | NoLog
    iteration: int
    cpu_before: float
    cpu_start: float = dataclasses.field(default_factory=time.process_time)

    @property
    def cpu_seconds(self) -> float:
        return self.cpu_before + time.process_time() - self.cpu_start

    def save(self) -> Path:
        state = {
            "format": CHECKPOINT_FORMAT,
            "iteration": self.iteration,
            "cpu_seconds": self.cpu_seconds,
            "metrics_bytes": self.log.sync(),
            "algorithm": self.algorithm.state_dict(),
            "env": dict(self.env.state_dict()),
            "random": random_state(),
        }
        return self.run.save(self.iteration, state)

    def record_status(self, status: str) -> None:
        done, total = self.algorithm.progress
        self.record |= {
            "status": status,
            "end": _now(),
            "iterations": self.iteration,
            "env_steps": self.algorithm.env_steps,
            "progress": [done, total],
            "cpu_seconds": round(self.cpu_seconds, 3),
        }
        self.run.write_info(self.record)

    def dump(self, error: NonFinite) -> NumericalError:
        """Write nan_dump.pt and give the error to raise."""
        path = self.run.path / "nan_dump.pt"
        state = {"name": error.name, "tensor": error.tensor, "iteration": self.iteration}
        state |= {"algorithm": self.algorithm.state_dict(), "env": dict(self.env.state_dict())}
        write_checkpoint(path, state)
        return NumericalError(
            f"{error}, in iteration {self.iteration + 1}. The state was dumped to {path} (torch.load reads it). "
            f"Look at the tensor there; a smaller learning rate or an earlier checkpoint often helps"
        )

    def finish(self, completed: bool) -> TrainResult:
        return TrainResult(
            self.run.path, completed, self.iteration, self.algorithm.env_steps, self.cpu_seconds, self.algorithm
        )


def _identity(spec: AlgorithmSpec, config: Any, seed: int, info: RunInfo) -> dict[str, Any]:
    return {
        "task": info.task,
        "algorithm": spec.name,
        "robot": info.robot,
        "seed": seed,
        "config": to_dict(config),
        **info.extra,
    }


def _open(
    run: SharedRunFolder,
    algorithm: Algorithm,
    env: BatchedEnv,
    identity: dict[str, Any],
    may_grow: str,
    info: RunInfo,
    resume: bool,
    first: SharedRunFolder | None,
    runner: RunnerConfig,
    console: Console | None,
) -> _Session:
    """Start a run folder, from nothing or from the run `first`, or go back to the newest checkpoint of its own."""

    def say(message: str) -> None:
        if console is not None:
            console.print(message, highlight=False, markup=False, soft_wrap=True)

    state: dict[str, Any] | None = None
    if resume:
        record = run.open_existing()
        require_same_run(run.path, record, identity, may_grow)
        record["config"] = identity["config"]
        state = run.load_newest(say)
        record.setdefault("resumed", []).append(_now())
        if state is None:
            say(f"no checkpoint was written in {run.path} yet: starting from the beginning")
    else:
        state = None if first is None else stage_before(first, identity, say)
        run.open_new()
        record = identity | {"command_line": info.command or provenance.command_line(), "start": _now()}
        record |= {"git_commit": provenance.git_commit(), "versions": provenance.versions()}
        record["runner"] = to_dict(runner)
        if first is not None and state is not None:
            record["from"] = {"run": str(first.path), "iteration": state["iteration"]}
            state["metrics_bytes"] = 0
    run.write_info(record | {"status": "running"})
    log_from = (0, 0) if state is None else (state["metrics_bytes"], state["iteration"])
    log = NoLog() if run.ranks.rank else MetricsLog(run.path, *log_from, tensorboard=runner.tensorboard)
    command = str(record["command_line"]).removesuffix(" --resume")
    resume_command = info.resume_command or f"{command} --resume"
    session = _Session(run, algorithm, env, record, resume_command, log, log_from[1], 0.0)
    if state is not None:
        _restore(state, algorithm, env)
        if not resume:
            _require_more(algorithm, may_grow)
        session.cpu_before = state["cpu_seconds"]
        say(f"{'going on from' if not resume else 'resumed'} {(first or run).path} after iteration {session.iteration}")
    return session


def _require_more(algorithm: Algorithm, may_grow: str) -> None:
    done, total = algorithm.progress
    if done >= total:
        raise ConfigError(
            f"the run before has {done} of {total} behind it already; ask for more, --set {may_grow or 'total_steps'}=…"
        )


@contextmanager
def _fitting() -> Iterator[None]:
    try:
        yield
    except (KeyError, RuntimeError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"the checkpoint does not fit this algorithm or environment: {error}; use the version that wrote it "
            f"(git_commit in run.json), or train anew"
        ) from error


def _restore(state: Mapping[str, Any], algorithm: Algorithm, env: BatchedEnv) -> None:
    if state.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"the checkpoint has format {state.get('format')}, this version reads {CHECKPOINT_FORMAT}; "
            f"resume with the version that wrote it (see run.json) or start a new run"
        )
    with _fitting():
        algorithm.load_state_dict(state["algorithm"])
        env.load_state_dict(state["env"])
    set_random_state(state["random"])


def _iterate(
    session: _Session, spec: AlgorithmSpec, stop: SharedStop, runner: RunnerConfig, console: Console | None
) -> bool:
    """Iterate to the end (True) or to a stop request (False)."""
    algorithm, run = session.algorithm, session.run
    display = ProgressDisplay(console, f"{session.record['task']} {spec.name}", algorithm.progress[1], spec.shown)
    status = "failed"
    try:
        while algorithm.progress[0] < algorithm.progress[1] and not stop.is_set():
            row = _iteration(session)
            display.update(algorithm.progress[0], row)
            if session.iteration % runner.checkpoint_every == 0:
                session.save()
        completed = algorithm.progress[0] >= algorithm.progress[1]
        path = session.save()
        if completed:
            run.keep_only(path)
            display.say(f"done: {run.path}  ({session.cpu_seconds:.1f} CPU-seconds, {algorithm.env_steps:,} steps)")
        else:
            display.say(f"stopped; saved {path}. Go on with:\n  {session.resume_command}")
        status = "completed" if completed else "interrupted"
        return completed
    except NonFinite as error:
        raise session.dump(error) from error
    finally:
        display.close()
        session.log.close()
        if status == "failed":
            with suppress(CheckpointError):  # the first error is the one to show
                session.record_status(status)
        else:
            session.record_status(status)


def _iteration(session: _Session) -> dict[str, float]:
    steps, began = session.algorithm.env_steps, time.perf_counter()
    row = session.algorithm.step(session.env)
    session.iteration += 1
    rate = (session.algorithm.env_steps - steps) / max(time.perf_counter() - began, 1e-9)
    row = {"env_steps": session.algorithm.env_steps, **row, "env_steps_per_second": rate}
    row["cpu_seconds"] = session.cpu_seconds
    session.log.write(session.iteration, row)
    return row


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@contextmanager
def _determined(seed: int) -> Iterator[None]:
    """Seed the global generators for libraries that use them, one thread (more are slower here); then put back."""
    threads = torch.get_num_threads()
    before = random_state()
    torch.set_num_threads(1)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        set_random_state(before)
        torch.set_num_threads(threads)


@contextmanager
def _stop_request() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM ask for a stop after the iteration; a second Ctrl-C stops at once, without saving."""
    stop = threading.Event()

    def request(number: int, frame: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def load_policy(folder: Path | str, env: BatchedEnv) -> nn.Module:
    """The deterministic actor of a run's newest checkpoint: obs (N, n) → action (N, m) in [−1, 1].

    Args:
        folder: run folder.
        env: an environment of the run's task and settings (only its sizes are used).

    Raises:
        CheckpointError: no run there, no checkpoint, or only damaged ones.
    """
    run = RunFolder(folder)
    info = run.read_info()
    spec = load_algorithm(info["algorithm"])
    config = overlay(spec.config_class(), info["config"])
    state = run.load_newest()
    if state is None:
        raise CheckpointError(f"the run in {run.path} has no checkpoint yet; go on training with --resume first")
    with _determined(info["seed"]):
        algorithm = spec.create(env, config, info["seed"])
        with _fitting():
            algorithm.load_state_dict(state["algorithm"])
        return algorithm.policy()
