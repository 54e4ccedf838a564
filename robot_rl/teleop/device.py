"""What every input device gives: axes and pressed buttons by name, without waiting."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from robot_rl.errors import DriverError


@dataclass
class Controls:
    """The device at this moment: axes in [−1, 1], buttons that are held."""

    axes: dict[str, float] = field(default_factory=dict)
    buttons: set[str] = field(default_factory=set)


class Device(Protocol):
    """One device; opened when it is made."""

    def read(self) -> Controls:
        """The newest state, without waiting. Raises DriverError where the device is gone."""
        ...

    def close(self) -> None:
        """Release it; idempotent."""
        ...


def opened(path: str | int, what: str) -> int:
    """A file descriptor of a device file, which reads do not wait on; one that is open already stays as it is.

    Raises:
        DriverError: it is not there, or may not be read.
    """
    if isinstance(path, int):
        return path
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except PermissionError as error:
        raise DriverError(
            f"the {what} at {path} may not be read: join the group that owns it (often `sudo usermod -aG input $USER`, "
            "then log in again), or add a udev rule"
        ) from error
    except OSError as error:
        raise DriverError(f"there is no {what} at {path} ({error.strerror}); plug it in, or name another") from error


def arrived(fd: int, size: int, what: str) -> Iterator[bytes]:
    """Whatever can be read now, in pieces of at most `size` bytes.

    Raises:
        DriverError: the device was unplugged.
    """
    while select.select([fd], [], [], 0.0)[0]:
        try:
            data = os.read(fd, size)
        except BlockingIOError:
            return
        except OSError as error:
            raise DriverError(f"the {what} is gone ({error.strerror}); plug it in and resume the run") from error
        if not data:
            raise DriverError(f"the {what} is gone; plug it in and resume the run")
        yield data
