"""`robot-rl train`: train a policy for a task."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from robot_rl.commands.arguments import seed

HELP = "train a policy; writes a run folder with checkpoints and metrics"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", help="for example quadrotor-hover (robot-rl list task), gym:HalfCheetah-v5")
    parser.add_argument("--algorithm", help="robot-rl list algorithm; sb3:<Class> too (default: the task's own)")
    parser.add_argument(
        "--fast", action="store_true", help="config/train/fast.yaml: nominal vehicle, under a CPU-second"
    )
    parser.add_argument("--config", type=Path, help="YAML with sections algorithm, task, runner")
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", dest="changes",
                        help="for example lr=1e-3 task.delay_max=0.02; comes last")  # fmt: skip
    parser.add_argument("--human", metavar="WHO", help="who may take over: keyboard, gamepad, spacemouse (:PATH "
                        "for one of several), scripted:base:NAME, scripted:FILE.onnx")  # fmt: skip
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda; under torchrun cuda is one GPU per process")
    parser.add_argument("--out", type=Path, help="run folder (default runs/TASK-ALGORITHM-SEED)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    parser.add_argument("--from", type=Path, dest="start", metavar="RUN", help="a next stage: begin where that run is, "
                        "with the settings given now; --set must ask for more than it has done")  # fmt: skip
    parser.add_argument("--async", action="store_true", dest="apart", help="act in a second process, in real time, "
                        "while this one learns; settings: --set async.pace=1 async.utd=4")  # fmt: skip
    parser.add_argument("--listen", metavar="HOST:PORT", help="the same with an actor that somebody else starts, by "
                        "`robot-rl actor HOST:PORT`, also on another machine")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def main(arguments: argparse.Namespace) -> int:
    from robot_rl import registry
    from robot_rl.config import from_yaml, parse_set
    from robot_rl.errors import ConfigError
    from robot_rl.policies.distributed import is_first_process

    arguments.algorithm = arguments.algorithm or registry.load("task", arguments.task).algorithm
    if arguments.fast and arguments.algorithm != "apg":
        raise ConfigError(f"--fast is a setting of the algorithm apg, not of {arguments.algorithm}")
    changes: dict[str, Any] = {}
    for file in (fast_config() if arguments.fast else tuned_config(arguments), arguments.config):
        if file is not None:
            changes = _merged(changes, from_yaml(file))
    changes = _merged(changes, parse_set(arguments.changes))
    if arguments.human:
        changes = _merged(changes, {"human.who": arguments.human})
    folder = arguments.out or Path("runs") / default_name(arguments)
    result = train(
        arguments.task, arguments.algorithm, folder, changes,
        seed=arguments.seed, resume=arguments.resume, start=arguments.start, quiet=arguments.quiet,
        device=arguments.device, apart=arguments.apart or bool(arguments.listen), listen=arguments.listen or "",
    )  # fmt: skip
    if result.completed and is_first_process():
        print(f"wrote {result.folder}\nnext: robot-rl export {result.folder} -o policy.onnx")
    return 0 if result.completed else 130


def train(
    task_name: str,
    algorithm: str,
    folder: Path,
    changes: dict[str, Any],
    *,
    seed: int,
    resume: bool = False,
    start: Path | None = None,
    quiet: bool = False,
    device: str = "cpu",
    apart: bool = False,
    listen: str = "",
) -> Any:
    """Compose task, algorithm and runner from names and changes by section; returns the runner's TrainResult.

    Args:
        apart: act in another process, which is started here, or waited for on the address `listen`.
    """
    from contextlib import nullcontext

    from rich.console import Console

    from robot_rl import registry
    from robot_rl.commands.compose import judged, make_environment, sections
    from robot_rl.commands.learning_apart import acting_elsewhere
    from robot_rl.config import overlay, to_dict
    from robot_rl.policies.algorithm import load_algorithm
    from robot_rl.policies.distributed import local_device
    from robot_rl.policies.runner import RunInfo, RunnerConfig
    from robot_rl.policies.runner import train as run

    parts = sections(changes)
    spec = load_algorithm(algorithm)
    task = registry.load("task", task_name)
    config = overlay(spec.config_class(), parts["algorithm"])
    num_envs = int(getattr(config, "num_envs", 1))
    env = judged(make_environment(task, spec, num_envs, seed, parts["task"], local_device(device)), parts["reward"])
    command = shlex.join(["robot-rl", *sys.argv[1:]])
    extra = {"task_changes": parts["task"]} | ({"reward": parts["reward"]} if parts["reward"] else {})
    info = RunInfo(task=task_name, robot=task.robot, command=command, extra=extra)
    console = None if quiet else Console(stderr=True)
    described = {"task": task_name, "task_changes": parts["task"], "algorithm": algorithm, "seed": seed}
    described |= {"config": to_dict(config), "reward": parts["reward"]}
    split = acting_elsewhere(spec, described, parts["async"], listen, folder, quiet) if apart else nullcontext(spec)
    with split as chosen:
        return run(
            chosen, env, folder, config, seed=seed, info=info, resume=resume, start=start,
            runner=overlay(RunnerConfig(), parts["runner"]), console=console,
        )  # fmt: skip


def fast_config() -> Path:
    """config/train/fast.yaml of the checkout or of the installed share folder."""
    from robot_rl.commands.shared_files import shared_file

    return shared_file("config/train/fast.yaml")


def tuned_config(arguments: argparse.Namespace) -> Path | None:
    """config/train/TASK-ALGORITHM.yaml where there is one: settings found for this pair."""
    from robot_rl.commands.shared_files import shared_file_or_none

    return shared_file_or_none(f"config/train/{_plain(arguments.task)}-{_plain(arguments.algorithm)}.yaml")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def default_name(arguments: argparse.Namespace) -> str:
    fast = "-fast" if arguments.fast else ""
    return f"{_plain(arguments.task)}-{_plain(arguments.algorithm)}{fast}-{arguments.seed}"


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """`second` over `first`; sections are joined key by key and dotted section keys go into their section."""
    from robot_rl.commands.compose import sections

    a, b = sections(first), sections(second)
    return {name: {**a[name], **b[name]} for name in a}
