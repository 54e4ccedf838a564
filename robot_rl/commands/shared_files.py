"""Where files that are data (config, launch) lie: in a checkout, or under share/robot_rl of an installation."""

from __future__ import annotations

import sys
from pathlib import Path

from robot_rl.errors import ConfigError


def shared_file(name: str) -> Path:
    """Full path of, for example, `config/train/fast.yaml`.

    Raises:
        ConfigError: it is in neither place.
    """
    roots = (Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / "robot_rl")
    found = next((r / name for r in roots if (r / name).is_file()), None)
    if found is None:
        raise ConfigError(f"{name} was not found below {' or '.join(map(str, roots))}; reinstall the package")
    return found
