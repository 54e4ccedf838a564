"""A file of episodes that is only ever appended to, and what becomes of it when a process or a machine dies.

    b"RRLDATA1", then frames: one with the spec, then one per episode
    frame: b"RRLF", u64 length, u32 CRC-32 of the payload, u32 CRC-32 of these 16 bytes; payload; all little-endian
    payload of an episode: u32 length of a JSON text, the text, the arrays one after the other, each compressed or not

An episode is on the disk, whole, when `append` returns. A process that dies loses the one it was about to append; the
torn end that it may leave is cut off when the file is next opened for appending, which `repaired` tells. A frame that
is damaged with whole ones after it is never cut off: reading it raises, the others stay readable.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import DataError, DataSpec, Episode, Feature, problems

MAGIC, MARK = b"RRLDATA1", b"RRLF"
HEAD = struct.Struct("<4sQII")
_LOOKED_THROUGH = 1 << 20  # bytes read at a time in search of whole frames behind a damaged one
_SMALLER = 0.9  # an array is stored compressed where that saves a tenth


class EpisodeStore:
    """Read with `store[i]`, `len`, iteration; write with `append`. Use as a context manager, or `close` it.

    Attributes:
        path; spec. torn: bytes of an unfinished episode at the end. repaired: those that opening has cut off.
    """

    def __init__(self, path: Path, file: FileIO, writable: bool) -> None:
        """Use `create` or `open`."""
        self.path, self._file, self._writable = path, file, writable
        self.torn, self.repaired = 0, 0
        self._frames: list[tuple[int, int, int]] = []  # start of the payload, length, CRC-32
        try:
            self._end = self._scan()
            self.spec = spec_from_json(json.loads(self._payload(0)))
        except (DataError, OSError, ValueError, TypeError, KeyError) as error:
            file.close()
            if isinstance(error, (DataError, OSError)):
                raise
            raise DataError(
                f"'{path}' has a description that cannot be read ({error}); was it made by hand?"
            ) from error

    @classmethod
    def create(cls, path: str | os.PathLike[str], spec: DataSpec) -> EpisodeStore:
        """A new, empty file, open for appending.

        Raises:
            DataError: it exists already, or cannot be written.
        """
        path = Path(path)
        try:
            file = open(path, "x+b", buffering=0)  # noqa: SIM115  the store closes it
        except FileExistsError as error:
            raise DataError(f"'{path}' exists; append to it, or choose another name") from error
        except OSError as error:
            raise DataError(f"'{path}' cannot be written: {error.strerror}") from error
        _lock(file, path)
        try:
            _write(file, 0, MAGIC + _framed(json.dumps(spec_to_json(spec)).encode()))
        except OSError as error:
            file.close()
            path.unlink(missing_ok=True)
            raise DataError(f"'{path}' cannot be written: {error.strerror}") from error
        return cls(path, file, True)

    @classmethod
    def open(cls, path: str | os.PathLike[str], append: bool = False) -> EpisodeStore:
        """An existing file. With `append` a torn end is cut off, see `repaired`, and nobody else may append.

        Raises:
            DataError: there is none, it is something else, damaged in its description, or written by another process.
        """
        path = Path(path)
        try:
            file = open(path, "r+b" if append else "rb", buffering=0)  # noqa: SIM115  the store closes it
        except OSError as error:
            raise DataError(f"'{path}' cannot be opened: {error.strerror}") from error
        if append:
            _lock(file, path)
        return cls(path, file, append)

    def __enter__(self) -> EpisodeStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; episodes that were appended are on the disk already."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._frames) - 1

    def __iter__(self) -> Iterator[Episode]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Episode:
        """Raises DataError where that episode is damaged, IndexError where there is none."""
        about, blob = self._read(index)
        arrays: dict[str, NDArray[Any]] = {}
        at = 0
        for name, dtype, shape, size, packed in about["arrays"]:
            raw = blob[at : at + size]
            at += size
            arrays[name] = np.frombuffer(zlib.decompress(raw) if packed else raw, dtype).reshape(shape)
        return Episode(arrays, about["terminated"], about["truncated"], about["success"], about["facts"])

    def about(self, index: int) -> dict[str, Any]:
        """`steps`, `terminated`, `truncated`, `success`, `facts` and `bytes` of an episode; its arrays stay packed."""
        about, blob = self._read(index)
        return {**{k: v for k, v in about.items() if k != "arrays"}, "bytes": len(blob)}

    def append(self, episode: Episode) -> int:
        """Write an episode to the disk; gives its index. When it returns, the episode survives whatever comes.

        Raises:
            DataError: opened for reading, the episode does not fit the spec, or there is no room; the file is as
                before.
        """
        if not self._writable:
            raise DataError(f"'{self.path}' is open for reading; open it with append=True")
        found = problems(episode, self.spec)
        if found:
            raise DataError("this episode cannot be kept: " + "; ".join(found))
        payload = _packed(episode)
        try:
            _write(self._file, self._end, _framed(payload))
        except OSError as error:
            self._undo()
            room = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            what = "there is no room" if room else f"it cannot be written ({error.strerror})"
            raise DataError(
                f"'{self.path}': {what} for an episode of {len(payload)} bytes; the {len(self)} before are safe"
            ) from error
        self._frames.append((self._end + HEAD.size, len(payload), zlib.crc32(payload)))
        self._end += HEAD.size + len(payload)
        return len(self) - 1

    def _undo(self) -> None:
        """Cut off what was written of an episode; where even that fails, the next opening does it."""
        try:
            os.ftruncate(self._file.fileno(), self._end)
        except OSError:
            self._writable = False

    def _read(self, index: int) -> tuple[dict[str, Any], bytes]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"episode {index} of {len(self)} in '{self.path}'")
        index %= len(self)
        try:
            payload = self._payload(index + 1)
            (size,) = struct.unpack_from("<I", payload)
            return json.loads(payload[4 : 4 + size]), payload[4 + size :]
        except (struct.error, ValueError) as error:
            raise DataError(f"episode {index} in '{self.path}' is damaged: {error}") from error

    def _payload(self, frame: int) -> bytes:
        start, length, crc = self._frames[frame]
        payload = os.pread(self._file.fileno(), length, start)
        if len(payload) != length or zlib.crc32(payload) != crc:
            what = f"episode {frame - 1}" if frame else "the description"
            raise DataError(f"{what} in '{self.path}' is damaged: its check sum differs")
        return payload

    def _scan(self) -> int:
        """Fill `_frames`; gives the end of the last whole one, and cuts off what is torn behind it."""
        handle, size = self._file.fileno(), os.fstat(self._file.fileno()).st_size
        if os.pread(handle, len(MAGIC), 0) != MAGIC:
            raise DataError(f"'{self.path}' is not a file of episodes (it does not begin with {MAGIC.decode()})")
        at = len(MAGIC)
        while at < size:
            head = _head(os.pread(handle, HEAD.size, at))
            if head is None or at + HEAD.size + head[0] > size:
                following = self._next_frame(at + 1, size)
                if following is None:
                    break
                self._frames.append((at + HEAD.size, max(following - at - HEAD.size, 0), -1))  # no check sum fits it
                at = following
                continue
            self._frames.append((at + HEAD.size, *head))
            at += HEAD.size + head[0]
        if len(self._frames) > 1 and at == size and self._torn(len(self._frames) - 1):
            at = self._frames.pop()[0] - HEAD.size  # its length reached the disk, its bytes did not
        if not self._frames:
            raise DataError(f"'{self.path}' ends before its description does; it holds no episodes")
        self.torn = size - at
        if self.torn and self._writable:
            os.ftruncate(handle, at)
            self.torn, self.repaired = 0, self.torn
        return at

    def _torn(self, frame: int) -> bool:
        start, length, crc = self._frames[frame]
        return zlib.crc32(os.pread(self._file.fileno(), length, start)) != crc

    def _next_frame(self, at: int, size: int) -> int | None:
        """Where the next whole frame's head stands, at or behind `at`."""
        handle = self._file.fileno()
        while at < size:
            block = os.pread(handle, _LOOKED_THROUGH + HEAD.size, at)
            found = block.find(MARK)
            while 0 <= found < _LOOKED_THROUGH:
                head = _head(block[found : found + HEAD.size])
                if head is not None and at + found + HEAD.size + head[0] <= size:
                    return at + found
                found = block.find(MARK, found + 1)
            at += _LOOKED_THROUGH
        return None


def _head(data: bytes) -> tuple[int, int] | None:
    """(length, CRC-32) of a frame whose head is whole."""
    if len(data) < HEAD.size:
        return None
    mark, length, crc, own = HEAD.unpack(data)
    return (length, crc) if mark == MARK and own == zlib.crc32(data[: HEAD.size - 4]) else None


def _framed(payload: bytes) -> bytes:
    head = HEAD.pack(MARK, len(payload), zlib.crc32(payload), 0)[: HEAD.size - 4]
    return head + struct.pack("<I", zlib.crc32(head)) + payload


def _packed(episode: Episode) -> bytes:
    arrays: list[tuple[str, str, tuple[int, ...], int, bool]] = []
    blobs: list[bytes] = []
    for name, array in episode.arrays.items():
        raw = np.ascontiguousarray(array).tobytes()
        small = zlib.compress(raw, 1)
        packed = len(small) < _SMALLER * len(raw)
        blobs.append(small if packed else raw)
        arrays.append((name, array.dtype.str, array.shape, len(blobs[-1]), packed))
    about = {
        "arrays": arrays, "steps": len(episode), "terminated": bool(episode.terminated),
        "truncated": bool(episode.truncated), "success": None if episode.success is None else bool(episode.success),
        "facts": dict(episode.facts),
    }  # fmt: skip
    text = json.dumps(about).encode()
    return struct.pack("<I", len(text)) + text + b"".join(blobs)


def spec_to_json(spec: DataSpec) -> dict[str, Any]:
    """A spec as plain values, for JSON; `spec_from_json` makes it a spec again."""
    features = {name: asdict(feature) for name, feature in spec.features.items()}
    return {"control_dt": spec.control_dt, "task": spec.task, "robot": spec.robot, "facts": dict(spec.facts),
            "features": features}  # fmt: skip


def spec_from_json(data: Mapping[str, Any]) -> DataSpec:
    """The inverse of `spec_to_json`. Raises KeyError, TypeError or DataError where it is not such a thing."""
    features = {
        name: Feature(f["dtype"], tuple(f["shape"]), f["unit"], tuple(f["names"]))
        for name, f in data["features"].items()
    }
    return DataSpec(data["control_dt"], features, data["task"], data["robot"], data["facts"])


def _lock(file: FileIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise DataError(f"another process appends to '{path}'; wait for it, or write to another file") from error


def _write(file: FileIO, at: int, data: bytes) -> None:
    """All of it at that place, and to the disk."""
    left = memoryview(data)
    while left:
        written = os.pwrite(file.fileno(), left, at)
        left, at = left[written:], at + written
    os.fsync(file.fileno())
