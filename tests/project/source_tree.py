"""What the project tests look at: the files of the repository, as paths and as syntax trees."""

from __future__ import annotations

import ast
import functools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("robot_rl", "sim", "policies", "hardware", "firmware_export")
LINKED = PACKAGES[1:]
_NOT_SOURCE = {".venv", ".git", "build", "install", "log", "runs", "out", "dist", "__pycache__"}


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file of the repository, relative to its root; a linked folder appears once, under its own name."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True, text=True,
        ).stdout.split("\0")  # fmt: skip
        found = {Path(name) for name in listed if name}
    except (OSError, subprocess.CalledProcessError):
        found = set(_walked())
    return tuple(sorted(path for path in found if (ROOT / path).is_file()))


def _walked() -> Iterator[Path]:
    for folder, names, file_names in os.walk(ROOT):
        names[:] = [n for n in names if n not in _NOT_SOURCE and not n.endswith(".egg-info")]
        for name in file_names:
            yield (Path(folder) / name).relative_to(ROOT)


def python_files(*folders: str) -> list[Path]:
    """Python files below these top-level folders, or all of them."""
    return [p for p in files() if p.suffix == ".py" and (not folders or p.parts[0] in folders)]


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def module_name(path: Path) -> str:
    """`sim/robots/crazyflie.py` → `robot_rl.sim.robots.crazyflie`."""
    parts = list(path.with_suffix("").parts)
    if parts[0] != "robot_rl":
        parts.insert(0, "robot_rl")
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def package_modules(*folders: str) -> list[str]:
    """Names of all modules below these package folders."""
    return [module_name(p) for p in python_files(*folders)]
