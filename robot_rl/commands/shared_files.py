"""Where files that are data (config, launch) lie: in a checkout, or under share/robot_rl of an installation."""

from __future__ import annotations

import sys
from pathlib import Path

from robot_rl.errors import ConfigError

_ROOTS = (Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / "robot_rl")


def shared_file_or_none(name: str) -> Path | None:
    """Full path of, for example, `config/train/fast.yaml`; None where it is in neither place."""
    return next((root / name for root in _ROOTS if (root / name).is_file()), None)


def shared_file(name: str) -> Path:
    """The same for a file that must be there.

    Raises:
        ConfigError: it is in neither place.
    """
    found = shared_file_or_none(name)
    if found is None:
        raise ConfigError(f"{name} was not found below {' or '.join(map(str, _ROOTS))}; reinstall the package")
    return found
