"""Numbers per episode and their summary with intervals; pure functions of recorded arrays.

A failed episode is never dropped: its steady error is infinite and so counts in medians and percentiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from robot_rl.evaluation.rollout import Rollout
from robot_rl.evaluation.statistics import Interval, bootstrap, wilson

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BOX = 0.6  # m, per axis: L2F's termination
WIDE_BOX = 1.0  # m, per axis: still flying, though L2F would have ended the episode
TRACKING_LIMIT = 1.5  # m, distance to the reference: further away the figure counts as not completed


@dataclass(frozen=True)
class Episodes:
    """One number per episode, (N,).

    Attributes:
        in_box, in_wide_box: never left the box of ±0.6 m, ±1 m around the target.
        completed: distance to the target never above 1.5 m.
        exit_time: s when the 0.6 m box was first left; infinite if never.
        max_error: largest distance to the target, m; infinite if lost.
        steady_error: mean distance over the settled part, m; rmse: root of the mean square over it (3-D).
            Infinite for episodes that failed (hover: left the wide box; figure-eight: not completed).
        effort: mean u² over the whole flight, u = commanded fraction of full rotor speed.
        command_change: root mean square of u(k) − u(k−1).
        body_rate: root mean square of |ω| over the settled part, rad/s: grows before survival falls. NaN if lost.
    """

    in_box: Bools
    in_wide_box: Bools
    completed: Bools
    exit_time: Floats
    max_error: Floats
    steady_error: Floats
    rmse: Floats
    effort: Floats
    command_change: Floats
    body_rate: Floats

    def success(self, tracking: bool) -> Bools:
        """What counts as success: in the 0.6 m box for a hover, completed for a figure-eight."""
        return self.completed if tracking else self.in_box

    def __len__(self) -> int:
        return len(self.in_box)


def episodes_of(rollout: Rollout, tracking: bool) -> Episodes:
    """Metrics of each episode of a rollout."""
    error = rollout.error.astype(np.float64)  # (T, N, 3)
    alive = np.isfinite(error).all(axis=2)
    per_axis = np.where(alive, np.abs(error).max(axis=2), np.inf)
    distance = np.where(alive, np.linalg.norm(error, axis=2), np.inf)  # (T, N)
    outside = per_axis >= BOX
    first = np.argmax(outside, axis=0)
    completed = distance.max(axis=0) <= TRACKING_LIMIT
    in_box: Bools = np.all(~outside, axis=0)
    in_wide_box: Bools = np.all(per_axis < WIDE_BOX, axis=0)
    valid = completed if tracking else in_wide_box
    steady = distance[rollout.settled]
    with np.errstate(invalid="ignore"):
        mean_error, rms_error = steady.mean(axis=0), np.sqrt(np.square(steady).mean(axis=0))
    rate = np.square(rollout.body_rate[rollout.settled].astype(np.float64)).sum(axis=2)
    command = rollout.command.astype(np.float64)
    return Episodes(
        in_box=in_box,
        in_wide_box=in_wide_box,
        completed=completed,
        exit_time=np.where(in_box, np.inf, rollout.times[first]),
        max_error=distance.max(axis=0),
        steady_error=np.where(valid, mean_error, np.inf),
        rmse=np.where(valid, rms_error, np.inf),
        effort=_mean_over_time(np.square(command).mean(axis=2)),
        command_change=np.sqrt(_mean_over_time(np.square(np.diff(command, axis=0)).mean(axis=2))),
        body_rate=np.sqrt(rate.mean(axis=0)),
    )


def joined(parts: list[Episodes]) -> Episodes:
    """Batches one after another."""
    return Episodes(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Episodes)})


def first_of(episodes: Episodes, count: int) -> Episodes:
    """Only the first `count` episodes."""
    return Episodes(**{f.name: getattr(episodes, f.name)[:count] for f in fields(Episodes)})


@dataclass(frozen=True)
class Summary:
    """What a table shows. Intervals are 95 %: Wilson's for shares, bootstrap for the rest.

    Attributes:
        survival: share in the 0.6 m box (hover) or completed (figure-eight); wide_survival: in the 1 m box.
        steady_error: median over all episodes, m; steady_error_p95: its 95th percentile, infinite when over 5 % failed.
        rmse: mean over episodes that did not fail, m; NaN when none is left.
        effort, command_change: means; body_rate: median of those not lost, rad/s.
        call_microseconds: median wall time of one call; batch: vehicles it served.
    """

    episodes: int
    survival: Interval
    wide_survival: Interval
    steady_error: Interval
    steady_error_p95: float
    rmse: Interval
    effort: float
    command_change: float
    body_rate: float
    call_microseconds: float
    batch: int


def summarise(episodes: Episodes, tracking: bool, timing: Mapping[str, float]) -> Summary:
    """Aggregate; `timing` has `call_microseconds` and `batch`."""
    count = len(episodes)
    finite = episodes.rmse[np.isfinite(episodes.rmse)]
    rates = episodes.body_rate[np.isfinite(episodes.body_rate)]
    return Summary(
        episodes=count,
        survival=wilson(int(episodes.success(tracking).sum()), count),
        wide_survival=wilson(int(episodes.in_wide_box.sum()), count),
        steady_error=bootstrap(episodes.steady_error, np.median),
        steady_error_p95=float(np.percentile(episodes.steady_error, 95, method="higher")),
        rmse=bootstrap(finite, np.mean),
        effort=float(episodes.effort.mean()),
        command_change=float(episodes.command_change.mean()),
        body_rate=float(np.median(rates)) if rates.size else math.nan,
        call_microseconds=float(timing["call_microseconds"]),
        batch=int(timing["batch"]),
    )


def _mean_over_time(values: Floats) -> Floats:
    """Mean of (T, N) over the steps that were flown; 0 for a vehicle lost at once."""
    flown = np.isfinite(values)
    return np.where(flown, values, 0.0).sum(axis=0) / np.maximum(flown.sum(axis=0), 1)
