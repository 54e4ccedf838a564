"""Clocks for the control loop: the monotonic clock of the machine, and a virtual one that never waits.

Neither tells the time of day.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that never run backwards, and waiting until one of them."""

    def now(self) -> float: ...

    def sleep_until(self, deadline: float) -> None:
        """Return at `deadline` or, when that has passed, at once."""
        ...


class MonotonicClock:
    """The machine's monotonic clock; what a real robot runs on."""

    def now(self) -> float:
        return time.monotonic()

    def sleep_until(self, deadline: float) -> None:
        delay = deadline - time.monotonic()
        if delay > 0.0:
            time.sleep(delay)


class VirtualClock:
    """Time that passes only by waiting: the same flight, as fast as the computer can, and the same each time."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def sleep_until(self, deadline: float) -> None:
        self._now = max(self._now, deadline)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, as a slow computer would."""
        if not seconds >= 0.0:
            raise ValueError(f"time cannot run backwards: {seconds} s")
        self._now += seconds
