"""Gamepads and keyboards as Linux shows them: `struct input_event` records of /dev/input/event*.

Linux kernel, include/uapi/linux/input.h and input-event-codes.h; nothing else is needed to read them.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path

from robot_rl.errors import DriverError
from robot_rl.teleop.device import Controls, arrived, opened

EVENT = struct.Struct("llHHi")  # seconds, microseconds, type, code, value
SYNC, KEY, ABSOLUTE = 0x00, 0x01, 0x03
DROPPED = 3  # of SYNC: the kernel's buffer overflowed
ABSINFO = struct.Struct("6i")  # value, minimum, maximum, fuzz, flat, resolution
DEVICES = Path("/proc/bus/input/devices")

STICKS = {0: "left_x", 1: "left_y", 2: "left_trigger", 3: "right_x", 4: "right_y", 5: "right_trigger"}
AXES: Mapping[int, str] = {**STICKS, 16: "hat_x", 17: "hat_y"}
RANGES = {name: (0, 255) if "trigger" in name else (-32768, 32767) for name in STICKS.values()}
"""Where the device does not tell: those of common gamepads; a hat has −1 … 1."""
BUTTONS: Mapping[int, str] = {
    0x130: "south", 0x131: "east", 0x133: "north", 0x134: "west", 0x136: "left_bumper", 0x137: "right_bumper",
    0x13A: "select", 0x13B: "start", 0x13C: "mode", 0x13D: "left_stick", 0x13E: "right_stick",
    **dict(zip(range(16, 26), "qwertyuiop", strict=True)), **dict(zip(range(30, 39), "asdfghjkl", strict=True)),
    **dict(zip(range(44, 51), "zxcvbnm", strict=True)), 57: "space", 42: "shift", 29: "control", 1: "escape",
    103: "up", 105: "left", 106: "right", 108: "down",
}  # fmt: skip


class EventDevice:
    """Any device of /dev/input; buttons know when they are released.

    Args:
        path: /dev/input/event…, or a descriptor of whatever gives such records. what: for messages.
    """

    def __init__(self, path: str | int, what: str) -> None:
        self.what, self.fd = what, opened(path, what)
        self._left = b""
        self._lost = False
        self._controls = Controls()
        self._ranges = {code: self._range(code, name) for code, name in AXES.items()}

    def read(self) -> Controls:
        for data in arrived(self.fd, 64 * EVENT.size, self.what):
            self._left += data
        whole = len(self._left) - len(self._left) % EVENT.size
        for _, _, kind, code, value in EVENT.iter_unpack(self._left[:whole]):
            self._event(kind, code, value)
        self._left = self._left[whole:]
        return Controls(dict(self._controls.axes), set(self._controls.buttons))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _event(self, kind: int, code: int, value: int) -> None:
        if kind == SYNC:
            if code == DROPPED:  # nobody knows what is held any more: let go of everything
                self._controls, self._lost = Controls(), True
            elif self._lost:
                self._lost = False
        elif self._lost:
            return
        elif kind == ABSOLUTE and code in AXES:
            low, high = self._ranges[code]
            middle, half = 0.5 * (low + high), 0.5 * (high - low)
            share = (value - low) / (high - low) if AXES[code].endswith("trigger") else (value - middle) / half
            self._controls.axes[AXES[code]] = max(-1.0, min(1.0, share))
        elif kind == KEY and code in BUTTONS:
            (self._controls.buttons.add if value else self._controls.buttons.discard)(BUTTONS[code])

    def _range(self, code: int, name: str) -> tuple[int, int]:
        """Least and largest value of an axis, as the device says or as is usual."""
        request = 0x80184540 + code  # EVIOCGABS
        try:
            _, low, high, _, _, _ = ABSINFO.unpack(fcntl.ioctl(self.fd, request, bytes(ABSINFO.size)))
        except OSError:
            low = high = 0
        return (low, high) if high > low else RANGES.get(name, (-1, 1))


def find(handler: str, what: str, listing: Path = DEVICES) -> str:
    """The first device with a handler such as `js` (gamepads) or `kbd` in the kernel's list.

    Raises:
        DriverError: there is none, or this is not Linux.
    """
    try:
        text = listing.read_text(encoding="utf-8")
    except OSError as error:
        raise DriverError(f"no {what} can be looked for: {listing} cannot be read ({error.strerror}); devices of "
                          "/dev/input need Linux") from error  # fmt: skip
    for entry in text.split("\n\n"):
        handlers = re.search(r"^H: Handlers=(.*)$", entry, re.MULTILINE)
        names = handlers.group(1).split() if handlers else []
        events = [n for n in names if n.startswith("event")]
        if events and any(n.rstrip("0123456789") == handler for n in names):
            return f"/dev/input/{events[0]}"
    raise DriverError(f"no {what} was found in {listing}; plug one in, or name its file, such as :/dev/input/event5")
