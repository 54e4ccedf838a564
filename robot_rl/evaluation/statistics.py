"""Intervals and paired tests for evaluation results, in numpy; no more than the reports use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_rl.errors import ConfigError

Z_95 = 1.959963984540054
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % confidence interval."""

    value: float
    lower: float
    upper: float


def wilson(successes: int, trials: int, z: float = Z_95) -> Interval:
    """Share of successes with Wilson's score interval.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ConfigError(f"{successes} successes of {trials} trials: need 0 ≤ successes ≤ trials and at least 1 trial")
    p, z2 = successes / trials, z * z
    centre = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = z / (1 + z2 / trials) * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials * trials))
    lower = 0.0 if successes == 0 else centre - half
    upper = 1.0 if successes == trials else centre + half
    return Interval(p, lower, upper)


def bootstrap(
    values: ArrayLike,
    statistic: Callable[..., NDArray[Any]] = np.mean,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """`statistic` of the values (n,) with its percentile bootstrap interval. Infinite values are kept; none gives NaN.

    Args:
        statistic: reduces along `axis`, for example np.mean or np.median.
    """
    sample = np.asarray(values, dtype=float)
    if sample.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    draws = np.concatenate(
        [statistic(sample[rng.integers(0, sample.size, (rows, sample.size))], axis=1) for rows in _chunks(resamples)]
    )
    lower, upper = np.percentile(draws, (2.5, 97.5), method="nearest")
    return Interval(float(statistic(sample, axis=0)), float(lower), float(upper))


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Callable[..., NDArray[Any]] = np.mean,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """statistic(first) − statistic(second) over the same episodes, resampled together."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ConfigError(f"paired samples need the same episodes: shapes {a.shape} and {b.shape}")
    if a.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    draws = []
    for rows in _chunks(resamples):
        pick = rng.integers(0, a.size, (rows, a.size))
        draws.append(_difference(statistic(a[pick], axis=1), statistic(b[pick], axis=1)))
    lower, upper = np.percentile(np.concatenate(draws), (2.5, 97.5), method="nearest")
    return Interval(float(_difference(statistic(a, axis=0), statistic(b, axis=0))), float(lower), float(upper))


def mcnemar(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided exact p-value that two policies succeed equally often on the same episodes.

    Args:
        first, second: (n,) bool, success per episode.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape:
        raise ConfigError(f"paired samples need the same episodes: shapes {a.shape} and {b.shape}")
    only_first, only_second = int(np.sum(a & ~b)), int(np.sum(~a & b))
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    tail = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    # Integers first: 2**discordant does not fit a float for many episodes.
    return min(1.0, 2 * tail / 2**discordant)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment of a family of p-values, by name, in the given order."""
    adjusted: dict[str, float] = {}
    running = 0.0
    for i, name in enumerate(sorted(p_values, key=lambda n: p_values[n])):
        running = max(running, min(1.0, (len(p_values) - i) * p_values[name]))
        adjusted[name] = running
    return {name: adjusted[name] for name in p_values}


def interquartile_mean(values: ArrayLike, axis: int = 0) -> NDArray[Any]:
    """Mean of the middle half, the aggregate over training seeds. Source: Agarwal et al., NeurIPS 2021 (rliable)."""
    ordered = np.sort(np.asarray(values, dtype=float), axis=axis)
    n = ordered.shape[axis]
    cut = n // 4
    return np.mean(np.take(ordered, range(cut, n - cut), axis=axis), axis=axis)


def _difference(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Elementwise a − b, 0 where both are the same infinity."""
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0.0, np.subtract(a, b))


def _chunks(total: int, size: int = 250) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]
