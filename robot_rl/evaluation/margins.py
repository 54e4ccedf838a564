"""Stability margins: how far each parameter may be off before a policy fails, found by bisection.

The most useful number before a first flight: simulation shows survival in hundreds of vehicles, the real one is one
vehicle somewhere in these ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robot_rl.errors import ConfigError
from robot_rl.evaluation.evaluate import evaluate
from robot_rl.evaluation.scenarios import SCENARIOS, Scenario
from robot_rl.evaluation.targets import as_target


@dataclass(frozen=True)
class Axis:
    """One parameter that is moved away from nominal until the policy fails.

    Attributes:
        field: of `Scenario`. nominal: where nothing is changed. limit: as far as is searched (may lie below nominal).
        scale: `log` for factors, `linear` for times. unit: `×` or `s`. step: resolution on the linear scale.
    """

    name: str
    title: str
    field: str
    nominal: float
    limit: float
    scale: str = "log"
    unit: str = "×"
    step: float = 0.0

    def value(self, share: float) -> float:
        """Parameter at `share` of the way from nominal (0) to the limit (1)."""
        if self.scale == "log":
            return self.nominal * (self.limit / self.nominal) ** share
        raw = self.nominal + share * (self.limit - self.nominal)
        return round(raw / self.step) * self.step if self.step else raw


AXES = (
    Axis("mass", "mass", "mass", 1.0, 2.0),
    Axis("inertia-up", "inertia ↑", "inertia", 1.0, 10.0),
    Axis("inertia-down", "inertia ↓", "inertia", 1.0, 0.1),
    Axis("lag-up", "motor lag ↑", "tau_factor", 1.0, 6.0),
    Axis("lag-down", "motor lag ↓", "tau_factor", 1.0, 0.1),
    Axis("delay", "command delay", "delay", 0.0, 0.06, "linear", "s", 0.002),
    Axis("thrust", "thrust ↓", "thrust", 1.0, 0.5),
    Axis("noise", "sensor noise", "noise", 1.0, 50.0),
)


@dataclass(frozen=True)
class Margin:
    """Result for one axis.

    Attributes:
        value: the furthest parameter found at which success is at least the required share; None if it fails nominally.
        share: the same as a share of the way to the limit, 0 to 1. at_limit: whether the search ended there.
        success: share of successes at `value` (nominally, if that fails). flown: evaluations made.
    """

    axis: Axis
    value: float | None
    share: float
    at_limit: bool
    success: float
    flown: int


def margins(
    policy: Any,
    *,
    axes: tuple[Axis, ...] = AXES,
    required: float = 0.95,
    box: float = 1.0,
    episodes: int = 120,
    seed: int = 1,
    halvings: int = 5,
    start: Scenario = SCENARIOS["nominal"],
    progress: Callable[[str], None] | None = None,
) -> list[Margin]:
    """Search along each axis alone, everything else as in `start`, assuming that success falls with distance.

    Args:
        required: share of episodes that must succeed, the same episodes at every point.
        box: 1.0 counts vehicles that stay within ±1 m (still flying), 0.6 those that stay in L2F's box.
        episodes: per point; with 120 the 95 % line is blurred by about ±4 points.
        halvings: bisection steps after the ends of the axis were tried.

    Raises:
        ConfigError: a box that is not measured.
    """
    if box not in (0.6, 1.0):
        raise ConfigError(f"box = {box} m: survival is measured in boxes of 0.6 and 1.0 m")
    target = as_target(policy)

    def success(chosen: Scenario) -> float:
        try:
            summary = evaluate(target, chosen, episodes, seed).summary
        except ConfigError:  # a vehicle that cannot carry itself
            return 0.0
        if summary is None:
            return 0.0
        return (summary.wide_survival if box == 1.0 else summary.survival).value

    nominal = success(start)
    found = []
    for axis in axes:
        if progress is not None:
            progress(axis.title)
        if nominal < required:
            found.append(Margin(axis, None, 0.0, False, nominal, 1))
            continue

        def at(share: float, axis: Axis = axis) -> float:
            return success(start.but(**{axis.field: axis.value(share)}))

        found.append(_bisected(axis, at, nominal, required, halvings))
    return found


def _bisected(axis: Axis, success: Callable[[float], float], nominal: float, required: float, halvings: int) -> Margin:
    best, best_success, low, high, flown = axis.nominal, nominal, 0.0, 1.0, 1
    at_end = success(1.0)
    if at_end >= required:
        return Margin(axis, axis.limit, 1.0, True, at_end, flown)
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        if axis.scale == "linear" and math.isclose(axis.value(middle), axis.value(low)):
            break
        share = success(middle)
        flown += 1
        if share >= required:
            low, best, best_success = middle, axis.value(middle), share
        else:
            high = middle
    return Margin(axis, best, low, False, best_success, flown)
