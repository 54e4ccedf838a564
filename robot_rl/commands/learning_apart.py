"""Training with the actor in another process: what `robot-rl train --async` and `--listen` put around the runner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robot_rl.policies.algorithm import AlgorithmSpec
    from robot_rl.policies.asynchronous.server import Server

PENDING = "steps-not-learnt.bin"
ORPHANED = 30.0  # s after which an actor that was started here ends without its learner
ENDING = 30.0  # s that it has for ending
RESTARTS = 2  # of an actor that ended by itself


@contextmanager
def acting_elsewhere(
    spec: AlgorithmSpec, run: Mapping[str, Any], changes: Mapping[str, Any], listen: str, folder: Path, quiet: bool
) -> Iterator[AlgorithmSpec]:
    """The algorithm with its steps from an actor: one that is started here, or whoever calls at the address `listen`.

    Args:
        run: what the actor makes its environment and learner from: task, task_changes, algorithm, config, seed.
        changes: section `async`. folder: the run's.

    Raises:
        ConfigError: a setting outside its range, an address that cannot be listened on.
    """
    from robot_rl.config import overlay
    from robot_rl.policies.asynchronous.learner import asynchronous
    from robot_rl.policies.asynchronous.options import AsyncOptions
    from robot_rl.policies.asynchronous.server import Server
    from robot_rl.policies.asynchronous.wire import address_of

    options = overlay(AsyncOptions(), changes)
    server = Server(*address_of(listen or "127.0.0.1:0"), run)
    over = threading.Event()
    actors = threading.Thread(target=_look_after_actors, args=(server, over, options, folder, quiet), daemon=True)
    try:
        if not listen:
            actors.start()
        elif not quiet:
            print(f"waiting for: robot-rl actor {server.address[0]}:{server.address[1]}", file=sys.stderr, flush=True)
        os.nice(options.nice)
        yield asynchronous(spec, options, server)
    finally:
        server.close()
        over.set()
        if not listen:
            actors.join()


def _look_after_actors(server: Server, over: threading.Event, options: Any, folder: Path, quiet: bool) -> None:
    """Keep one actor alive; where it dies again and again, ask this process to stop, which saves the run."""
    for left in reversed(range(1 + RESTARTS)):
        child = _start_actor(server.address, options, folder, quiet)
        while child.poll() is None and not over.wait(0.1):
            continue
        if over.is_set() or server.finished:
            _end(child)
            return
        then = "another one is started" if left else "training stops"
        print(f"the actor ended with status {child.returncode}: {then}", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


def _start_actor(address: tuple[str, int], options: Any, folder: Path, quiet: bool) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C reaches it through us only, after the last checkpoint."""
    words = [sys.executable, "-m", "robot_rl.cli", "actor", f"{address[0]}:{address[1]}", "--give-up", str(ORPHANED)]
    words += ["--pace", str(options.pace), "--queue", str(options.queue), "--pending", str(folder / PENDING)]
    return subprocess.Popen(words + ["--quiet"] * quiet, start_new_session=True)


def _end(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        child.terminate()
    try:
        child.wait(timeout=ENDING)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        print("the actor did not end and was killed; steps that were not learnt are lost", file=sys.stderr, flush=True)
