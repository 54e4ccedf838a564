"""Tune a classical controller on the simulator: one objective and one budget for all of them.

The search is `policies.base.flight.tuning`; here is only what is flown and how it is scored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError
from robot_rl.evaluation.metrics import Episodes, episodes_of, first_of
from robot_rl.evaluation.rollout import fly
from robot_rl.evaluation.scenarios import SCENARIOS, Scenario
from robot_rl.evaluation.targets import BaseTarget

BUDGET = 700  # evaluations, the starting point included; the files in config/base were made with it


@dataclass(frozen=True)
class Task:
    """One part of the objective: a scenario, how many episodes, and its weight."""

    scenario: Scenario
    episodes: int
    weight: float


# Recovery and hover under Learning to Fly's noise and disturbance, the same with a delay such as the default policy is
# trained against, and tracking.
OBJECTIVE = (
    Task(SCENARIOS["nominal"], 80, 1.0),
    Task(SCENARIOS["delay-10ms"].but(duration=3.0), 40, 0.5),
    Task(SCENARIOS["eight-5.5s"].but(turns=1), 8, 1.0),
)


@dataclass(frozen=True)
class TuneReport:
    """What tuning found and where it was written (None: nowhere)."""

    name: str
    config: Any
    score: float
    start_score: float
    evaluations: int
    cpu_seconds: float
    path: Path | None


def score(episodes: Episodes, tracking: bool) -> float:
    """One number, lower is better: 1 % of failures weighs as much as 0.5 cm, smoothly around the edge of the box.

    0.1 per percent of failures, 0.2 per cm of mean steady (hover) or tracking error, 0.05 per 0.01 of command change,
    so that a chattering controller does not win by a hair.
    """
    if tracking:
        failures = np.mean(~episodes.completed)
        error = np.mean(np.minimum(episodes.rmse, 1.5))
    else:
        # The largest distance stands for the largest axis: 0.7 m off along a diagonal is about where the box ends.
        edge = (np.minimum(episodes.max_error, 3.0) - 0.7) / 0.05
        failures = 0.5 * np.mean(~episodes.in_box) + 0.5 * np.mean(1.0 / (1.0 + np.exp(-np.clip(edge, -30, 30))))
        error = np.mean(np.minimum(episodes.steady_error, 1.0))
    return float(10.0 * failures + 20.0 * error + 5.0 * np.mean(episodes.command_change))


class Objective:
    """Scores several configurations of one controller by flying them side by side on the same episodes."""

    def __init__(self, controller: Callable[[Any], Any], tasks: Sequence[Task] = OBJECTIVE, seed: int = 0) -> None:
        self.controller, self.tasks, self.seed = controller, tasks, seed

    def __call__(self, configs: Sequence[Any]) -> list[float]:
        """The weighted sum of `score` over the tasks, one per configuration."""
        target = SideBySide([self.controller(config) for config in configs])
        totals = np.zeros(len(configs))
        for i, task in enumerate(self.tasks):
            chosen = task.scenario
            seed = np.random.SeedSequence([self.seed, i])
            rollout = fly(target, chosen, task.episodes * len(configs), seed, copies=len(configs))
            table = episodes_of(rollout, chosen.tracking)
            for k in range(len(configs)):
                totals[k] += task.weight * score(_block(table, k, task.episodes), chosen.tracking)
        return totals.tolist()


class SideBySide(BaseTarget):
    """Several base policies, each with its own block of vehicles."""

    def __init__(self, policies: Sequence[Any]) -> None:
        super().__init__(None, "side by side")
        self.policies = policies

    def start(self, count: int) -> None:
        for policy in self.policies:
            policy.reset(count // len(self.policies))

    def act(self, signals: Mapping[str, NDArray[Any]], time_step: float) -> NDArray[Any]:
        blocks = {name: np.split(value, len(self.policies)) for name, value in signals.items()}
        commands = []
        for k, policy in enumerate(self.policies):
            mine = {name: value[k] for name, value in blocks.items()}
            mine["time_step"] = np.full((len(mine["base_pos_w"]), 1), time_step, dtype=np.float32)
            commands.append(policy.act(mine)["rotor_speed_target"])
        return np.concatenate(commands)


def tune_controller(
    name: str,
    *,
    budget: int = BUDGET,
    seed: int = 0,
    out: Path | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> TuneReport:
    """Tune the base policy `name`, starting from the defaults in its code, and write the gains to `out` where given.

    Args:
        budget: number of configurations flown; the same for every controller makes them comparable.
        provenance: added to what is written beside the gains (command line, commit, …).

    Raises:
        UnknownName: no such base policy. ConfigError: it has nothing to tune, or the budget is too small.
    """
    import sys

    from robot_rl.policies.base.flight.gains import write_gains
    from robot_rl.policies.base.flight.tuning import tune
    from robot_rl.registry import load

    base = load("base", name)
    config_type = getattr(sys.modules[base.__module__], "CONFIG", None)
    if config_type is None:
        raise ConfigError(f"base policy '{name}' has no gains to tune: its module defines no CONFIG")
    begin = time.process_time()
    result = tune(config_type(), Objective(base, OBJECTIVE, seed), budget, seed, progress)
    spent = time.process_time() - begin
    if out is not None:
        facts = {
            "objective": [f"{t.weight:g} x {t.scenario.name}, {t.episodes} episodes" for t in OBJECTIVE],
            "search": "CMA-ES on the logarithm of the gains",
            "evaluations": len(result.history),
            "seed": seed,
            "score": round(result.score, 5),
            "score_of_defaults": round(result.start_score, 5),
        }
        write_gains(result.config, out, facts | dict(provenance or {}))
    return TuneReport(name, result.config, result.score, result.start_score, len(result.history), spent, out)


def _block(table: Episodes, k: int, size: int) -> Episodes:
    """Episodes of the k-th block of `size`."""
    from dataclasses import fields

    return first_of(Episodes(**{f.name: getattr(table, f.name)[k * size :] for f in fields(Episodes)}), size)
