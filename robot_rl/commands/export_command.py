"""`robot-rl export`: from a run to one ONNX file that carries its contract."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

HELP = "write a run's policy as one ONNX file with its contract"
EXAMPLE_STEPS = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("-o", "--output", type=Path, default=Path("policy.onnx"))
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def main(arguments: argparse.Namespace) -> int:
    from robot_rl.errors import ExportError

    if arguments.output.exists() and not arguments.force:
        raise ExportError(f"{arguments.output} exists; choose another name with -o, or replace it with --force")
    path = export(arguments.run, arguments.output)
    print(f"wrote {path} ({path.stat().st_size / 1024:.0f} KiB)\nnext: robot-rl verify {path}, robot-rl eval {path}")
    return 0


def export(run: Path, output: Path) -> Path:
    """Export the newest checkpoint of `run`; compares with PyTorch on the way."""
    from robot_rl.commands.compose import example_signals, load_trained, rate_of, run_folder_of
    from robot_rl.policies.export import TOLERANCE, export_policy

    trained = load_trained(run_folder_of(run))
    keep = (
        "task",
        "algorithm",
        "seed",
        "config",
        "task_changes",
        "cpu_seconds",
        "env_steps",
        "git_commit",
        "command_line",
    )
    provenance: dict[str, Any] = {"training": {k: trained.info[k] for k in keep if k in trained.info}}
    return export_policy(
        output, observer=trained.observer, actor=trained.actor, action_map=trained.action_map, task=trained.task.name,
        robot=trained.task.robot, rate=rate_of(trained), safety=trained.task.safety,
        gains=trained.task.gains(trained.info.get("task_changes")),
        example_signals=example_signals(trained, EXAMPLE_STEPS), provenance=provenance,
        tolerance=getattr(trained.actor, "tolerance", TOLERANCE),
    )  # fmt: skip
