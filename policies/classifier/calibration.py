"""How right the probabilities of a classifier are, and which threshold gives which rate of false alarms. numpy only.

Guo et al., On Calibration of Modern Neural Networks (2017), for temperature scaling and the calibration error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
WORST_SUCCESSES = 0.1
"""Share of the successful episodes that a threshold need not look at: the worst ones."""
_TEMPERATURES = np.geomspace(0.02, 50.0, 400)


def probability(logit: Floats, temperature: float = 1.0) -> Floats:
    """1 / (1 + e^(−logit / temperature))."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(logit, np.float64) / temperature)))


def log_loss(logit: Floats, label: Bools, temperature: float = 1.0) -> float:
    """Mean −log of the probability given to what is true."""
    signed = np.where(label, 1.0, -1.0) * np.asarray(logit, np.float64) / temperature
    return float(np.logaddexp(0.0, -signed).mean())


def best_temperature(logit: Floats, label: Bools) -> float:
    """The temperature, 0.02 to 50, that makes `log_loss` smallest; 1 where all labels are equal."""
    if label.all() or not label.any():
        return 1.0
    return float(min(_TEMPERATURES, key=lambda t: log_loss(logit, label, float(t))))


@dataclass(frozen=True)
class ReliabilityRow:
    """Frames whose probability lies in [low, high): how many, their mean probability, the share that is positive."""

    low: float
    high: float
    count: int
    said: float
    true: float


def reliability(p: Floats, label: Bools, bins: int = 10) -> list[ReliabilityRow]:
    """The table, without empty rows."""
    which = np.minimum((np.asarray(p) * bins).astype(int), bins - 1)
    rows = []
    for b in np.unique(which):
        inside = which == b
        rows.append(ReliabilityRow(b / bins, (b + 1) / bins, int(inside.sum()), float(p[inside].mean()),
                                   float(label[inside].mean())))  # fmt: skip
    return rows


def calibration_error(p: Floats, label: Bools, bins: int = 10) -> float:
    """Mean over frames of |said − true| of their row in the reliability table (ECE)."""
    return sum(r.count * abs(r.said - r.true) for r in reliability(p, label, bins)) / len(p)


def roc(p: Floats, label: Bools) -> tuple[Floats, Floats]:
    """(false positive rate, true positive rate) for every threshold, both rising from 0 to 1."""
    order = np.argsort(-np.asarray(p), kind="stable")
    scores, hits = np.asarray(p)[order], np.asarray(label)[order]
    last = np.append(np.nonzero(np.diff(scores))[0], len(scores) - 1)  # equal scores are taken together
    tpr, fpr = np.cumsum(hits)[last] / max(hits.sum(), 1), np.cumsum(~hits)[last] / max((~hits).sum(), 1)
    return np.append(0.0, fpr), np.append(0.0, tpr)


def auc(p: Floats, label: Bools) -> float:
    """Probability that a positive frame gets more than a negative one; NaN where there is only one kind."""
    if label.all() or not label.any():
        return float("nan")
    fpr, tpr = roc(p, label)
    return float(np.trapezoid(tpr, fpr))


@dataclass(frozen=True)
class Confusion:
    """Counts at one threshold."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int


def confusion(p: Floats, label: Bools, threshold: float) -> Confusion:
    """What is said (p > threshold) against what is true."""
    said = np.asarray(p) > threshold
    return Confusion(
        int((said & label).sum()), int((said & ~label).sum()), int((~said & label).sum()), int((~said & ~label).sum())
    )


def largest_by_episode(p: Floats, episode: NDArray[np.int64], where: Bools) -> Floats:
    """The largest p among frames `where`, for each episode that has such frames, in the episodes' order."""
    numbers = np.unique(episode[where])
    return np.array([p[where & (episode == n)].max() for n in numbers])


def threshold_for(alarms: Floats, found: Floats, rate: float) -> float:
    """A threshold above which at most a share `rate` of the episodes raises a false alarm.

    Where successes lie above the lowest such threshold, it is halfway, in log odds, to what all but the worst of them
    reach: episodes to come are no copies of these.

    Args:
        alarms: of each episode, the largest probability among its negative frames.
        found: of each successful episode, the largest among its positive frames.

    Raises:
        ConfigError: no episode, or a rate outside [0, 1).
    """
    if len(alarms) == 0 or len(found) == 0 or not 0.0 <= rate < 1.0:
        raise ConfigError(f"a false-positive rate of {rate} over {len(alarms)} episodes, {len(found)} successful; it "
                          "must be 0 ≤ rate < 1 and there must be held-out episodes")  # fmt: skip
    lowest = float(np.sort(alarms)[::-1][int(rate * len(alarms))])
    reached = float(np.quantile(found, WORST_SUCCESSES))
    if reached <= lowest:
        return lowest
    halfway = 0.5 * (log_odds(lowest) + log_odds(reached))
    return max(lowest, float(probability(np.array(halfway))))


def log_odds(p: float) -> float:
    """log p / (1 − p), kept within ±20."""
    return float(np.clip(np.log(max(p, 1e-12)) - np.log(max(1.0 - p, 1e-12)), -20.0, 20.0))
