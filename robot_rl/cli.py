"""The command line: `robot-rl VERB …`. Parses, calls one command, prints errors; the commands import what is heavy.

Each verb is one file in `robot_rl/commands/` with `HELP`, `add_arguments(parser)` and `main(arguments) -> int`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from robot_rl import __version__
from robot_rl.errors import MissingDependency, RobotRlError

# In the order of the work; each is a module of robot_rl.commands.
VERBS = ("list", "train", "eval", "export", "verify", "firmware", "run", "tune", "bench", "demo")

# Which extra brings a package that a command may miss.
_EXTRAS = {
    "torch": "train", "onnxscript": "train", "rich": "train", "gymnasium": "sim", "scipy": "sim", "matplotlib": "train",
    "cv2": "train", "imageio": "train", "imageio_ffmpeg": "train", "tensorboard": "train", "stable_baselines3": "train",
    "rclpy": "ros",
}  # fmt: skip


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser; with `only`, just that verb's arguments are filled in (the others' modules stay unloaded)."""
    parser = argparse.ArgumentParser(
        prog="robot-rl",
        description="Train a policy in simulation, run the same file on a ROS 2 robot and on a microcontroller.",
    )
    parser.add_argument("--version", action="version", version=f"robot-rl {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the full traceback of an error")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        module = importlib.import_module(f"robot_rl.commands.{verb}_command")
        sub = verbs.add_parser(verb, help=module.HELP, description=module.HELP)
        if only in (None, verb):
            module.add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 the command's own "no", 2 an error, 130 interrupted."""
    # Small networks and batches run slower on several threads, and a thread pool is sized when numpy is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    words = list(sys.argv[1:] if argv is None else argv)
    verb = next((w for w in words if w in VERBS), None)
    arguments = build_parser(verb).parse_args(words)
    try:
        return importlib.import_module(f"robot_rl.commands.{arguments.verb}_command").main(arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if arguments.debug or package not in _EXTRAS:
            raise
        missing = MissingDependency(f"the package '{package}'", f"robot-rl {arguments.verb}", _install(package))
        return _failed(missing)
    except RobotRlError as error:
        if arguments.debug:
            raise
        return _failed(error)
    except OSError as error:
        if arguments.debug:
            raise
        where = f" ({error.filename})" if error.filename else ""
        return _failed(RobotRlError(f"{error.strerror or error}{where}"))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _install(package: str) -> str:
    if package == "torch":
        return "pip install torch==2.13.0 && pip install 'robot-rl[train]'"
    return f"pip install 'robot-rl[{_EXTRAS[package]}]'"


def _failed(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
