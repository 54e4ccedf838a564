"""`robot-rl eval` for a policy of a robot with joints: what the arguments mean, what is written."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_rl.errors import ConfigError

if TYPE_CHECKING:
    from robot_rl.evaluation.jointed.report import JointedReport
    from robot_rl.sim.task_spec import TaskSpec

# Arguments of flight evaluations, with their values when nobody gave them.
FLIGHT_ONLY = {"waypoints": None, "speed": None, "baseline": [], "margins": False, "target": "onnxruntime"}


def run(arguments: argparse.Namespace, task: TaskSpec) -> int:
    """Evaluate, print tables, write what was asked for.

    Returns:
        1 where `--require` was not met, else 0.

    Raises:
        ConfigError: an argument that only flight evaluations have.
    """
    from rich.console import Console

    from robot_rl.commands.files import STDOUT, write_text
    from robot_rl.evaluation.jointed.report import tables, to_json

    report = evaluate_jointed(arguments, task)
    stream = sys.stderr if arguments.json == STDOUT else sys.stdout
    console = Console(file=stream) if stream.isatty() else Console(file=stream, width=150)
    for table in tables(report):
        console.print(table)
    if arguments.json:
        write_text(arguments.json, to_json(report))
        if arguments.json != STDOUT:
            console.print(f"wrote {arguments.json}", soft_wrap=True)
    if arguments.output:
        for path in save(report, task, arguments.output, film=not arguments.no_video):
            console.print(f"wrote {path}", soft_wrap=True)
    return _verdict(report, arguments.require)


def evaluate_jointed(arguments: argparse.Namespace, task: TaskSpec) -> JointedReport:
    """Everything `arguments` ask for, without writing anything."""
    from rich.console import Console

    from robot_rl import __version__
    from robot_rl.evaluation.jointed.evaluate import evaluate_variants
    from robot_rl.evaluation.jointed.report import JointedReport

    given = [f"--{name}" for name, default in FLIGHT_ONLY.items() if getattr(arguments, name) != default]
    if given:
        raise ConfigError(f"{', '.join(given)}: only for policies that fly; '{task.name}' is a task of another kind")
    changes, begin = changes_of(arguments), time.monotonic()
    with Console(stderr=True).status("playing …") as status:

        def progress(title: str, share: float) -> None:
            status.update(f"[{time.monotonic() - begin:4.0f} s] {title}: {100 * share:3.0f} %")

        results = evaluate_variants(
            arguments.policy, task, arguments.scenarios or "quick", arguments.episodes, arguments.seed, changes,
            progress,
        )  # fmt: skip
    facts = {
        "episodes": arguments.episodes, "seed": arguments.seed, "options": changes, "version": __version__,
        "wall_seconds": time.monotonic() - begin,
    }  # fmt: skip
    return JointedReport(Path(arguments.policy).stem.removeprefix("base:"), task.name, results, facts)


def changes_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Options of the task from `--set` and `--physics`; a leading `task.`, as in training, is allowed."""
    from robot_rl.config import parse_set

    changes = {key.removeprefix("task."): value for key, value in parse_set(arguments.changes).items()}
    return changes | ({"physics": arguments.physics} if arguments.physics else {})


def save(report: JointedReport, task: TaskSpec, folder: Path, film: bool) -> list[Path]:
    """CSV, plots, contact sheet and film; returns the files written. Without OpenGL there are no sheet and no film."""
    from robot_rl.errors import MissingDependency
    from robot_rl.evaluation.jointed.pictures import save_film, save_sheet
    from robot_rl.evaluation.jointed.plots import save_plots
    from robot_rl.evaluation.jointed.report import write_csv

    written = [write_csv(report, folder / "episodes.csv")]
    shown = next((r for r in report.results if r.recording is not None), None)
    if shown is None or shown.recording is None:
        return written
    env: Any = task.overridden({**shown.changes, "threads": 1}).make(1, shown.seed)
    limits = env.model.jnt_range[[env.model.joint(name).id for name in env.robot.joints]]
    written += save_plots(report.results, env.robot, limits, folder)
    try:
        written.append(save_sheet(shown.recording, env.model, env.robot.base, folder / "sheet.png"))
        if film:
            title = f"{report.policy}: {shown.title}"
            written.append(save_film(shown.recording, env.model, env.robot.base, folder / "episode.mp4", title))
    except MissingDependency as error:
        sys.stderr.write(f"no contact sheet and no film: {error}\n")
    return written


def _verdict(report: JointedReport, required: float | None) -> int:
    if required is None:
        return 0
    summary = report.results[0].summary
    return 0 if summary is not None and summary.success.value >= required else 1
