"""How a file is cut into frames, and how they are found again in one that is torn or damaged.

b"RRLDATA1", then frames: one with the spec, then one per episode
frame: b"RRLF", u64 length, u32 CRC-32 of the payload, u32 CRC-32 of these 16 bytes; payload; all little-endian
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from robot_rl.data.disk import BLOCK, check_sum, read_at
from robot_rl.data.episode import DataError

MAGIC, MARK = b"RRLDATA1", b"RRLF"
HEAD = struct.Struct("<4sQII")


@dataclass(frozen=True)
class Frame:
    """A payload: bytes from `start`, CRC-32, or None where its head is damaged."""

    start: int
    length: int
    crc: int | None

    def read(self, file: FileIO) -> bytes | None:
        """The payload, or None where it is damaged."""
        if self.crc is None:
            return None
        payload = read_at(file, self.start, self.length)
        return payload if len(payload) == self.length and zlib.crc32(payload) == self.crc else None


def framed(payload: bytes) -> bytes:
    """The payload behind its head."""
    head = HEAD.pack(MARK, len(payload), zlib.crc32(payload), 0)[: HEAD.size - 4]
    return head + struct.pack("<I", zlib.crc32(head)) + payload


def scan(file: FileIO, path: Path) -> tuple[list[Frame], int, int]:
    """All frames, where the last whole one ends, and where the file does; what lies between is torn.

    Raises:
        DataError: it is something else, or ends before the first frame does.
    """
    size = os.fstat(file.fileno()).st_size
    if read_at(file, 0, len(MAGIC)) != MAGIC:
        raise DataError(f"'{path}' is not a file of episodes (it does not begin with {MAGIC.decode()})")
    frames, at = list[Frame](), len(MAGIC)
    while at < size:
        head = _head(read_at(file, at, HEAD.size))
        if head is None or at + HEAD.size + head[0] > size:
            following = _next_frame(file, at + 1, size)
            if following is None:
                break
            frames.append(Frame(at + HEAD.size, max(following - at - HEAD.size, 0), None))
            at = following
            continue
        frames.append(Frame(at + HEAD.size, *head))
        at += HEAD.size + head[0]
    if len(frames) > 1 and at == size and check_sum(file, frames[-1].start, frames[-1].length) != frames[-1].crc:
        at = frames.pop().start - HEAD.size  # its length reached the disk, its bytes did not
    if not frames:
        raise DataError(f"'{path}' ends before its description does; it holds no episodes")
    return frames, at, size


def _head(data: bytes) -> tuple[int, int] | None:
    """(length, CRC-32) of a frame whose head is whole."""
    if len(data) < HEAD.size:
        return None
    mark, length, crc, own = HEAD.unpack(data)
    return (length, crc) if mark == MARK and own == zlib.crc32(data[: HEAD.size - 4]) else None


def _next_frame(file: FileIO, at: int, size: int) -> int | None:
    """Where the next whole frame's head stands, at or behind `at`."""
    while at < size:
        block = read_at(file, at, BLOCK + HEAD.size)
        found = block.find(MARK)
        while 0 <= found < BLOCK:
            head = _head(block[found : found + HEAD.size])
            if head is not None and at + found + HEAD.size + head[0] <= size:
                return at + found
            found = block.find(MARK, found + 1)
        at += BLOCK
    return None
