"""Writing result files in one piece, and finding out early that they cannot be written."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from robot_rl.errors import RobotRlError

STDOUT = Path("-")  # as an output file: standard output


def write_text(path: Path, text: str) -> None:
    """Write aside, then rename; a reader never sees half a file. `-`, links, pipes and devices are written through.

    Raises:
        RobotRlError: the folder cannot be written or the disk is full.
    """
    if path == STDOUT:
        sys.stdout.write(text + "\n")
        return
    aside = ""
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_text(text + "\n", encoding="utf-8")  # a rename would put a file in the place of the device
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BrokenPipeError:
        raise
    except OSError as error:
        if aside:
            Path(aside).unlink(missing_ok=True)
        raise RobotRlError(f"cannot write {path}: {error.strerror or error}") from error


def check_output(path: Path) -> None:
    """Make sure that `write_text(path, …)` will find a folder it can write in.

    Raises:
        RobotRlError: the folder cannot be made or written.
    """
    if path != STDOUT and not path.is_symlink() and (path.is_file() or not path.exists()):
        make_folder(path.parent)


def make_folder(path: Path) -> Path:
    """The folder `path`, made where it is missing, and known to be writable: call it before hours of work, not after.

    Raises:
        RobotRlError: it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise RobotRlError(f"cannot write in the folder {path}: {error.strerror or error}; choose another") from error
