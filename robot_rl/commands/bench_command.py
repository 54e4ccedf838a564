"""`robot-rl bench`: the benchmarks of a checkout, each a script with its own arguments."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from robot_rl.errors import ConfigError, UnknownName

HELP = "run a benchmark of the checkout"
FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="without it: list them")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="passed on")


def main(arguments: argparse.Namespace) -> int:
    available = {f.stem.replace("_", "-"): f for f in sorted(FOLDER.glob("*.py")) if not f.stem.startswith("_")}
    if arguments.name is None:
        print("\n".join(available) or "no benchmarks: this is not a checkout")
        return 0
    if not available:
        raise ConfigError("there are no benchmarks here: they are part of a checkout, not of an installed package")
    if arguments.name not in available:
        raise UnknownName("benchmark", arguments.name, available)
    return subprocess.run([sys.executable, str(available[arguments.name]), *arguments.rest], check=False).returncode
