"""Numbers that the control loop keeps about itself, and the interpreter it tunes for a while."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest

from robot_rl.hardware.loop_stats import LoopStats, Spread
from robot_rl.hardware.realtime import quiet_interpreter


def test_stats_add_up_and_percentiles_are_right():
    rng = np.random.default_rng(0)
    values = rng.lognormal(-7.0, 1.0, 5000)
    parts = [Spread(), Spread()]
    for i, value in enumerate(values):
        parts[i % 2].add(float(value))
    both = parts[0].merged(parts[1])
    assert both.count == 5000
    assert both.mean == pytest.approx(values.mean())
    assert both.worst == values.max()
    for percent in (50, 90, 99):
        assert both.percentile(percent) == pytest.approx(np.percentile(values, percent), rel=0.1)
    assert Spread().percentile(99) == 0.0
    one, two = LoopStats(0.01, ticks=3, ages={"a": 0.1}), LoopStats(0.01, ticks=4, missed=1, ages={"a": 0.3, "b": 0.2})
    merged = one.merged(two)
    assert (merged.ticks, merged.missed, merged.ages) == (7, 1, {"a": 0.3, "b": 0.2})
    with pytest.raises(ValueError, match="merge"):
        one.merged(LoopStats(0.02))


def test_the_interpreter_is_restored_after_an_error():
    before = sys.getswitchinterval(), gc.isenabled()
    with pytest.raises(KeyError), quiet_interpreter():
        assert not gc.isenabled()
        raise KeyError("x")
    assert (sys.getswitchinterval(), gc.isenabled()) == before
