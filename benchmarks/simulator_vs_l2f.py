"""Quadrotor steps per CPU-second: our backends against the `l2f` package, interleaved in one run on one core.

    python benchmarks/simulator_vs_l2f.py                 # ratio at 4096 environments
    python benchmarks/simulator_vs_l2f.py --scaling       # 1 … 1,000,000 environments, bytes per environment
    python benchmarks/simulator_vs_l2f.py --device cuda   # a GPU: torch.compile on the device, wall time

The same work: one RK4 step of 10 ms of 17 states with motor lag, thrust curve and an external force and torque, and
the action written into a 32-step history, which l2f keeps in its state. Ours also computes drag, ground effect, wind
and battery.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from robot_rl.sim.quadrotor import equations as eq
from robot_rl.sim.quadrotor.backend import make_stepper
from robot_rl.sim.robots.crazyflie import ROBOT

ROUNDS = 7


def ours(kind: str, n: int, device: str = "cpu") -> Callable[[], None]:
    """A function that advances n vehicles by one step and records the action."""
    stepper = make_stepper(kind, torch.device(device))
    column = torch.tensor(ROBOT.parameters("l2f").column(), dtype=torch.float32, device=device)
    params = column[:, None].repeat(1, n)
    params[eq.PARAMS.index("fx")] = 1e-3
    state = torch.zeros(eq.STATE_SIZE, n, device=device)
    state[3], state[13:] = 1.0, 0.667
    action = torch.full((4, n), 0.667, device=device)
    history, now = torch.zeros(32, 4, n, device=device), [0]

    def step() -> None:
        nonlocal state
        with torch.no_grad():
            state = stepper(state, params, None, action, None, 0.01)
            history[now[0]] = action
        now[0] = (now[0] + 1) % 32

    return step


def peer(n: int) -> Callable[[], None]:
    """The same with the l2f package; n is one of its compiled sizes."""
    try:
        l2f: Any = importlib.import_module("l2f")
    except ModuleNotFoundError as error:
        raise SystemExit("l2f is not installed; it comes with: pip install 'robot-rl[sim,peers]'") from error
    vector = getattr(l2f, f"vector{n}")
    device, rng, environment = l2f.Device(), vector.VectorRng(), vector.VectorEnvironment()
    params, state, following = vector.VectorParameters(), vector.VectorState(), vector.VectorState()
    vector.initialize_rng(device, rng, 0)
    vector.initialize_environment(device, environment)
    vector.initial_parameters(device, environment, params)
    vector.initial_state(device, environment, params, state)
    action = np.full((n, 4), 0.334, dtype=np.float32)
    pair = [state, following]

    def step() -> None:
        vector.step(device, environment, params, pair[0], action, pair[1], rng)
        pair.reverse()

    return step


def rate(step: Callable[[], None], n: int, seconds: float, clock: Callable[[], float] = time.process_time) -> float:
    """Environment steps per second."""
    step()
    calls, begin = 0, clock()
    while (spent := clock() - begin) < seconds:
        for _ in range(max(1, 40_000 // n)):
            step()
            calls += 1
    return calls * n / spent


def compare(n: int, seconds: float) -> None:
    """Rounds of ours and l2f alternately; median of each and of the ratio."""
    steps = {"l2f": peer(n), **{kind: ours(kind, n) for kind in ("native", "inductor", "eager")}}
    for step in steps.values():
        step()
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            found[name].append(rate(step, n, seconds))
    print(f"{n} environments, one core, M steps per CPU-second (median of {ROUNDS} rounds), ratio to l2f")
    for name, rates in found.items():
        ratio = statistics.median(r / p for r, p in zip(rates, found["l2f"], strict=True))
        print(f"  {name:9} {statistics.median(rates) / 1e6:8.2f}   {ratio:6.2f}x")


def scaling(kind: str, device: str, seconds: float) -> None:
    """Throughput by number of environments; the arrays that one environment occupies."""
    size = 4 * (2 * eq.STATE_SIZE + eq.PARAM_SIZE + 4)
    print(
        f"{kind} on {device}; {size} bytes per environment (state twice, {eq.PARAM_SIZE} parameters, command), "
        "without history"
    )
    for n in (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000):
        step = ours(kind, n, device)
        clock = time.process_time
        if device != "cpu":
            plain = step

            def step(run: Callable[[], None] = plain) -> None:
                run()
                torch.cuda.synchronize()

            clock = time.perf_counter
        step()
        print(f"  {n:>9,} environments: {rate(step, n, seconds, clock) / 1e6:10.3f} M steps/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--envs", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=0.4, help="per measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.device != "cpu":
        scaling("inductor", arguments.device, arguments.seconds)
    elif arguments.scaling:
        scaling("native", "cpu", arguments.seconds)
    else:
        compare(arguments.envs, arguments.seconds)


if __name__ == "__main__":
    main()
