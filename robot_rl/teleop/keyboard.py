"""Keys of a terminal. A terminal tells neither when a key is released nor that two are held.

A key counts as held until `HELD` seconds after its last byte, which the terminal repeats while it is down. For true
presses and releases name the keyboard's own file, `keyboard:/dev/input/event…`, which works without a terminal too.
"""

from __future__ import annotations

import atexit
import os
import sys
import termios
import time
import tty
from collections.abc import Callable
from typing import Any

from robot_rl.errors import DriverError
from robot_rl.teleop.device import Controls, arrived

HELD = 0.3  # s; shorter than the delay before most terminals repeat a key, longer than between two repeats
ESCAPES = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "right", b"\x1b[D": "left"}
NAMED = {b" ": "space", b"\x1b": "escape", b"\t": "tab", b"\r": "enter", b"\n": "enter"}


class TerminalKeyboard:
    """The terminal in front of the program; it is put back as it was when closed.

    Args:
        fd: of the terminal; default: standard input. clock: seconds.
    """

    def __init__(self, fd: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.fd = sys.stdin.fileno() if fd is None else fd
        if not os.isatty(self.fd):
            raise DriverError("the keyboard is read from a terminal, and this program has none; start it in one, or "
                              "name the keyboard's own file: keyboard:/dev/input/event…")  # fmt: skip
        self.clock = clock
        self._before: list[Any] | None = termios.tcgetattr(self.fd)
        tty.setcbreak(self.fd)
        atexit.register(self.close)  # whatever happens, the terminal shows what is typed again
        self._until: dict[str, float] = {}

    def read(self) -> Controls:
        now = self.clock()
        for data in arrived(self.fd, 256, "terminal"):
            for key in _keys(data):
                self._until[key] = now + HELD
        self._until = {key: end for key, end in self._until.items() if end > now}
        return Controls({}, set(self._until))

    def close(self) -> None:
        if self._before is not None:
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self._before)
            self._before = None


def _keys(data: bytes) -> list[str]:
    """Names of the keys in what a terminal sent; arrows come as three bytes."""
    found: list[str] = []
    while data:
        size = 3 if data[:3] in ESCAPES else 1
        key, data = data[:size], data[size:]
        name = ESCAPES.get(key) or NAMED.get(key) or key.decode("ascii", "ignore").lower()
        if name:
            found.append(name)
    return found
