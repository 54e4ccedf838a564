"""What the control loop measures about itself, in numbers that add up: seconds merge into minutes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Edges in s of the histograms behind the percentiles: 1 µs to 10 s, 40 to a decade, so a percentile is right within 6
# %.
_EDGES = np.logspace(-6, 1, 7 * 40 + 1)


@dataclass
class Spread:
    """Count, mean, extremes and percentiles of a duration, without keeping the samples. Unit: s."""

    count: int = 0
    total: float = 0.0
    worst: float = 0.0
    bins: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_EDGES) + 1, np.int64))

    def add(self, value: float) -> None:
        """Take in one duration; its sign is dropped."""
        size = abs(value)
        self.count += 1
        self.total += size
        self.worst = max(self.worst, size)
        self.bins[int(np.searchsorted(_EDGES, size))] += 1

    def merged(self, other: Spread) -> Spread:
        """Both together."""
        worst = max(self.worst, other.worst)
        return Spread(self.count + other.count, self.total + other.total, worst, self.bins + other.bins)

    @property
    def mean(self) -> float:
        """Mean in s; 0 when empty."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """The upper edge of the bin that holds the given percentile, in s, at most the largest value."""
        if self.count == 0:
            return 0.0
        index = int(np.searchsorted(np.cumsum(self.bins), self.count * percent / 100.0))
        return min(float(_EDGES[min(index, len(_EDGES) - 1)]), self.worst)


@dataclass
class LoopStats:
    """One stretch of the control loop.

    Attributes:
        control_dt: the period asked for, s.
        ticks, missed: ticks run, and deadlines that passed without one.
        period: time between the starts of ticks; period_error: what it differs from `control_dt`.
        policy_time, tick_time: spent in the policy, and in the whole tick.
        ages: signal → oldest sample acted on, s.
        clipped: command elements changed by limits; interventions: proposals replaced by hold or idle.
        driver_errors, policy_errors: calls that raised.
    """

    control_dt: float
    ticks: int = 0
    missed: int = 0
    period: Spread = field(default_factory=Spread)
    period_error: Spread = field(default_factory=Spread)
    policy_time: Spread = field(default_factory=Spread)
    tick_time: Spread = field(default_factory=Spread)
    ages: dict[str, float] = field(default_factory=dict)
    clipped: int = 0
    interventions: int = 0
    driver_errors: int = 0
    policy_errors: int = 0

    def add_period(self, period: float) -> None:
        """Take in the time between two ticks."""
        self.period.add(period)
        self.period_error.add(period - self.control_dt)

    def add_ages(self, ages: Mapping[str, float]) -> None:
        """Take in the ages of the samples of one tick."""
        for name, age in ages.items():
            self.ages[name] = max(self.ages.get(name, 0.0), age)

    def merged(self, other: LoopStats) -> LoopStats:
        """Both stretches together; they must have the same period."""
        if self.control_dt != other.control_dt:
            raise ValueError(f"cannot merge periods {self.control_dt} s and {other.control_dt} s")
        ages = dict(self.ages)
        for name, age in other.ages.items():
            ages[name] = max(ages.get(name, 0.0), age)
        counts = ("ticks", "missed", "clipped", "interventions", "driver_errors", "policy_errors")
        spreads = ("period", "period_error", "policy_time", "tick_time")
        return LoopStats(
            self.control_dt,
            ages=ages,
            **{n: getattr(self, n) + getattr(other, n) for n in counts},
            **{n: getattr(self, n).merged(getattr(other, n)) for n in spreads},
        )

    def summary(self) -> dict[str, float]:
        """Numbers for people and JSON; times in ms."""
        ms = 1e3
        return {
            "control_dt_ms": self.control_dt * ms,
            "ticks": self.ticks,
            "missed_ticks": self.missed,
            "period_mean_ms": self.period.mean * ms,
            "period_worst_ms": self.period.worst * ms,
            "period_error_p50_ms": self.period_error.percentile(50) * ms,
            "period_error_p99_ms": self.period_error.percentile(99) * ms,
            "policy_mean_ms": self.policy_time.mean * ms,
            "policy_p99_ms": self.policy_time.percentile(99) * ms,
            "policy_worst_ms": self.policy_time.worst * ms,
            "tick_mean_ms": self.tick_time.mean * ms,
            "tick_worst_ms": self.tick_time.worst * ms,
            "clipped_commands": self.clipped,
            "interventions": self.interventions,
            "driver_errors": self.driver_errors,
            "policy_errors": self.policy_errors,
            **{f"age_worst_ms.{name}": age * ms for name, age in sorted(self.ages.items())},
        }
