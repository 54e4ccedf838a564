"""`robot-rl verify`: does every target compute the same function as the file's golden vectors and as PyTorch?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HELP = "compare PyTorch, onnxruntime, the generated C on this computer and on emulated chips"
TOLERANCE = 2e-6  # of each command's range


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", type=Path)
    parser.add_argument("--target", action="append", dest="targets", metavar="TARGET",
                        help="host, cortex-m4, cortex-m7, rv32 or a board (robot-rl list board); repeatable; "
                             "default host")  # fmt: skip
    parser.add_argument("--run", type=Path, help="run folder of this policy: PyTorch is compared too")
    parser.add_argument("--states", type=int, default=1000, help="fresh states from simulated flights (default 1000)")
    parser.add_argument("--seed", type=int, default=1)


@dataclass(frozen=True)
class Difference:
    """Largest difference of one target, relative to each command's range.

    `states` from onnxruntime on fresh states, `golden` from the contract's vectors.
    """

    target: str
    states: float | None
    golden: float | None
    skipped: str | None = None

    @property
    def passed(self) -> bool:
        found = [x for x in (self.states, self.golden) if x is not None]
        return self.skipped is None and bool(found) and max(found) <= TOLERANCE


def main(arguments: argparse.Namespace) -> int:
    differences = verify(
        arguments.policy, arguments.targets or ["host"], run=arguments.run, states=arguments.states, seed=arguments.seed
    )
    print(f"difference relative to each command's range; allowed {TOLERANCE:g}")
    for d in differences:
        if d.skipped:
            print(f"  {d.target:12} skipped: {d.skipped}")
            continue
        figures = [
            f"{name} {value:.1e}"
            for name, value in ((f"{arguments.states} states", d.states), ("golden", d.golden))
            if value is not None
        ]
        print(f"  {d.target:12} {', '.join(figures)}  {'ok' if d.passed else 'DIFFERS'}")
    return 0 if all(d.passed for d in differences) else 1


def verify(
    policy: Path, targets: list[str], *, run: Path | None = None, states: int = 1000, seed: int = 1
) -> list[Difference]:
    """Replay golden vectors and fresh states on every target; one that cannot be built is skipped with the reason.

    A policy for a robot that is not simulated here is compared on states between its golden ones.

    Raises:
        ConfigError: fewer than one state is asked for.
    """
    from robot_rl.errors import ConfigError, MissingDependency, UnknownName
    from robot_rl.firmware_export.verify import compare_targets
    from robot_rl.policy import Policy

    if states < 1:
        raise ConfigError(f"--states is {states}; at least 1 is needed")
    loaded = Policy.load(policy, verify=False)
    golden = loaded.verify()
    try:
        inputs = fresh_states(policy, states, seed)
    except UnknownName as error:
        print(f"no simulation of this policy ({error}); its states are drawn between the golden ones")
        inputs = states_between_golden(loaded, states, seed)
    out = [Difference("onnxruntime", None, max(golden.max_error.values()))]
    if run is not None:
        out.append(Difference("pytorch", torch_difference(run, loaded, inputs), None))
    for target in targets:
        try:
            row = next(r for r in compare_targets(policy, ("onnxruntime", target), inputs) if r.target == target)
            out.append(Difference(target, row.max_error, row.golden_error))
        except MissingDependency as error:
            out.append(Difference(target, None, None, str(error)))
    return out


def fresh_states(policy: Path, count: int, seed: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(signals, memory) of `count` calls of the policy on simulated robots of its task, at the rates it accepts.

    Raises:
        UnknownName: there is no task here that gives the policy's signals.
    """
    import numpy as np

    from robot_rl.commands.compose import task_of
    from robot_rl.policy import Policy

    rng = np.random.default_rng(seed)
    out: list[tuple[dict[str, Any], dict[str, Any]]] = []
    loaded = Policy.load(policy, verify=False)
    rate, task = loaded.contract.rate, task_of(loaded.contract).with_pictures(loaded.contract.signals)

    def act(signals: Mapping[str, Any]) -> dict[str, Any]:
        wanted = {s.name: signals[s.name][0] for s in loaded.contract.signals}
        memory = {m.name: np.array(loaded.memory[m.name]).reshape(m.shape) for m in loaded.contract.memory}
        out.append((wanted, memory))
        return {name: value[None] for name, value in loaded.act(wanted, time_step=dt).items()}

    while len(out) < count:
        dt = float(np.clip(rng.choice([rate.control_dt, 0.002, 0.005]), rate.min_dt, rate.max_dt))
        loaded.reset()
        task.example_signals(act, min(100, count - len(out)), int(rng.integers(2**31)), dt)
    return out


def states_between_golden(loaded: Any, count: int, seed: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(signals, memory) of `count` consecutive calls with signals between those of two golden steps."""
    import numpy as np

    rng, steps = np.random.default_rng(seed), loaded.contract.golden.steps
    out: list[tuple[dict[str, Any], dict[str, Any]]] = []
    loaded.reset()
    for _ in range(count):
        first, second = (steps[i] for i in rng.integers(len(steps), size=2))
        signals: dict[str, Any] = {}
        for s in loaded.contract.signals:
            a, b = (np.asarray(step.signals[s.name], np.float32).reshape(s.shape) for step in (first, second))
            signals[s.name] = (a + np.float32(rng.random()) * (b - a)).astype(np.float32)
        out.append((signals, {name: value[0] for name, value in loaded.memory.items()}))
        loaded.act(signals)
    return out


def torch_difference(run: Path, loaded: Any, inputs: list[tuple[dict[str, Any], dict[str, Any]]]) -> float:
    """Largest difference between onnxruntime and the run's PyTorch modules over the inputs."""
    import numpy as np
    import torch

    from robot_rl.commands.compose import load_trained, run_folder_of
    from robot_rl.policies.deployed import DeployedPolicy

    trained = load_trained(run_folder_of(run))
    deployed = DeployedPolicy(trained.observer, trained.actor, trained.action_map)
    signals = {n: np.stack([s[n] for s, _ in inputs]) for n in inputs[0][0]}
    memory = {n: np.stack([m[n] for _, m in inputs]) for n in inputs[0][1]}
    found, _ = loaded.step_from(signals, memory)
    with torch.no_grad():
        wanted, _ = deployed(
            {n: torch.from_numpy(v) for n, v in signals.items()}, {n: torch.from_numpy(v) for n, v in memory.items()}
        )
    spans = {c.name: np.subtract(c.upper, c.lower) for c in loaded.contract.commands}
    return max(float(np.max(np.abs(found[n] - wanted[n].numpy()) / spans[n])) for n in found)
