"""What learning does to the control loop: in the same process, in another one, and not at all.

    python benchmarks/acting_while_learning.py [--task panda-insert] [--pace 1] [--seconds 60] [--algorithm rlpd]

Three ways to learn a task with one simulated robot. `sync` makes `updates_per_step` updates after each step, so its
tick takes as long as they do; `apart` acts in real time in one process and learns in another one as fast as it can
(`robot-rl train --async`); `idle` is the same without any update. `--pace` multiplies the control rate. Shown is
by how much the time from tick to tick differs from the control period; `sync` never waits for its next tick.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl import registry
from robot_rl.config import overlay
from robot_rl.errors import RobotRlError
from robot_rl.policies.algorithm import load_algorithm

WARMUP = 256  # steps before the first update


class Timed:
    """An environment that writes down when it is stepped."""

    def __init__(self, env: Any) -> None:
        self._env, self.times = env, list[float]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def step(self, action: Any) -> Any:
        self.times.append(time.monotonic())
        return self._env.step(action)


def main() -> int:
    """One line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="panda-insert")
    parser.add_argument("--algorithm", default="rlpd")
    parser.add_argument("--pace", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="of acting, after the first updates are due")
    arguments = parser.parse_args()
    control_dt = registry.load("task", arguments.task).rate.control_dt / arguments.pace
    print(f"control period {1e3 * control_dt:.1f} ms; its errors in ms")
    print(f"{'way':6} {'p50':>8} {'p99':>8} {'worst':>8} {'missed':>12} {'steps/s':>8} {'updates/s':>9}")
    for way in ("idle", "apart", "sync"):
        row = _sync(arguments, control_dt) if way == "sync" else _apart(arguments, control_dt, way == "apart")
        print(
            f"{way:6} {row['p50']:8.2f} {row['p99']:8.2f} {row['worst']:8.2f} "
            f"{row['missed']:5.0f} of {row['ticks']:4.0f} "
            f"{row['steps_per_second']:8.1f} {row['updates_per_second']:9.1f}",
            flush=True,
        )
    return 0


def _sync(arguments: argparse.Namespace, control_dt: float) -> Mapping[str, float]:
    spec = load_algorithm(arguments.algorithm)
    config = overlay(spec.config_class(), {"num_envs": 1, "warmup_steps": WARMUP, "steps_per_iteration": 10})
    env: Any = Timed(registry.load("task", arguments.task).overridden({"threads": 1}).make(1, 0, "cpu"))
    learner: Any = spec.create(env, config, 0)
    while learner.steps < WARMUP + 10:
        learner.step(env)
    begun, steps, updates = time.monotonic(), learner.steps, learner.updates
    env.times.clear()
    while time.monotonic() - begun < arguments.seconds:
        learner.step(env)
    seconds, period = time.monotonic() - begun, 1e3 * np.diff(env.times)
    error = np.abs(period - 1e3 * control_dt)
    p50, p99 = np.percentile(error, (50, 99))
    missed = float((period / (1e3 * control_dt)).astype(int).sum())
    return {
        "p50": p50, "p99": p99, "worst": error.max(), "missed": missed, "ticks": len(period),
        "steps_per_second": (learner.steps - steps) / seconds,
        "updates_per_second": (learner.updates - updates) / seconds,
    }  # fmt: skip


def _apart(arguments: argparse.Namespace, control_dt: float, learning: bool) -> Mapping[str, float]:
    steps = WARMUP + round(arguments.seconds / control_dt)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        changes = {
            "num_envs": 1, "warmup_steps": WARMUP if learning else 10**9, "total_steps": steps, "task.threads": 1,
            "steps_per_iteration": 10, "async.pace": arguments.pace, "runner.checkpoint_every": 10**6,
        }  # fmt: skip
        words = ["train", arguments.task, "--algorithm", arguments.algorithm, "--async", "--out", str(run), "--set"]
        words += [f"{name}={value}" for name, value in changes.items()]
        done = subprocess.run([sys.executable, "-m", "robot_rl.cli", *words], capture_output=True, text=True)
        said = re.search(r"(\d+) ticks, .*, worst ([\d.]+) ms, (\d+) missed", done.stderr)
        if done.returncode or said is None:
            raise RobotRlError(f"training ended with {done.returncode}: {done.stderr}")
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["env_steps"] > WARMUP + 10]
    ticks, worst, missed = map(float, said.groups())
    p50, p99 = (rows[-1][f"actor/period_error_p{n}_ms"] for n in (50, 99))
    rates = {n: float(np.mean([r[n] for r in rows])) for n in ("env_steps_per_second", "learner/updates_per_second")}
    return {
        "p50": p50, "p99": p99, "worst": worst - 1e3 * control_dt, "missed": missed, "ticks": ticks,
        "steps_per_second": rates["env_steps_per_second"], "updates_per_second": rates["learner/updates_per_second"],
    }  # fmt: skip


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RobotRlError as error:
        sys.exit(str(error))
