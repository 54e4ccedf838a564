"""Environment steps per second of third-party tasks: our workers against Gymnasium's vector environments.

    python benchmarks/third_party_speed.py                                         # HalfCheetah-v5
    python benchmarks/third_party_speed.py --python /venvs/metaworld/bin/python    # and Meta-World's push-v3, there

All of one run, interleaved, medians of several rounds, random actions: ratios hold on a busy machine, absolute numbers
do not. Gymnasium's `AsyncVectorEnv` has one process per environment, so it is measured twice: with as many environments
as ours, and with as many processes as ours, one environment in each. It resets in the same step, as ours does, and runs
in the interpreter of the suite.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "disable")

TASKS = {"HalfCheetah-v5": ("", {}), "Meta-World/MT1": ("metaworld", {"env_name": "push-v3"})}
# Runs in the suite's interpreter and imports nothing of robot_rl: a line with the number of steps in, one with s out.
GYMNASIUM = """
import importlib, json, sys, time
import gymnasium as gym
import numpy as np
name, module, kwargs, count, kind = json.loads(sys.argv[1])
def make():
    if module:
        importlib.import_module(module)
    return gym.make(name, disable_env_checker=True, **kwargs)
if __name__ == "__main__":
    kinds = {"sync": gym.vector.SyncVectorEnv, "async": gym.vector.AsyncVectorEnv}
    env = kinds[kind]([make] * count, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    env.reset(seed=0)
    rng, size = np.random.default_rng(0), env.action_space.shape
    print("ready", flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        for _ in range(int(line)):
            env.step(rng.uniform(-1, 1, size).astype(np.float32))
        print(time.perf_counter() - begin, flush=True)
"""

Timed = Callable[[int], float]
"""Steps of the batch → seconds."""


def gymnasium_steps(python: str, name: str, count: int, kind: str) -> Timed:
    module, kwargs = TASKS[name]
    process = subprocess.Popen(
        [python, "-c", GYMNASIUM, json.dumps([name, module, kwargs, count, kind])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    source, sink = process.stdout, process.stdin
    if source.readline().strip() != "ready":
        raise SystemExit(f"{name} cannot be made by {python}")

    def timed(steps: int) -> float:
        sink.write(f"{steps}\n")
        sink.flush()
        return float(source.readline())

    return timed


def our_steps(python: str, name: str, count: int, workers: int) -> Timed:
    import torch

    from robot_rl.sim.task_spec import make_env

    options: dict[str, Any] = {"workers": workers, "kwargs": TASKS[name][1]}
    if python != sys.executable:
        options["python"] = python
    env = make_env(f"gym:{name}", count, 0, overrides=options)
    generator = torch.Generator().manual_seed(0)

    def timed(steps: int) -> float:
        begin = time.perf_counter()
        for _ in range(steps):
            env.step(2 * torch.rand(count, env.action_dim, generator=generator) - 1)
        return time.perf_counter() - begin

    return timed


def measure(python: str, name: str, count: int, processes: int, steps: int, rounds: int) -> dict[str, float]:
    """Environment steps per second by contender."""
    contenders: dict[str, tuple[Timed, int]] = {
        f"ours, {count} in {processes} workers": (our_steps(python, name, count, processes), count),
        f"AsyncVectorEnv, {count} in {count} processes": (gymnasium_steps(python, name, count, "async"), count),
        f"AsyncVectorEnv, {processes} in {processes}": (gymnasium_steps(python, name, processes, "async"), processes),
        f"SyncVectorEnv, {count} in 1": (gymnasium_steps(python, name, count, "sync"), count),
    }
    if python == sys.executable:
        contenders[f"ours, {count} in this process"] = (our_steps(python, name, count, 0), count)
    rates: dict[str, list[float]] = {label: [] for label in contenders}
    for _ in range(rounds):
        for label, (timed, envs) in contenders.items():
            number = steps // envs
            rates[label].append(envs * number / timed(number))
    return {label: statistics.median(values) for label, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="interpreter with Meta-World; without it only HalfCheetah-v5 is measured")
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2000, help="environment steps per contender and round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    runs = [(sys.executable, "HalfCheetah-v5")] + [(arguments.python, "Meta-World/MT1")] * bool(arguments.python)
    for python, name in runs:
        found = measure(python, name, arguments.envs, arguments.processes, arguments.steps, arguments.rounds)
        ours = next(iter(found.values()))
        print(name)
        for label, rate in found.items():
            print(f"  {label:40} {rate:8.0f} steps/s   ours is {ours / rate:.2f} times as fast")


if __name__ == "__main__":
    main()
