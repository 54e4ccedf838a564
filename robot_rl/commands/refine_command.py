"""`robot-rl refine`: make a policy that works now and then work reliably, without touching it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_rl.commands.arguments import seed
from robot_rl.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from robot_rl.evaluation.statistics import Interval
    from robot_rl.sim.task_spec import TaskSpec

HELP = "refine a policy file by off-policy RL on a small correction, from success alone; says before and after"
ALGORITHM = "resfit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", type=Path, help="ONNX file to refine; it stays as it is, inside the new one")
    parser.add_argument("--task", help="another task than the policy's own")
    parser.add_argument("--demos", type=Path, metavar="FILE.rrl", help="successful episodes, as `robot-rl demos` "
                        "records them; default: the policy's own successes")  # fmt: skip
    parser.add_argument(
        "--own-demos", type=int, default=20, metavar="N", help="own successes to record without --demos (default 20)"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("refined.onnx"))
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument("--out", type=Path, help="run folder (default runs/TASK-resfit-SEED)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    parser.add_argument("--episodes", type=int, default=100, help="of each evaluation (default 100)")
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", dest="changes",
                        help="of the learner and, with task., of the task: scale=0.2 task.step_size=0.04")  # fmt: skip
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def main(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from robot_rl.commands.export_command import export
    from robot_rl.commands.train_command import train
    from robot_rl.errors import ExportError
    from robot_rl.evaluation.report import share

    if arguments.output.exists() and not arguments.force:
        raise ExportError(f"{arguments.output} exists; choose another name with -o, or replace it with --force")
    task, changes = task_of(arguments), settings(arguments)
    folder = arguments.out or Path("runs") / f"{task.name}-{ALGORITHM}-{arguments.seed}"
    console = Console(stderr=True, quiet=arguments.quiet)
    before = success(arguments.policy, task, changes, arguments, console)
    print(f"before: success {share(before)} of {arguments.episodes}", flush=True)
    demos = arguments.demos or own_successes(arguments, task, changes, folder, console)
    learner = changes | {"base": str(arguments.policy), "demos": str(demos)}
    result = train(
        task.name, ALGORITHM, folder, learner, seed=arguments.seed, resume=arguments.resume,
        quiet=arguments.quiet, device=arguments.device,
    )  # fmt: skip
    if not result.completed:
        return 130
    export(folder, arguments.output)
    after = success(arguments.output, task, changes, arguments, console)
    print(f"after:  success {share(after)} of {arguments.episodes}, after {result.env_steps:,} steps")
    print(f"wrote {arguments.output}\nnext: robot-rl verify {arguments.output}, robot-rl eval {arguments.output}")
    return 0


def task_of(arguments: argparse.Namespace) -> TaskSpec:
    """The task to refine on.

    Raises:
        ConfigError: it is one without a measure of success that `eval` plays, such as flight.
    """
    from robot_rl.commands.compose import task_played_by
    from robot_rl.registry import load

    task: TaskSpec = load("task", arguments.task) if arguments.task else task_played_by(str(arguments.policy))
    if not task.variants:
        raise ConfigError(f"'{task.name}' cannot be refined by this command; use `robot-rl train {task.name} "
                          f"--algorithm {ALGORITHM} --set base=FILE`")  # fmt: skip
    return task


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `--set` says; tasks that can be learnt from success alone are, unless it says otherwise."""
    from robot_rl.commands.compose import task_played_by
    from robot_rl.config import leaves, parse_set
    from robot_rl.registry import load

    task = load("task", arguments.task) if arguments.task else task_played_by(str(arguments.policy))
    sparse = {"task.reward_kind": "sparse"} if "reward_kind" in leaves(task.options) else {}
    return sparse | parse_set(arguments.changes)


def success(
    policy: Path, task: TaskSpec, changes: dict[str, Any], arguments: argparse.Namespace, console: Console
) -> Interval:
    """Share of successful episodes with its interval; the same episodes for every policy."""
    from robot_rl.commands.compose import sections
    from robot_rl.evaluation.jointed.evaluate import evaluate_variants

    with console.status(f"playing {policy.name} …"):
        options = sections(changes)["task"]
        (result,) = evaluate_variants(policy, task, "task", arguments.episodes, arguments.seed + 1_000_003, options)
    if result.summary is None:
        raise ConfigError(f"'{task.name}' cannot be played here: {result.skipped}")
    return result.summary.success


def own_successes(
    arguments: argparse.Namespace, task: TaskSpec, changes: dict[str, Any], folder: Path, console: Console
) -> Path:
    """Record episodes in which the policy succeeds by itself; a file that is there already is taken."""
    from robot_rl.commands.compose import sections
    from robot_rl.evaluation.episodes.record import Wanted, record

    path = folder.with_name(f"{folder.name}-demos.rrl")
    if path.exists():
        return path
    folder.parent.mkdir(parents=True, exist_ok=True)
    wanted = Wanted(
        str(arguments.policy), task, sections(changes)["task"], arguments.own_demos, arguments.seed, only_success=True
    )
    with console.status("recording its own successes …"):
        kept = max((tally.kept for tally in record(wanted, path)), default=0)
    if kept == 0:
        raise ConfigError(
            f"'{arguments.policy}' did not succeed once in {10 * arguments.own_demos} episodes; give --demos, "
            "for a correction cannot be learnt from a reward that never comes"
        )
    return path
