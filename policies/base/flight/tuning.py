"""Tune any controller's gains by CMA-ES on a logarithmic scale, with the same number of evaluations for each.

The score comes from the caller (who has the simulator); nothing here knows what is flown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.policies.base.flight.gains import Floats, from_unit, ranges, to_unit

Config = TypeVar("Config")
STEP = 0.08  # first standard deviation of the search, as a share of each gain's (logarithmic) range


@dataclass(frozen=True)
class TuneResult(Generic[Config]):
    """Best configuration, its score (lower is better), the starting score, the best so far after each evaluation."""

    config: Config
    score: float
    start_score: float
    history: tuple[float, ...]


class CmaEs:
    """(μ/μ_w, λ) covariance matrix adaptation with box handling by clipping. Minimises.

    Source: Hansen, "The CMA Evolution Strategy: A Tutorial" (2016), default parameters.
    """

    def __init__(self, start: Floats, step: float, population: int, rng: np.random.Generator) -> None:
        n = len(start)
        self.rng, self.population, self.n = rng, population, n
        self.mean, self.step = np.array(start, dtype=float), step
        raw = math.log(population / 2 + 0.5) - np.log(np.arange(1, population // 2 + 1))
        self.weights = raw / raw.sum()
        mu = 1.0 / float(np.sum(self.weights**2))
        self.mu_eff = mu
        self.c_sigma = (mu + 2) / (n + mu + 5)
        self.damping = 1 + 2 * max(0.0, math.sqrt((mu - 1) / (n + 1)) - 1) + self.c_sigma
        self.c_path = (4 + mu / n) / (n + 4 + 2 * mu / n)
        self.c_one = 2 / ((n + 1.3) ** 2 + mu)
        self.c_mu = min(1 - self.c_one, 2 * (mu - 2 + 1 / mu) / ((n + 2) ** 2 + mu))
        self.expected_norm = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
        self.covariance = np.eye(n)
        self.sigma_path, self.path, self.generation = np.zeros(n), np.zeros(n), 0

    def ask(self) -> Floats:
        """A population (λ, n) in [0, 1]."""
        values, basis = np.linalg.eigh(self.covariance)
        root = basis * np.sqrt(np.maximum(values, 1e-20))
        steps = self.rng.standard_normal((self.population, self.n)) @ root.T
        return np.clip(self.mean + self.step * steps, 0.0, 1.0)

    def tell(self, candidates: Floats, scores: Floats) -> None:
        """Update mean, step size and covariance from the scores (λ,) of `candidates` (λ, n)."""
        self.generation += 1
        best = candidates[np.argsort(scores, kind="stable")[: len(self.weights)]]
        steps = (best - self.mean) / self.step
        move = self.weights @ steps
        self.mean = self.mean + self.step * move
        values, basis = np.linalg.eigh(self.covariance)
        whitened = basis @ ((basis.T @ move) / np.sqrt(np.maximum(values, 1e-20)))
        keep = 1 - self.c_sigma
        self.sigma_path = keep * self.sigma_path + math.sqrt(self.c_sigma * (2 - self.c_sigma) * self.mu_eff) * whitened
        norm = float(np.linalg.norm(self.sigma_path))
        expected = norm / math.sqrt(1 - keep ** (2 * self.generation)) / self.expected_norm
        calm = 1.0 if expected < 1.4 + 2 / (self.n + 1) else 0.0
        c = self.c_path
        self.path = (1 - c) * self.path + calm * math.sqrt(c * (2 - c) * self.mu_eff) * move
        rank_one = np.outer(self.path, self.path) + (1 - calm) * c * (2 - c) * self.covariance
        rank_mu = (steps.T * self.weights) @ steps
        self.covariance = (1 - self.c_one - self.c_mu) * self.covariance + self.c_one * rank_one + self.c_mu * rank_mu
        self.covariance = 0.5 * (self.covariance + self.covariance.T)
        self.step = min(1.0, self.step * math.exp(self.c_sigma / self.damping * (norm / self.expected_norm - 1)))


def tune(
    start: Config,
    evaluate: Callable[[Sequence[Config]], Sequence[float]],
    budget: int,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
) -> TuneResult[Config]:
    """Lower the score by moving the tunable gains of `start`.

    Args:
        start: a frozen dataclass with fields made by `gains.gain`; its own score counts as the first evaluation.
        evaluate: scores of several configurations, lower is better, infinite or NaN for useless; it gets a generation
            at once so that the simulator can fly them side by side.
        budget: number of evaluations, the start included.
        progress: called with (evaluations so far, best score so far).

    Raises:
        ConfigError: nothing to tune, or a budget too small for one generation.
    """
    n = len(ranges(start))
    population = 4 + int(3 * math.log(max(n, 1)))
    if n == 0 or budget < population + 1:
        raise ConfigError(f"tuning {n} gains needs a budget of at least {population + 1} evaluations, got {budget}")
    best, best_score = start, float(_scores(evaluate, [start])[0])
    start_score, history = best_score, [best_score]
    search = CmaEs(to_unit(start), STEP, population, np.random.default_rng(seed))
    while len(history) + population <= budget:
        candidates = search.ask()
        configs = [from_unit(start, candidate) for candidate in candidates]
        scores = _scores(evaluate, configs)
        for config, score in zip(configs, scores, strict=True):
            if score < best_score:
                best, best_score = config, float(score)
            history.append(best_score)
        if progress is not None:
            progress(len(history), best_score)
        search.tell(candidates, scores)
    return TuneResult(best, best_score, start_score, tuple(history))


def _scores(evaluate: Callable[[Sequence[Config]], Sequence[float]], configs: Sequence[Config]) -> Floats:
    """Scores that order: useless configurations come last."""
    values = np.asarray(evaluate(configs), dtype=float)
    return np.where(np.isfinite(values), values, np.inf)
