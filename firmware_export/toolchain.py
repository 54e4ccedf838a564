"""Compilers and emulators as outside programs: finding them, running them, and saying what to install when they are
absent.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from robot_rl.errors import ExportError, MissingDependency

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-pedantic")
COMPILE = (
    "-std=c99",
    "-O2",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-math-errno",
    "-ffp-contract=fast",
    *WARNINGS,
)
"""Flags for the generated C. Contraction to fused multiply-add is allowed: the golden tolerance covers it."""

APT = {
    "arm-none-eabi-gcc": "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "qemu-system-arm": "apt-get install qemu-system-arm",
    "riscv64-unknown-elf-gcc": "apt-get install gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
    "qemu-system-riscv32": "apt-get install qemu-system-misc",
    "cc": "apt-get install gcc libc6-dev",
}
_TIME_LIMIT = 120.0


def program(name: str, needed_for: str) -> str:
    """Path of an outside program.

    Raises:
        MissingDependency: it is not on the PATH; the message says how to install it.
    """
    found = shutil.which(name)
    if found is None:
        raise MissingDependency(name, needed_for, APT.get(name, f"your package manager (a program called {name})"))
    return found


def available(*names: str) -> bool:
    """Whether all programs are on the PATH."""
    return all(shutil.which(name) for name in names)


def run(command: Sequence[str | Path], what: str) -> str:
    """Run a build tool and give back what it printed.

    Raises:
        ExportError: it failed; the message holds the command's own words.
    """
    try:
        done = subprocess.run(
            [str(c) for c in command],
            capture_output=True,
            text=True,
            timeout=_TIME_LIMIT,
            check=False,
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"{what} did not end within {_TIME_LIMIT:g} s: {' '.join(map(str, command))}") from error
    except OSError as error:
        raise ExportError(f"{what} could not be started: {error}") from error
    if done.returncode:
        words = (done.stderr or done.stdout)[-4000:]
        raise ExportError(f"{what} failed with code {done.returncode}: {' '.join(map(str, command))}\n{words}")
    return done.stdout + done.stderr
