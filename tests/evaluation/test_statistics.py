"""Intervals and tests against published or hand-computed values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robot_rl.errors import ConfigError
from robot_rl.evaluation.statistics import (
    bootstrap,
    holm,
    interquartile_mean,
    mcnemar,
    paired_difference,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "trials", "lower", "upper"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_interval(successes: int, trials: int, lower: float, upper: float) -> None:
    got = wilson(successes, trials)
    assert got.value == successes / trials
    assert got.lower == pytest.approx(lower, abs=5e-5)
    assert got.upper == pytest.approx(upper, abs=5e-5)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(ConfigError, match="successes"):
        wilson(successes, trials)


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    got = bootstrap(values)
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    assert got.value == pytest.approx(values.mean())
    assert got.upper - got.value == pytest.approx(half, rel=0.1)
    assert got.value - got.lower == pytest.approx(half, rel=0.1)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for k in range(200):
        got = bootstrap(rng.exponential(1.0, 60), resamples=400, seed=k)
        hits += got.lower <= 1.0 <= got.upper
    assert 0.88 <= hits / 200 <= 0.98


def test_median_keeps_crashes() -> None:
    values = np.array([0.01] * 70 + [np.inf] * 30)
    assert bootstrap(values, np.median).value == 0.01
    mostly = bootstrap(np.array([0.01] * 45 + [np.inf] * 55), np.median)
    assert mostly.value == np.inf and mostly.lower == 0.01 and mostly.upper == np.inf


def test_bootstrap_of_nothing_is_undefined() -> None:
    assert math.isnan(bootstrap([]).value)


def test_paired_difference_uses_the_pairing() -> None:
    rng = np.random.default_rng(2)
    difficulty = rng.normal(0, 10, 300)
    first, second = difficulty + rng.normal(0.5, 0.5, 300), difficulty + rng.normal(0, 0.5, 300)
    got = paired_difference(first, second)
    assert 0.3 < got.lower < got.value < got.upper < 0.7  # unpaired it would be ± 1.6
    same = paired_difference(first, first, np.median)
    assert (same.value, same.lower, same.upper) == (0.0, 0.0, 0.0)
    with pytest.raises(ConfigError, match="same episodes"):
        paired_difference(first, second[:-1])


def test_paired_difference_of_crashes() -> None:
    crash = np.full(10, np.inf)
    assert paired_difference(crash, crash, np.median).value == 0.0
    assert paired_difference(crash, np.zeros(10), np.median).value == np.inf


def test_mcnemar() -> None:
    both, neither = [True] * 50, [False] * 5
    first = np.array(both + neither + [True] * 9 + [False] * 1)
    second = np.array(both + neither + [False] * 9 + [True] * 1)
    assert mcnemar(first, second) == pytest.approx(2 * (1 + 10) / 2**10)  # binomial, 10 discordant, at most 1
    assert mcnemar(second, first) == mcnemar(first, second)
    assert mcnemar(first, first) == 1.0
    assert mcnemar([True] * 3000, [False] * 3000) == 0.0  # below the smallest float, no overflow


def test_holm() -> None:
    got = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert got == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


def test_interquartile_mean() -> None:
    assert interquartile_mean([100.0, 1, 2, 3, 4, 5, 6, -100]) == pytest.approx(3.5)
