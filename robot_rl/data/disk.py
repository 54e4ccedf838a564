"""Bytes that are read whole, written to last, and files that get their name when they are complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from robot_rl.data.episode import DataError

BLOCK = 1 << 20  # bytes that are looked at in one go
_NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # exFAT, some network file systems


def read_at(file: FileIO, start: int, length: int) -> bytes:
    """That many bytes, fewer only where the file ends. The system gives at most 0x7ffff000 of them in one call."""
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(file.fileno(), length, start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def blocks(file: FileIO, start: int, length: int) -> Iterator[bytes]:
    """The same bytes one block after the other, for what need not lie in memory at once."""
    end = start + length
    while start < end and (block := read_at(file, start, min(BLOCK, end - start))):
        yield block
        start += len(block)


def check_sum(file: FileIO, start: int, length: int) -> int:
    """CRC-32 of what is there of these bytes."""
    found = 0
    for block in blocks(file, start, length):
        found = zlib.crc32(block, found)
    return found


def write_at(file: FileIO, start: int, data: bytes) -> None:
    """All of it at that place; `os.fsync` brings it to the disk. Raises OSError."""
    left = memoryview(data)
    while left:
        written = os.pwrite(file.fileno(), left, start)
        left, start = left[written:], start + written


def lock(file: FileIO, path: Path) -> None:
    """Hold the file for writing as long as it is open.

    Raises:
        DataError: another one holds it, or its file system has no locks; the file is closed then.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise DataError(f"another process appends to '{path}'; wait for it, or write to another file") from error
    except OSError as error:
        file.close()
        raise DataError(
            f"'{path}' cannot be locked against other writers: {error.strerror}. Some network file systems have no "
            "locks; record on a local disk and copy the file afterwards"
        ) from error


def aside(path: Path) -> Path:
    """A name beside the file for what is not finished; nobody else has it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def publish(unfinished: Path, path: Path) -> None:
    """Give a file that is complete and on the disk its name, so that it survives a power cut under that name.

    Raises:
        DataError: there is something of that name, which stays as it is, or the name cannot be given.
    """
    try:
        try:
            os.link(unfinished, path)  # unlike a renaming, it never replaces what is there
            unfinished.unlink()
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            if os.path.lexists(path):
                raise FileExistsError from error
            unfinished.rename(path)
    except FileExistsError as error:
        raise DataError(f"'{path}' exists; choose another name, or append to it") from error
    except OSError as error:
        raise DataError(f"'{path}' cannot be written: {error.strerror}") from error
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    with contextlib.suppress(OSError):  # some file systems cannot; what is in the files is safe
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
