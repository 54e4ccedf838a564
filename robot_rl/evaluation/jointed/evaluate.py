"""One policy file on variants of its task: episodes, intervals, and what was skipped and why."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rl.errors import ConfigError, MissingDependency
from robot_rl.evaluation.jointed.rollout import Episodes, Player, Recording, play
from robot_rl.evaluation.statistics import Interval, bootstrap, wilson

if TYPE_CHECKING:
    from robot_rl.sim.task_spec import TaskSpec

BATCH = 500  # robots at once
PER = 1000.0  # s: failures are told per this much time


@dataclass(frozen=True)
class Summary:
    """What the episodes of one variant say, each with its 95 % interval.

    Attributes:
        success: share, Wilson's interval; NaN where the task does not say.
        failure_rate: failures per 1000 s of simulated time, with the interval of the share of episodes that fail.
        seconds, reward: mean per episode, bootstrap.
        metrics: mean over episodes of each episode's mean, bootstrap.
        violations: by constraint, steps per episode that violate it, bootstrap; worst: the largest violation of all.
    """

    success: Interval
    failure_rate: Interval
    seconds: Interval
    reward: Interval
    metrics: dict[str, Interval]
    violations: dict[str, Interval]
    worst: dict[str, float]


@dataclass(frozen=True)
class VariantResult:
    """One variant of the task.

    Attributes:
        changes: options that differ from the task as registered.
        seed, batch: with `changes` and the number of episodes they fix everything random.
        skipped: why it was not played (then the rest is None), else None. wall_seconds: how long it took.
    """

    name: str
    title: str
    changes: dict[str, Any]
    seed: int
    batch: int
    wall_seconds: float
    episodes: Episodes | None
    summary: Summary | None
    recording: Recording | None
    skipped: str | None = None


def summarise(episodes: Episodes) -> Summary:
    """Intervals of everything that was measured."""
    n, per_episode = len(episodes), float(episodes.seconds.mean())
    failures = wilson(int(episodes.failed.sum()), n)
    unknown = Interval(math.nan, math.nan, math.nan)
    return Summary(
        success=wilson(int(episodes.success.sum()), n) if episodes.judged else unknown,
        failure_rate=Interval(*(PER * x / per_episode for x in (failures.value, failures.lower, failures.upper))),
        seconds=bootstrap(episodes.seconds),
        reward=bootstrap(episodes.reward),
        metrics={name: bootstrap(values) for name, values in episodes.metrics.items()},
        violations={name: bootstrap(values) for name, values in episodes.violations.items()},
        worst={name: float(np.max(values)) for name, values in episodes.worst.items()},
    )


def evaluate_variants(
    policy: str | Path,
    task: TaskSpec,
    variants: str = "quick",
    episodes: int = 1000,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> list[VariantResult]:
    """Play a policy file, or `base:<name>`, on each variant.

    Args:
        variants: names and groups, comma-separated (`sim/articulated/variants.py`).
        episodes: per variant; slow simulators play a share of them.
        changes: options of the task that hold in every variant, before the variant's own.
        progress: called with the variant's title and the share of it that is done.

    Raises:
        ConfigError: no episodes, or a policy that does not fit the task. UnknownName: no such variant or option.
    """
    if episodes < 1:
        raise ConfigError(f"episodes = {episodes}: must be at least 1")
    changed = task.overridden(changes)
    results = []
    for variant, own in changed.tested_variants(variants).values():
        told = None if progress is None else lambda share, title=variant.title: progress(title, share)
        both = {**(changes or {}), **own}
        count = max(min(episodes, 10), round(variant.share * episodes))
        begin, batch = time.monotonic(), min(count, getattr(task.options, "at_once", BATCH))
        table = recording = reason = None
        try:
            table, recording = play(Player(policy, task.overridden(both), batch, seed), count, seed, told)
        except MissingDependency as error:
            reason = str(error)
        summary = None if table is None else summarise(table)
        results.append(
            VariantResult(
                variant.name, variant.title, both, seed, batch, time.monotonic() - begin, table, summary, recording,
                reason,
            )
        )  # fmt: skip
    return results
