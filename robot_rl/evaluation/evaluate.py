"""Evaluate any policy on any scenario, and compare two on the same episodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError
from robot_rl.evaluation.metrics import Episodes, Summary, episodes_of, first_of, joined, summarise
from robot_rl.evaluation.rollout import Rollout, fly
from robot_rl.evaluation.scenarios import Scenario, scenario
from robot_rl.evaluation.statistics import Interval, holm, mcnemar, paired_difference
from robot_rl.evaluation.targets import Target, as_target

BATCH = 250  # vehicles flown at once; more is not faster on one core
KEPT = 60  # trajectories of the first batch kept for pictures


@dataclass(frozen=True)
class EvalResult:
    """One policy on one scenario.

    Attributes:
        policy: its name. skipped: why it was not flown (then `episodes` and `summary` are None), else None.
        seed, batch: with the scenario and the number of episodes they fix every start, disturbance and noise sample.
        distance: (T, N) float32 distance to the target in m of all episodes, infinite once lost; times: (T,) s.
        sample: the recorded flight of the first few episodes, for pictures.
    """

    policy: str
    scenario: Scenario
    seed: int
    batch: int
    episodes: Episodes | None
    summary: Summary | None
    times: NDArray[np.float64]
    distance: NDArray[np.float32]
    sample: Rollout | None
    skipped: str | None = None


def evaluate(
    policy: Any,
    scenario_or_name: Scenario | str = "nominal",
    episodes: int = 1000,
    seed: int = 0,
    *,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EvalResult:
    """Fly `episodes` episodes in closed loop and measure them.

    Args:
        policy: a policy file, `base:<name>`, or an object with `act` and `reset` (see `targets.as_target`).
        seed: of the evaluation; the same seed gives two policies the same episodes when they serve the same batch.
        progress: called with (episodes done, episodes in all).

    Raises:
        ConfigError: no episodes, or a vehicle that cannot fly. Whatever loading the policy raises.
    """
    if episodes < 1:
        raise ConfigError(f"episodes = {episodes}: must be at least 1")
    chosen = scenario(scenario_or_name) if isinstance(scenario_or_name, str) else scenario_or_name
    target = as_target(policy, name)
    batch = target.batch or min(BATCH, episodes)
    reason = target.refusal(chosen)
    if reason is not None:
        none = np.zeros(0)
        empty = np.zeros((0, 0), dtype=np.float32)
        return EvalResult(target.name, chosen, seed, batch, None, None, none, empty, None, reason)
    parts: list[Episodes] = []
    distances: list[NDArray[np.float32]] = []
    calls: list[NDArray[np.float64]] = []
    samples: list[Rollout] = []
    while len(parts) * batch < episodes:
        rollout = fly(target, chosen, batch, np.random.SeedSequence([seed, len(parts)]))
        parts.append(episodes_of(rollout, chosen.tracking))
        distances.append(_distance(rollout))
        calls.append(rollout.call_seconds)
        if sum(r.position.shape[1] for r in samples) < KEPT:
            samples.append(_shortened(rollout, KEPT))
        if progress is not None:
            progress(min(episodes, len(parts) * batch), episodes)
    table = first_of(joined(parts), episodes)
    timing = {"call_microseconds": 1e6 * float(np.median(np.concatenate(calls))), "batch": batch}
    summary = summarise(table, chosen.tracking, timing)
    distance = np.concatenate(distances, axis=1)[:, :episodes]
    return EvalResult(
        target.name, chosen, seed, batch, table, summary, samples[0].times, distance, _side_by_side(samples, episodes)
    )


def evaluate_table(
    policies: Sequence[Any],
    scenarios: Iterable[Scenario],
    episodes: int = 1000,
    seed: int = 0,
    *,
    tracking_episodes: int | None = None,
    progress: Callable[[str, str], None] | None = None,
) -> list[EvalResult]:
    """Every policy on every scenario, scenario by scenario.

    Args:
        tracking_episodes: episodes of figure-eights, which start alike; default a fifth of `episodes`, at least 20.
        progress: called with (policy name, scenario title) before each.
    """
    targets = [as_target(p) for p in policies]
    fewer = tracking_episodes if tracking_episodes is not None else min(episodes, max(20, episodes // 5))
    results = []
    for chosen in scenarios:
        for target in targets:
            if progress is not None:
                progress(target.name, chosen.title)
            results.append(evaluate(target, chosen, fewer if chosen.tracking else episodes, seed))
    return results


def distinct(policies: Sequence[Any]) -> list[Target]:
    """Load each; where two would have one name in the tables, files are called by their path.

    Raises:
        ConfigError: the same policy twice. Whatever loading a policy raises.
    """
    targets = [as_target(p) for p in policies]
    names = [t.name for t in targets]
    for target, given in zip(targets, policies, strict=True):
        if names.count(target.name) > 1 and isinstance(given, (str, Path)) and not str(given).startswith("base:"):
            target.name = str(given)
    again = sorted({t.name for t in targets if [o.name for o in targets].count(t.name) > 1})
    if again:
        raise ConfigError(f"'{again[0]}' is given twice; each policy and baseline is flown once")
    return targets


@dataclass(frozen=True)
class Comparison:
    """Two policies on the same episodes of one scenario; differences are first − second.

    Attributes:
        survival: difference of success shares with paired bootstrap interval; p_value of the exact McNemar test, and
            after Holm's correction over the family compared.
        error: difference of median steady errors (hover) or, over episodes that neither failed, of mean RMSE
            (figure-eight), m.
    """

    first: str
    second: str
    scenario: str
    survival: Interval
    p_value: float
    p_value_holm: float
    error: Interval


def compare(first: Sequence[EvalResult], second: Sequence[EvalResult]) -> list[Comparison]:
    """Paired comparison scenario by scenario, with Holm's correction over the scenarios; skipped ones are left out.

    Raises:
        ConfigError: results that do not come from the same episodes.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a.skipped is None and b.skipped is None]
    for a, b in pairs:
        mine, theirs = (a.scenario, a.seed, a.batch, a.distance.shape), (b.scenario, b.seed, b.batch, b.distance.shape)
        if mine != theirs:
            raise ConfigError(f"'{a.policy}' and '{b.policy}' were not flown on the same episodes: {mine} and {theirs}")
    p_values = {a.scenario.name: mcnemar(_success(a), _success(b)) for a, b in pairs}
    adjusted = holm(p_values)
    return [
        Comparison(
            a.policy,
            b.policy,
            a.scenario.name,
            paired_difference(_success(a), _success(b)),
            p_values[a.scenario.name],
            adjusted[a.scenario.name],
            _error_difference(a, b),
        )
        for a, b in pairs
    ]


def _success(result: EvalResult) -> NDArray[np.bool_]:
    assert result.episodes is not None
    return result.episodes.success(result.scenario.tracking)


def _error_difference(a: EvalResult, b: EvalResult) -> Interval:
    assert a.episodes is not None and b.episodes is not None
    if not a.scenario.tracking:
        return paired_difference(a.episodes.steady_error, b.episodes.steady_error, np.median)
    both = np.isfinite(a.episodes.rmse) & np.isfinite(b.episodes.rmse)
    if not both.any():
        return Interval(math.nan, math.nan, math.nan)
    return paired_difference(a.episodes.rmse[both], b.episodes.rmse[both], np.mean)


def _distance(rollout: Rollout) -> NDArray[np.float32]:
    length = np.linalg.norm(rollout.error, axis=2)
    return np.where(np.isfinite(length), length, np.inf).astype(np.float32)


def _shortened(rollout: Rollout, count: int) -> Rollout:
    """The first `count` vehicles of a rollout, copied so that the rest can be freed."""
    kept = {
        name: getattr(rollout, name)[:, :count].copy() for name in ("position", "quat_wxyz", "body_rate", "command")
    }
    return Rollout(rollout.times, rollout.reference, settled=rollout.settled, call_seconds=rollout.call_seconds, **kept)


def _side_by_side(samples: list[Rollout], episodes: int) -> Rollout:
    count = min(KEPT, episodes)
    first = samples[0]
    if len(samples) == 1:
        return _shortened(first, count)
    kept = {
        name: np.concatenate([getattr(s, name) for s in samples], axis=1)[:, :count]
        for name in ("position", "quat_wxyz", "body_rate", "command")
    }
    return Rollout(first.times, first.reference, settled=first.settled, call_seconds=first.call_seconds, **kept)


def target_of(policy: Any, name: str | None = None) -> Target:
    """Load once what is evaluated many times; the result may be passed wherever a policy is asked for."""
    return as_target(policy, name)
