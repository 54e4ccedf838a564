"""`robot-rl demos`: record demonstrations of a scripted expert, a controller or a policy file."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from robot_rl.commands.arguments import seed
from robot_rl.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from robot_rl.evaluation.episodes.record import Tally, Wanted
    from robot_rl.sim.task_spec import TaskSpec

HELP = "record demonstrations: episodes of a scripted expert, a controller or a policy file, for learners"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "policy", metavar="TASK_OR_POLICY",
        help="ONNX file, base:<name> for a scripted expert or a controller, or a task that has an expert "
        "(gym: tasks: the suite's own, or --set expert=<module>:<Name>)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.rrl", help="where episodes go")
    parser.add_argument("--append", action="store_true", help="add to the file if it exists, where features agree")
    parser.add_argument("--episodes", type=int, default=50, help="how many to keep (default 50)")
    parser.add_argument("--only-success", action="store_true", help="keep only episodes that succeed")
    parser.add_argument(
        "--noise", type=float, default=0.0, metavar="SIGMA",
        help="standard deviation of noise on the actions, which are from -1 to 1; the policy's own are kept, too",
    )  # fmt: skip
    parser.add_argument("--images", action="store_true",
                        help="the task's cameras, too; --set camera.size=128 camera.names=[front,wrist]")  # fmt: skip
    parser.add_argument("--task", help="another task than the policy's own; needed for controllers that fly")
    parser.add_argument("--physics", help="robots with joints: contact simulator, see `robot-rl list physics`")
    parser.add_argument("--set", nargs="+", default=[], action="extend", dest="changes", metavar="OPTION=VALUE",
                        help="options of the task, e.g. reward_kind=sparse")  # fmt: skip
    parser.add_argument("--seed", type=seed, default=0)


def main(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from robot_rl.commands.files import check_output
    from robot_rl.evaluation.episodes.record import Tally, record
    from robot_rl.policies.training_log import ProgressDisplay

    check_output(arguments.output)
    wanted, tally = wanted_by(arguments), Tally()
    title = f"{wanted.task.name}, {Path(wanted.policy).stem}"
    begin = time.monotonic()
    display = ProgressDisplay(Console(stderr=True), title, wanted.episodes, ("kept", "success"))
    try:
        for tally in record(wanted, arguments.output, arguments.append):
            row = {"kept": tally.kept, "success": tally.succeeded / tally.played}
            display.update(tally.kept, row | {"env_steps_per_second": tally.steps / (time.monotonic() - begin)})
    finally:
        display.close()
        if tally.played:
            print(_summary(tally, arguments.output), flush=True)
    return 0 if tally.kept == wanted.episodes else 1


def wanted_by(arguments: argparse.Namespace) -> Wanted:
    """What the arguments ask to record.

    Raises:
        ConfigError: impossible numbers, or a controller without a task. UnknownName: no such policy, task or option.
    """
    from robot_rl.evaluation.episodes.record import Wanted
    from robot_rl.evaluation.jointed.command import changes_of
    from robot_rl.evaluation.jointed.rollout import BASE, EXPERT
    from robot_rl.registry import is_foreign, names

    policy: str = arguments.policy
    if is_foreign(policy):
        arguments.task, policy = arguments.task or policy, f"{BASE}{EXPERT}"
    if policy in names("task"):
        if policy not in names("base"):
            raise ConfigError(f"task '{policy}' has no scripted expert; name a policy file, or base:<name> with --task")
        policy = f"base:{policy}"
    return Wanted(
        policy, _task(policy, arguments.task), changes_of(arguments), arguments.episodes, arguments.seed,
        arguments.noise, arguments.only_success, arguments.images,
    )  # fmt: skip


def _task(policy: str, named: str | None) -> TaskSpec:
    from robot_rl.commands.compose import task_played_by
    from robot_rl.registry import load, names

    if named:
        return load("task", named)
    try:
        return task_played_by(policy)
    except UnknownName:
        if policy.removeprefix("base:") not in names("base"):
            raise
        raise ConfigError(f"'{policy}' can do several tasks; say which with --task, e.g. quadrotor-hover") from None


def _summary(tally: Tally, path: Path) -> str:
    from robot_rl.evaluation.report import share
    from robot_rl.evaluation.statistics import wilson

    text = f"success {tally.succeeded} of {tally.played}: {share(wilson(tally.succeeded, tally.played))}; "
    if not tally.kept:
        return f"{text}nothing to keep, nothing written"
    return f"{text}wrote {tally.kept} episode{'s' * (tally.kept != 1)} to {path}"
