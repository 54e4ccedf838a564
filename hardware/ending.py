"""Being told to end: the first signal asks the robot to come down, a later one to rest at once."""

from __future__ import annotations

import signal
import time

# Seconds within which signals are one request: a terminal, `timeout` and launchers often send the same one twice.
_ECHO = 0.5


class Ending:
    """Takes the signals of a process; `on_signal` is the handler.

    Attributes:
        reason: name of the first signal, or empty. hurry: whether another one came after it.
    """

    def __init__(self) -> None:
        self.reason, self.hurry = "", False
        self._first = 0.0

    def on_signal(self, number: int, _: object) -> None:
        now = time.monotonic()
        if not self.reason:
            self.reason, self._first = signal.Signals(number).name, now
        elif now - self._first > _ECHO:
            self.hurry = True
