"""Writing result files in one piece."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from robot_rl.errors import RobotRlError


def write_text(path: Path, text: str) -> None:
    """Write aside, then rename; a reader never sees half a file.

    Raises:
        RobotRlError: the folder cannot be written or the disk is full.
    """
    aside = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except OSError as error:
        if aside:
            Path(aside).unlink(missing_ok=True)
        raise RobotRlError(f"cannot write {path}: {error.strerror or error}") from error
