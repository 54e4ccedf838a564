"""`robot-rl actor`: act for a learner in another process, at the control rate."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

HELP = "act in a task for a learner that listens (robot-rl train --listen); never waits for it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="[HOST:]PORT", help="where the learner listens; it says task and settings")
    parser.add_argument(
        "--pace", type=float, default=1.0, help="multiple of real time; 0: as fast as it can (default 1)"
    )
    parser.add_argument("--queue", type=int, default=10_000, metavar="STEPS", help="kept for a learner that is slow or "
                        "gone; then the oldest are dropped, and counted (default 10000)")  # fmt: skip
    parser.add_argument("--pending", type=Path, metavar="FILE", help="where steps that the learner has not got "
                        "are kept when the actor ends, and taken from when it starts")  # fmt: skip
    parser.add_argument("--give-up", type=float, default=0.0, metavar="SECONDS", help="end after so long without a "
                        "learner (default: never)")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="say nothing")


def main(arguments: argparse.Namespace) -> int:
    from robot_rl.hardware.loop_stats import LoopStats
    from robot_rl.hardware.realtime import quiet_interpreter
    from robot_rl.policies.asynchronous.actor import Actor, ActorOptions
    from robot_rl.policies.asynchronous.wire import address_of
    from robot_rl.policies.guards import require_range

    require_range("--pace", arguments.pace, 0.0, 1e3)
    require_range("--queue", arguments.queue, 1, 1e7)
    address, stop = address_of(arguments.address), _stop_on_signals()
    run = _asked(address, arguments.give_up, stop)
    if run is None:
        return 1
    learner, env = _made(run)
    period = env.control_dt / arguments.pace if arguments.pace else 0.0
    options = ActorOptions(period, arguments.queue, arguments.pending, arguments.give_up)
    meter = LoopStats(period)

    def say(message: str) -> None:
        if not arguments.quiet:
            print(f"actor: {message}", file=sys.stderr, flush=True)

    with quiet_interpreter():
        acted = Actor(learner, env, address, uuid.uuid4().hex, options, meter, say).run(stop)
    percentiles = [1e3 * v for v in (meter.period.percentile(50), meter.period.percentile(99), meter.period.worst)]
    say(
        f"{acted.reason}; {acted.ticks} ticks, period p50 {percentiles[0]:.2f}, p99 {percentiles[1]:.2f}, worst "
        f"{percentiles[2]:.2f} ms, {meter.missed} missed; weights taken {acted.taken} times, refused {acted.refused}; "
        f"steps lost {acted.dropped}, left in {arguments.pending}: {acted.pending}"
    )
    return 0


def _asked(address: tuple[str, int], give_up: float, stop: Callable[[], bool]) -> dict[str, Any] | None:
    """What the learner there trains; None where there was none until `stop()` or for `give_up` s."""
    from robot_rl.policies.asynchronous.link import ask_run
    from robot_rl.policies.asynchronous.wire import Gone

    began = time.monotonic()
    while not stop() and not 0.0 < give_up < time.monotonic() - began:
        try:
            return ask_run(address)
        except Gone:
            time.sleep(0.5)
    return None


def _made(run: dict[str, Any]) -> tuple[Any, Any]:
    """Learner and environments like the other side's. Nothing that it says is imported: a task has a listed name.

    Raises:
        ConfigError: it is another one.
    """
    import torch

    from robot_rl import registry
    from robot_rl.commands.compose import judged, make_environment
    from robot_rl.config import overlay
    from robot_rl.errors import ConfigError
    from robot_rl.policies.algorithm import load_algorithm
    from robot_rl.policies.asynchronous.actor import for_acting
    from robot_rl.policies.asynchronous.learner import off_policy
    from robot_rl.sim.foreign.task import from_a_file

    unknown_task = ":" in run["task"] and not from_a_file(run["task"])
    for kind, foreign in (("task", unknown_task), ("algorithm", ":" in run["algorithm"])):
        if foreign:
            raise ConfigError(f"the learner's {kind} '{run[kind]}' would be imported from elsewhere; it must be one of "
                              f"`robot-rl list {kind}`")  # fmt: skip
    torch.set_num_threads(1)
    spec, seed = load_algorithm(run["algorithm"]), (int(run["seed"]) + int(run["steps"]) + 1) % 2**32
    config = for_acting(overlay(spec.config_class(), run["config"]))
    env = make_environment(registry.load("task", run["task"]), spec, config.num_envs, seed, run["task_changes"])
    env = judged(env, run["reward"])
    learner = off_policy(spec, env, config, seed)
    learner.steps = int(run["steps"])
    learner.prepare(env)
    return learner, env


def _stop_on_signals() -> Callable[[], bool]:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop.is_set
