"""A SpaceMouse by its HID reports on /dev/hidraw*.

Report 1 holds the translation as three little-endian int16, report 2 the rotation; newer models send all six in report
1. Report 3 holds the buttons, a bit each. Counts go to about ±350. The driver's axes are x right, y towards the user, z
down; here x is away from the user, y to the left, z up, and rotations are about these axes.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from robot_rl.errors import DriverError
from robot_rl.teleop.device import Controls, arrived, opened

FULL = 350.0  # counts
LONGEST = 64  # bytes of a report
MAKERS = (0x256F, 0x046D)  # 3Dconnexion, and Logitech, which sold the older ones
PRODUCTS = range(0xC600, 0xC700)
LISTED = Path("/sys/class/hidraw")
BUTTONS = ("left", "right")


class SpaceMouse:
    """One of them.

    Args:
        path: /dev/hidraw…, or a descriptor; each read of it must give one report.
    """

    def __init__(self, path: str | int) -> None:
        self.fd = opened(path, "SpaceMouse")
        self._controls = Controls()

    def read(self) -> Controls:
        for report in arrived(self.fd, LONGEST, "SpaceMouse"):
            self._report(report)
        return Controls(dict(self._controls.axes), set(self._controls.buttons))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _report(self, report: bytes) -> None:
        kind, body = report[0], report[1:]
        if kind == 1 and len(body) >= 6:
            self._move(("y", "x", "z"), body[:6])
            if len(body) >= 12:
                self._move(("pitch", "roll", "yaw"), body[6:12])
        elif kind == 2 and len(body) >= 6:
            self._move(("pitch", "roll", "yaw"), body[:6])
        elif kind == 3 and body:
            self._controls.buttons = {name for bit, name in enumerate(BUTTONS) if body[0] >> bit & 1}

    def _move(self, names: tuple[str, str, str], body: bytes) -> None:
        """Three counts (right, towards the user, down): all of them turned round in our axes."""
        for name, count in zip(names, struct.unpack("<3h", body), strict=True):
            self._controls.axes[name] = max(-1.0, min(1.0, -count / FULL))


def find(listed: Path = LISTED) -> str:
    """The first SpaceMouse among the machine's HID devices.

    Raises:
        DriverError: there is none, or this is not Linux.
    """
    for entry in sorted(listed.glob("hidraw*")):
        told = (
            (entry / "device" / "uevent").read_text(encoding="utf-8") if (entry / "device" / "uevent").exists() else ""
        )
        for line in told.splitlines():
            if line.startswith("HID_ID="):
                _, maker, product = (int(part, 16) for part in line.removeprefix("HID_ID=").split(":"))
                if maker in MAKERS and product in PRODUCTS:
                    return f"/dev/{entry.name}"
    raise DriverError(f"no SpaceMouse was found under {listed} (Linux only); plug one in, or name its file, such as "
                      "spacemouse:/dev/hidraw2")  # fmt: skip
