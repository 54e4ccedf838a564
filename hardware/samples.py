"""What is kept of a driver's readings: the newest sample of each signal that may be acted on, as a copy of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from robot_rl.errors import DriverError
from robot_rl.hardware.monitors import BATTERY_SIGNAL, usable_sample
from robot_rl.protocols import Array, Reading
from robot_rl.signals import Signal

# Seconds by which a stamp may be ahead of the loop's clock. One from another clock, time.time() say, is ahead by more,
# and would never look old.
_AHEAD = 0.02


class Samples:
    """The newest usable samples; signals that were never declared are left out.

    Attributes:
        values: signal → sample, float32, never written to again. stamps: signal → when it was measured, s.
    """

    def __init__(self, declared: Iterable[Signal]) -> None:
        self._shapes = {BATTERY_SIGNAL: (1,), **{s.name: s.shape for s in declared}}
        self.values: dict[str, Array] = {}
        self.stamps: dict[str, float] = {}

    def clear(self) -> None:
        """Forget everything, as before the first reading."""
        self.values.clear()
        self.stamps.clear()

    def take(self, reading: Reading, now: float) -> tuple[str, ...]:
        """Take in a reading at `now` s; returns the names of the samples that cannot be used.

        Raises:
            DriverError: it is not a reading at all.
        """
        if not isinstance(reading, Reading):
            raise DriverError(f"read() gave {type(reading).__name__}; it must give a robot_rl.protocols.Reading")
        bad = []
        for name, shape in self._shapes.items():
            if name not in reading.signals:
                continue
            value, stamp = _numbers(reading.signals[name]), _seconds(reading.stamps.get(name), now)
            if value is None or stamp is None or not usable_sample(name, value, shape):
                bad.append(name)
            else:
                self.values[name], self.stamps[name] = value, stamp
        return tuple(bad)

    def age(self, name: str, now: float) -> float:
        """Seconds since the sample was measured; infinite when there is none."""
        return max(now - self.stamps.get(name, -math.inf), 0.0)


def _numbers(value: object) -> Array | None:
    """A float32 copy, so that a driver may fill the same array again; None for what is not an array of numbers."""
    try:
        given = np.asarray(value)
        with np.errstate(over="ignore"):
            return given.astype(np.float32) if given.dtype.kind in "biuf" else None
    except (TypeError, ValueError):
        return None


def _seconds(stamp: object, now: float) -> float | None:
    """The stamp, or None when it is no time that has been."""
    if isinstance(stamp, (int, float, np.number)) and math.isfinite(stamp) and float(stamp) <= now + _AHEAD:
        return float(stamp)
    return None
