"""One training run on disk: run.json, metrics, and checkpoints that survive a kill at any moment. Knows no algorithm.

- RUN/run.json: what was run (config, command, commit, versions, seed, times)
- RUN/metrics.jsonl, RUN/tensorboard/: one row per iteration
- RUN/checkpoints/0000120.pt: state after iteration 120; the newest few are kept
- RUN/nan_dump.pt: written when a number was not finite
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from robot_rl.errors import CheckpointError

IDENTITY = ("task", "algorithm", "seed", "config")  # what run.json must say for a run to be resumed or exported
PLAIN_TYPES = (torch.Tensor, str, bytes, int, float, bool, type(None))


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write aside, force to disk, rename: after a crash the file is either the old or the new one, complete.

    Raises:
        CheckpointError: disk full, read-only, no permission; the half-written file is removed.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        _remove(aside)
        raise explained(error, path, len(data)) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def explained(error: OSError, path: Path, size: int) -> CheckpointError:
    """The error to raise when `size` bytes could not be written to `path`: why, and what to do."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        parent = next((p for p in path.parents if p.exists()), Path("/"))
        free = shutil.disk_usage(parent).free / 1e6
        advice = f"{size / 1e6:.1f} MB are needed, {free:.1f} MB are free there; free some space, then resume the run"
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        advice = "the folder is read-only for this user; choose another with --out"
    else:
        advice = "choose another folder with --out"
    return CheckpointError(f"cannot write {path}: {reason}; {advice}")


def require_plain(value: Any, where: str) -> None:
    """Refuse what `torch.load(weights_only=True)` would not read back.

    Raises:
        CheckpointError: names the place and the type.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            require_plain(key, f"key of {where}")
            require_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple, set)):
        for i, item in enumerate(value):
            require_plain(item, f"{where}[{i}]")
    elif not isinstance(value, PLAIN_TYPES) or type(value).__module__ == "numpy":
        raise CheckpointError(
            f"{where} is a {type(value).__module__}.{type(value).__qualname__}; a checkpoint holds only tensors, "
            f"numbers, strings, lists, tuples and dicts (convert arrays with torch.as_tensor)"
        )


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Save `state` to `path`, atomically.

    Raises:
        CheckpointError: the state holds something other than plain values, or the disk refuses.
    """
    require_plain(state, "checkpoint")
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint after checking every checksum in it; executes nothing from the file.

    Raises:
        CheckpointError: absent, truncated, damaged, or not a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"checkpoint {path} is damaged: checksum of '{damaged}' does not match")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"checkpoint {path} is damaged or incomplete ({reason})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a checkpoint of a training run")
    return state


class RunFolder:
    """The folder of one run, locked while this object trains in it.

    Args:
        path: the folder.
        keep: how many of the newest checkpoints stay on disk (at least 2, so that one may be damaged).
    """

    def __init__(self, path: Path | str, keep: int = 3) -> None:
        self.path = Path(path)
        self.keep = max(keep, 2)
        self.checkpoints = self.path / "checkpoints"
        self._lock: io.IOBase | None = None

    @property
    def is_run(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "run.json").is_file()

    def open_new(self) -> None:
        """Make and lock the folder for a new run.

        Raises:
            CheckpointError: it already holds something, cannot be made, or is in use.
        """
        if self.is_run:
            raise CheckpointError(
                f"{self.path} already holds a run and is never overwritten; go on with it by --resume, or choose "
                f"another folder with --out"
            )
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise CheckpointError(f"{self.path} exists and is not empty; choose another folder with --out")
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explained(error, self.path, 0) from error
        self._take_lock()

    def open_existing(self) -> dict[str, Any]:
        """Lock the folder of an earlier run and read its run.json.

        Raises:
            CheckpointError: there is no run, or another process trains in it.
        """
        info = self.read_info()
        self._take_lock()
        for leftover in self.checkpoints.glob(".*.tmp"):
            _remove(leftover)
        return info

    def _take_lock(self) -> None:
        try:
            lock = open(self.path / ".lock", "wb")  # noqa: SIM115 - held until close()
        except OSError as error:
            raise explained(error, self.path / ".lock", 0) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise CheckpointError(f"another process is training in {self.path}; wait for it or end it first") from None
        self._lock = lock

    def close(self) -> None:
        """Release the lock; idempotent. A killed process releases it by dying."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Write run.json atomically."""
        write_atomically(self.path / "run.json", (json.dumps(info, indent=2, default=str) + "\n").encode())

    def read_info(self) -> dict[str, Any]:
        """Content of run.json.

        Raises:
            CheckpointError: absent, not JSON, or without what identifies a run.
        """
        if not self.is_run:
            raise CheckpointError(f"there is no training run in {self.path} (no run.json); start one without --resume")
        try:
            info: Any = json.loads((self.path / "run.json").read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.path / 'run.json'} cannot be read: {error}; start a new run") from error
        missing = [key for key in IDENTITY if not isinstance(info, dict) or key not in info]
        if missing:
            raise CheckpointError(
                f"{self.path / 'run.json'} does not say {', '.join(missing)}: it is damaged or of another program; "
                f"start a new run"
            )
        return info

    def checkpoint_paths(self) -> list[Path]:
        """Checkpoints, oldest first."""
        return sorted(self.checkpoints.glob("[0-9]*.pt"))

    def save(self, iteration: int, state: Mapping[str, Any]) -> Path:
        """Write the checkpoint of `iteration`, then forget the oldest."""
        path = self.checkpoints / f"{iteration:07d}.pt"
        write_checkpoint(path, state)
        for old in self.checkpoint_paths()[: -self.keep]:
            _remove(old)
        return path

    def keep_only(self, path: Path) -> None:
        """Read `path` back; if it is sound, drop all other checkpoints (they may hold a large replay)."""
        read_checkpoint(path)
        for other in self.checkpoint_paths():
            if other != path:
                _remove(other)

    def load_newest(self, say: Callable[[str], None] | None = None) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, or None if none was ever written.

        Damaged ones are reported through `say` and the one before is taken; in a folder opened for training they are
        renamed to `*.pt.damaged`.

        Raises:
            CheckpointError: there are checkpoints, but none can be read.
        """
        paths = self.checkpoint_paths()
        failures: list[str] = []
        for path in reversed(paths):
            try:
                state = read_checkpoint(path)
            except CheckpointError as error:
                failures.append(str(error))
                continue
            if self._lock is not None:
                for bad in paths[paths.index(path) + 1 :]:
                    bad.rename(bad.with_name(bad.name + ".damaged"))
            if failures and say is not None:
                say(f"{'; '.join(failures)}: going on from the one before, {path.name}")
            return state
        if failures:
            raise CheckpointError(
                f"no checkpoint in {self.checkpoints} can be read: {'; '.join(failures)}; start a new run"
            )
        return None
