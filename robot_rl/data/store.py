"""A file of episodes that is only ever appended to, and what becomes of it when a process or a machine dies.

    frames, see `frames.py`: one with the spec, then one per episode
    payload of an episode: u32 length of a JSON text, the text, the arrays one after the other, each compressed or not

An episode is on the disk, whole, when `append` returns. A process that dies loses the one it was about to append; the
torn end that it may leave is moved into a file beside it when the file is next opened for appending, which `repaired`
tells. A frame that is damaged with whole ones after it is never cut off: reading it raises, the others stay readable.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
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

from robot_rl.data.disk import aside, blocks, lock, publish, write_at
from robot_rl.data.episode import DataError, DataSpec, Episode, Feature, problems
from robot_rl.data.frames import HEAD, MAGIC, Frame, framed, scan

_LOG = logging.getLogger("robot_rl.data")
_SMALLER = 0.9  # an array is stored compressed where that saves a tenth


class EpisodeStore:
    """Read with `store[i]`, `len`, iteration; write with `append`. Use as a context manager, or `close` it.

    Attributes:
        path; spec. torn: bytes of an unfinished episode at the end. repaired: those that opening has moved into a file
        `<name>.torn-<n>` beside it.
    """

    def __init__(self, path: Path, file: FileIO, writable: bool) -> None:
        """Use `create` or `open`."""
        self.path, self._file, self._writable, self._owner = path, file, writable, os.getpid()
        self.repaired = 0
        try:
            self._frames, self._end, size = scan(file, path)
            self.spec = spec_from_json(_parsed(self._payload(0)))
            self.torn = size - self._end
            if self.torn and writable:
                self._move_torn_end()
        except (DataError, OSError):
            file.close()
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            file.close()
            raise DataError(
                f"'{path}' has a description that cannot be read ({error}); was it made by hand?"
            ) from error

    @classmethod
    def create(cls, path: str | os.PathLike[str], spec: DataSpec) -> EpisodeStore:
        """A new, empty file, open for appending. It appears under its name when its description is on the disk.

        Raises:
            DataError: it exists already, or cannot be written.
        """
        path = Path(path)
        try:
            text = json.dumps(spec_to_json(spec), allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise DataError(f"the spec for '{path}' cannot be kept ({error}); use plain numbers and texts") from error
        if os.path.lexists(path):
            raise DataError(f"'{path}' exists; append to it, or choose another name")
        unfinished = aside(path)
        try:
            file = open(unfinished, "x+b", buffering=0)  # noqa: SIM115  the store closes it
        except OSError as error:
            raise DataError(f"'{path}' cannot be written: {error.strerror}") from error
        try:
            lock(file, path)
            write_at(file, 0, MAGIC + framed(text))
            os.fsync(file.fileno())
            publish(unfinished, path)
        except (DataError, OSError) as error:
            file.close()
            if isinstance(error, DataError):
                raise
            raise DataError(f"'{path}' cannot be written: {error.strerror}") from error
        finally:
            unfinished.unlink(missing_ok=True)
        return cls(path, file, True)

    @classmethod
    def open(cls, path: str | os.PathLike[str], append: bool = False) -> EpisodeStore:
        """An existing file. With `append` a torn end is moved away, see `repaired`, and nobody else may append.

        Raises:
            DataError: there is none, it is something else, damaged in its description, or written by another process;
                or there is no room to keep its torn end.
        """
        path = Path(path)
        try:
            file = open(path, "r+b" if append else "rb", buffering=0)  # noqa: SIM115  the store closes it
        except OSError as error:
            raise DataError(f"'{path}' cannot be opened: {error.strerror}") from error
        if append:
            lock(file, path)
        return cls(path, file, append)

    def __enter__(self) -> EpisodeStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; episodes that were appended are on the disk already."""
        if self._writable and not self._file.closed and self._owner == os.getpid():
            with contextlib.suppress(OSError):  # processes forked since hold the file open, and with it the lock
                fcntl.flock(self._file, fcntl.LOCK_UN)
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

    def append(self, episode: Episode, durable: bool = True) -> int:
        """Write an episode to the disk; gives its index. When it returns, the episode survives whatever comes.

        Args:
            episode: with the features of `spec`.
            durable: False leaves it to `sync` to bring many at once to the disk.

        Raises:
            DataError: opened for reading or by another process, the episode does not fit the spec, there is no room,
                or something else has written to the file; the file is as before.
        """
        self._check_mine()
        found = problems(episode, self.spec)
        if found:
            raise DataError("this episode cannot be kept: " + "; ".join(found))
        payload = _packed(episode)
        try:
            write_at(self._file, self._end, framed(payload))
            if durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            self._undo()
            room = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            what = "there is no room" if room else f"it cannot be written ({error.strerror})"
            raise DataError(
                f"'{self.path}': {what} for an episode of {len(payload)} bytes; the {len(self)} before are safe"
            ) from error
        self._frames.append(Frame(self._end + HEAD.size, len(payload), zlib.crc32(payload)))
        self._end += HEAD.size + len(payload)
        return len(self) - 1

    def sync(self) -> None:
        """Bring to the disk what was appended with `durable=False`. Raises DataError where that fails."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DataError(f"'{self.path}' cannot be written: {error.strerror}") from error

    def _check_mine(self) -> None:
        """Raises DataError where appending would go wrong, or over what somebody else has written."""
        if not self._writable:
            raise DataError(f"'{self.path}' is open for reading; open it with append=True")
        if self._owner != os.getpid():
            raise DataError(
                f"'{self.path}' was opened for appending by process {self._owner}, this is {os.getpid()}; append "
                "there, or close it there and open it here with append=True"
            )
        size = os.fstat(self._file.fileno()).st_size
        if size != self._end:
            raise DataError(
                f"'{self.path}' has {size} bytes, {self._end} were expected: something else has written to it. "
                "Close it, look at it with `robot-rl data check`, and open it anew"
            )

    def _undo(self) -> None:
        """Cut off what was written of an episode; where even that fails, the next opening does it."""
        try:
            os.ftruncate(self._file.fileno(), self._end)
        except OSError:
            self._writable = False

    def _move_torn_end(self) -> None:
        """Into a file of its own, and only then cut it off: a bit that flipped in the last episode looks like this."""
        number = 1
        while os.path.lexists(kept := self.path.with_name(f"{self.path.name}.torn-{number}")):
            number += 1
        unfinished, at = aside(kept), 0
        try:
            with open(unfinished, "xb", buffering=0) as file:
                for block in blocks(self._file, self._end, self.torn):
                    write_at(file, at, block)
                    at += len(block)
                os.fsync(file.fileno())
            publish(unfinished, kept)
            os.ftruncate(self._file.fileno(), self._end)
        except (DataError, OSError) as error:
            raise DataError(
                f"'{self.path}' ends in {self.torn} bytes of no whole episode, which cannot be kept in '{kept}' "
                f"({error}); nothing was cut off. Make room there, or append to another file"
            ) from error
        finally:
            unfinished.unlink(missing_ok=True)
        _LOG.warning("'%s': %d bytes of no whole episode at its end were moved into '%s'", self.path, self.torn, kept)
        self.torn, self.repaired = 0, self.torn

    def _read(self, index: int) -> tuple[dict[str, Any], bytes]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"episode {index} of {len(self)} in '{self.path}'")
        index %= len(self)
        try:
            payload = self._payload(index + 1)
            (size,) = struct.unpack_from("<I", payload)
            return _parsed(payload[4 : 4 + size]), payload[4 + size :]
        except (struct.error, ValueError) as error:
            raise DataError(f"episode {index} in '{self.path}' is damaged: {error}") from error

    def _payload(self, frame: int) -> bytes:
        payload = self._frames[frame].read(self._file)
        if payload is None:
            what = f"episode {frame - 1}" if frame else "the description"
            raise DataError(f"{what} in '{self.path}' is damaged: its check sum differs")
        return payload


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
    text = json.dumps(about, allow_nan=False).encode()
    return struct.pack("<I", len(text)) + text + b"".join(blobs)


def _parsed(text: bytes) -> Any:
    """JSON; NaN and infinity, which are not, become texts."""
    return json.loads(text, parse_constant=str)


def spec_to_json(spec: DataSpec) -> dict[str, Any]:
    """A spec as plain values, for JSON; `spec_from_json` makes it a spec again."""
    features = {name: asdict(feature) for name, feature in spec.features.items()}
    return {"control_dt": spec.control_dt, "task": spec.task, "robot": spec.robot, "facts": dict(spec.facts),
            "features": features}  # fmt: skip


def spec_from_json(data: Mapping[str, Any]) -> DataSpec:
    """The inverse of `spec_to_json`.

    Raises:
        KeyError, TypeError, AttributeError, DataError: it is not such a thing.
    """
    features = {
        name: Feature(f["dtype"], tuple(f["shape"]), f["unit"], tuple(f["names"]))
        for name, f in data["features"].items()
    }
    return DataSpec(data["control_dt"], features, data["task"], data["robot"], data["facts"])
