"""Metrics of recordings made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robot_rl.evaluation.metrics import episodes_of, first_of, joined, summarise
from robot_rl.evaluation.rollout import Rollout

STEPS, DT = 500, 0.01
TIMES = DT * np.arange(1, STEPS + 1)


def recording(position: np.ndarray, **changes: object) -> Rollout:
    """A rollout with true positions (T, N, 3), everything else quiet."""
    steps, count, _ = position.shape
    quat = np.zeros((steps, count, 4), dtype=np.float32)
    quat[..., 0] = 1.0
    values: dict[str, object] = {
        "times": TIMES[:steps], "reference": np.zeros((steps, 3)), "position": position.astype(np.float32),
        "quat_wxyz": quat, "body_rate": np.zeros((steps, count, 3), dtype=np.float32),
        "command": np.full((steps, count, 4), 0.5, dtype=np.float32), "settled": TIMES[:steps] > 4.0 + 1e-9,
        "call_seconds": np.full(steps, 1e-3),
    }  # fmt: skip
    return Rollout(**(values | changes))  # type: ignore[arg-type]


def held(*offsets: tuple[float, float, float]) -> np.ndarray:
    """(T, N, 3): each vehicle stays at its offset."""
    return np.tile(np.array(offsets, dtype=float), (STEPS, 1, 1))


def test_boxes_are_per_axis_and_at_every_step() -> None:
    position = held((0.5, 0.5, 0.5), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    position[100, 1, 2] = -0.7  # a single moment outside 0.6 m, inside 1 m
    position[200, 2, 0] = 1.2
    got = episodes_of(recording(position), tracking=False)
    assert got.in_box.tolist() == [True, False, False, True]
    assert got.in_wide_box.tolist() == [True, True, False, True]
    assert got.exit_time[1:3].tolist() == pytest.approx([TIMES[100], TIMES[200]])
    assert math.isinf(got.exit_time[0])


def test_steady_error_is_the_mean_of_the_last_second_and_infinite_after_a_crash() -> None:
    position = held((0.03, 0.0, 0.04), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    position[450:, 1, 0] = 0.02  # half of the last second
    position[10, 2, 1] = 5.0
    got = episodes_of(recording(position), tracking=False)
    assert got.steady_error.tolist() == pytest.approx([0.05, 0.01, math.inf])
    assert got.rmse.tolist() == pytest.approx([0.05, 0.02 / math.sqrt(2), math.inf])


def test_leaving_the_small_box_only_keeps_the_error() -> None:
    position = held((0.0, 0.0, 0.0))
    position[100, 0, 0] = 0.8
    got = episodes_of(recording(position), tracking=False)
    assert not got.in_box[0] and got.steady_error[0] == 0.0


def test_lost_vehicles_are_failures_everywhere() -> None:
    position = held((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    position[300:, 1] = np.nan
    command = np.full((STEPS, 2, 4), 0.5, dtype=np.float32)
    command[300:, 1] = np.nan
    got = episodes_of(recording(position, command=command), tracking=False)
    assert not got.in_box[1] and not got.in_wide_box[1] and not got.completed[1]
    assert math.isinf(got.max_error[1]) and math.isinf(got.steady_error[1])
    assert got.exit_time[1] == pytest.approx(TIMES[300])
    assert got.effort.tolist() == pytest.approx([0.25, 0.25])  # of what was flown


def test_effort_and_change_of_commands() -> None:
    command = np.full((STEPS, 1, 4), 0.4, dtype=np.float32)
    command[1::2] = 0.6
    got = episodes_of(recording(held((0, 0, 0)), command=command), tracking=False)
    assert got.effort[0] == pytest.approx((0.16 + 0.36) / 2)
    assert got.command_change[0] == pytest.approx(0.2)


def test_body_rate_counts_only_the_settled_part() -> None:
    rate = np.zeros((STEPS, 1, 3), dtype=np.float32)
    rate[:400] = 50.0
    rate[400:] = (3.0, 0.0, 4.0)
    got = episodes_of(recording(held((0, 0, 0)), body_rate=rate), tracking=False)
    assert got.body_rate[0] == pytest.approx(5.0)


def test_tracking_is_measured_against_the_moving_reference() -> None:
    reference = np.stack([np.cos(TIMES), np.sin(TIMES), 0 * TIMES], axis=1)
    position = np.stack([reference, reference, reference], axis=1)
    position[:, 0, 2] = 0.1
    position[50, 1] += [0.0, 1.4, 0.0]  # far off, but not beyond 1.5 m
    position[50, 2] += [0.0, 1.6, 0.0]
    got = episodes_of(recording(position, reference=reference), tracking=True)
    assert got.completed.tolist() == [True, True, False]
    assert got.rmse.tolist() == pytest.approx([0.1, 0.0, math.inf], abs=1e-6)
    assert got.success(tracking=True).tolist() == [True, True, False]


def test_summary_keeps_failures_in_the_median() -> None:
    position = held(*[(0.01 * k, 0.0, 0.0) for k in range(1, 10)], (0.0, 0.0, 0.0))
    position[0, 9] = 3.0
    table = episodes_of(recording(position), tracking=False)
    got = summarise(table, False, {"call_microseconds": 12.0, "batch": 10})
    assert got.survival.value == 0.9 and got.episodes == 10
    assert got.steady_error.value == pytest.approx(0.055)
    assert math.isinf(got.steady_error_p95)
    assert got.rmse.value == pytest.approx(0.05)  # of the nine


def test_joining_and_cutting_batches() -> None:
    table = episodes_of(recording(held((0.1, 0, 0), (0.7, 0, 0))), tracking=False)
    both = joined([table, table])
    assert both.in_box.tolist() == [True, False, True, False]
    assert first_of(both, 3).in_box.tolist() == [True, False, True]
