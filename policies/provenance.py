"""Where a run came from: commit, versions, command, and the resolved config as plain values and back."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from robot_rl.errors import UnknownName

PACKAGES = ("robot-rl", "torch", "numpy", "mujoco", "gymnasium", "stable-baselines3", "onnx")
T = TypeVar("T")


def git_commit() -> str | None:
    """Commit of the source tree this package runs from, with `+changes` if it was edited; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10)
        status = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=root, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode != 0:
        return None
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a run computes, as far as they are installed."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def command_line() -> str:
    """The command of this process, quoted for a shell."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def config_to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain values."""
    return dataclasses.asdict(config)


def config_from_dict(config_class: type[T], values: Mapping[str, Any]) -> T:
    """The config that config_to_dict and JSON made plain (JSON's lists become tuples again).

    Raises:
        UnknownName: a key that the class does not have.
        ConfigError: from the class's own checks.
    """
    names = [f.name for f in dataclasses.fields(config_class)]  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            raise UnknownName(f"key of {config_class.__name__}", key, names)
    return config_class(**{key: _tuples(value) for key, value in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
