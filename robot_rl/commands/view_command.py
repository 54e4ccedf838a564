"""`robot-rl view`: watch and steer a policy in a 3-D viewer in the browser, or film it without one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from robot_rl.commands.arguments import seed
from robot_rl.errors import ConfigError

if TYPE_CHECKING:
    from robot_rl.evaluation.jointed.session import Watched

HELP = "watch and steer a policy in the browser: velocities, pushes, friction, load, delay, simulator"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", help="ONNX file, or base:<name> for a scripted expert")
    parser.add_argument("--task", help="another task than the one it was trained for")
    parser.add_argument("--physics", help="contact simulator to begin with, see `robot-rl list physics`")
    parser.add_argument("--set", nargs="+", default=[], action="extend", dest="changes", metavar="OPTION=VALUE",
                        help="options of the task, e.g. noise.scale=0")  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: other computers may look and steer, too")
    parser.add_argument("--port", type=int, default=8080, help="the next free one where this is taken (default 8080)")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument(
        "--headless-video",
        type=Path,
        metavar="FILE.mp4",
        help="no browser: film a tour through what can be asked of it",
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="length of that film (default 15)")


def main(arguments: argparse.Namespace) -> int:
    from robot_rl.evaluation.jointed.session import Session

    watched = watched_by(arguments)
    if arguments.headless_video is not None:
        from robot_rl.evaluation.jointed.tour import save_tour

        title = f"{Path(arguments.policy).stem}: {watched.task.name}"
        film = save_tour(Session(watched), arguments.headless_video, arguments.seconds, title)
        print(f"wrote {film}")
        return 0
    from robot_rl.evaluation.jointed.viewer import Viewer

    viewer = Viewer(Session(watched), arguments.host, arguments.port)
    print(f"open {viewer.url} in a browser; Ctrl-C ends it", flush=True)
    try:
        viewer.run()
    finally:
        viewer.close()
    return 0


def watched_by(arguments: argparse.Namespace) -> Watched:
    """What the arguments ask to look at.

    Raises:
        ConfigError: impossible arguments, or a policy that flies.
    """
    from robot_rl.commands.compose import task_played_by
    from robot_rl.evaluation.jointed.command import changes_of
    from robot_rl.evaluation.jointed.session import Watched
    from robot_rl.registry import load

    if not 0 < arguments.seconds <= 3600:
        raise ConfigError(f"--seconds {arguments.seconds:g}: must be more than 0 and at most 3600")
    if not 0 < arguments.port < 65536:
        raise ConfigError(f"--port {arguments.port}: must be from 1 to 65535")
    task = load("task", arguments.task) if arguments.task else task_played_by(arguments.policy)
    if task.described_by_env:
        raise ConfigError(f"'{task.name}' is an environment of another project; only scenes of our own can be viewed")
    if not task.variants:
        raise ConfigError(f"'{task.name}' is flight; `robot-rl eval {arguments.policy} -o FOLDER` films it")
    return Watched(arguments.policy, task, changes_of(arguments), arguments.seed)
