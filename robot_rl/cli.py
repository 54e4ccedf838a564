"""The command line: `robot-rl VERB …`. Parses, calls one command, prints errors; the commands import what is heavy.

Each verb is one file in `robot_rl/commands/` with `HELP`, `add_arguments(parser)` and `main(arguments) -> int`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import select
import sys
from collections.abc import Sequence

from robot_rl import __version__
from robot_rl.errors import MissingDependency, RobotRlError

# In the order of the work; each is a module of robot_rl.commands.
VERBS = (
    "list",
    "train",
    "actor",
    "eval",
    "view",
    "export",
    "verify",
    "firmware",
    "run",
    "tune",
    "refine",
    "classifier",
    "demos",
    "data",
    "bench",
    "demo",
)

# Packages that a command may miss, with the extra that brings them.
_EXTRAS = {
    "torch": "train", "onnxscript": "train", "tensorboard": "train", "stable_baselines3": "train",
    "gymnasium": "sim", "scipy": "sim", "mujoco": "sim", "pybullet": "sim", "viser": "view", "rclpy": "ros",
}  # fmt: skip
# Small ones that are worth having without PyTorch, with their names for pip.
_ALONE = {"rich": "rich", "matplotlib": "matplotlib", "cv2": "opencv-python-headless", "imageio": "imageio",
          "imageio_ffmpeg": "imageio-ffmpeg"}  # fmt: skip
_NEED_TORCH = ("train", "actor", "refine", "classifier", "export", "demo")


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
    """Run one command.

    Returns:
        the exit status: 0 done, 1 the command's own "no", 2 an error, 130 interrupted, 141 nobody reads the output.
    """
    # Small networks and batches run slower on several threads, and a thread pool is sized when numpy is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    words = list(sys.argv[1:] if argv is None else argv)
    verb = next((w for w in words if w in VERBS), None)
    arguments = build_parser(verb).parse_args(words)
    try:
        status = importlib.import_module(f"robot_rl.commands.{arguments.verb}_command").main(arguments)
        if sys.stdout is not None:  # it is None where a shell closed it
            sys.stdout.flush()
        return status
    except (RobotRlError, ImportError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 141
        shown = None if arguments.debug else _explained(error, arguments.verb)
        if shown is None:
            raise
        print(f"error: {shown}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _nobody_reads() -> bool:
    """Whether the reader of standard output has gone, as in `robot-rl list | head -1`; the rest is thrown away then."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
    return gone


def _explained(error: Exception, verb: str) -> object | None:
    """What to tell about an error that the user can mend; None for one of ours, which keeps its traceback."""
    if isinstance(error, RobotRlError):
        return error
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").split(".")[0]
        known = package in _EXTRAS or package in _ALONE
        return (
            MissingDependency(f"the package '{package}'", f"robot-rl {verb}", _install(package, verb))
            if known
            else None
        )
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return f"not enough memory ({str(error).splitlines()[0]}); make num_envs, the replay or --episodes smaller"
    return None


def _install(package: str, verb: str) -> str:
    if package == "torch" or verb in _NEED_TORCH:
        return "pip install torch==2.13.0 && pip install 'robot-rl[train]'"
    return f"pip install {_ALONE[package]}" if package in _ALONE else f"pip install 'robot-rl[{_EXTRAS[package]}]'"


if __name__ == "__main__":
    sys.exit(main())
