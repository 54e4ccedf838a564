"""Compile generated C++ with the system compiler into a cached shared library.

The cache key covers source, compiler, flags and CPU, so a stale or foreign library is never loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from robot_rl.errors import MissingDependency, RobotRlError

# No -ffast-math: the generated exp relies on (x + big) - big, and a NaN must stay one.
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
FLAGS += ("-shared", "-fPIC", "-std=c++17", "-Wno-psabi")


def find_compiler() -> str | None:
    """Path of the C++ compiler: `$CXX`, else clang++, g++ or c++; None when there is none."""
    candidates = (os.environ.get("CXX"), "clang++", "g++", "c++")
    return next((path for c in candidates if c and (path := shutil.which(c))), None)


def cache_folder() -> Path:
    """`$ROBOT_RL_CACHE`, else `$XDG_CACHE_HOME/robot_rl`, else `~/.cache/robot_rl`; a temporary one if not writable."""
    base = os.environ.get("ROBOT_RL_CACHE")
    folder = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "robot_rl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="robot_rl_"))


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
        return next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    except OSError:
        return platform.processor()


def compile_library(source: str, name: str) -> ctypes.CDLL:
    """Build `source` (or take it from the cache) and load it.

    Raises:
        MissingDependency: no C++ compiler.
        RobotRlError: the compiler failed; the message holds the end of what it printed.
    """
    compiler = find_compiler()
    if compiler is None:
        raise MissingDependency("a C++ compiler", "native simulation code", "apt-get install g++ (or set CXX)")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    key = hashlib.sha256("\0".join((source, compiler, version, *FLAGS, _cpu())).encode()).hexdigest()[:24]
    folder = cache_folder()
    library = folder / f"{name}-{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            text = Path(work) / f"{name}.cpp"
            text.write_text(source)
            built = Path(work) / "built.so"
            run = subprocess.run(
                [compiler, *FLAGS, str(text), "-o", str(built)], capture_output=True, text=True, check=False
            )
            if run.returncode != 0:
                raise RobotRlError(f"{compiler} could not build {name}:\n{run.stderr[-2000:]}")
            built.replace(library)
    return ctypes.CDLL(str(library))
