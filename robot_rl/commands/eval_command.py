"""`robot-rl eval`: play an exported policy file through scenarios and report with intervals, plots and a film."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_rl.commands.arguments import seed, share
from robot_rl.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from robot_rl.evaluation.evaluate import EvalResult
    from robot_rl.evaluation.report import EvalReport
    from robot_rl.evaluation.scenarios import Scenario
    from robot_rl.sim.task_spec import TaskSpec

HELP = "evaluate an exported policy: success, errors, stress table, stability margins, plots, film"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", help="ONNX file, or base:<name> for a classical controller or a scripted expert")
    parser.add_argument(
        "--episodes", type=int, default=1000, help="per scenario; figure-eights fly a fifth (default 1000)"
    )
    parser.add_argument(
        "--scenarios",
        help="names or groups, comma-separated. Flight: quick, targets, recovery, tracking, all (default: targets, or "
        "with --waypoints only these). Robots with joints: quick, stress, other, all (default: quick)",
    )
    parser.add_argument(
        "--task", help="another task than the policy's own; needed for base:lerobot:… and for base:expert of gym: tasks"
    )
    parser.add_argument("--physics", help="robots with joints: contact simulator, see `robot-rl list physics`")
    parser.add_argument("--set", nargs="+", default=[], action="extend", dest="changes", metavar="OPTION=VALUE",
                        help="robots with joints: options of the task, e.g. command.forward=[0.5,0.5]")  # fmt: skip
    parser.add_argument(
        "--waypoints", type=Path, metavar="FILE", help="fly your own path: CSV with x,y,z in m, or YAML"
    )
    parser.add_argument("--speed", type=float, help="m/s along --waypoints, mean on a leg (default 0.8)")
    parser.add_argument(
        "--baseline", action="append", default=[], help="another policy on the same episodes, e.g. base:lee"
    )
    parser.add_argument("--margins", action="store_true", help="search the stability margin along each parameter")
    parser.add_argument(
        "--target", default="onnxruntime", help="onnxruntime, or a board: the generated C on the emulated chip"
    )
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("-o", "--output", type=Path, help="folder for plots, film and per-episode CSV")
    parser.add_argument("--no-video", action="store_true")
    parser.add_argument("--json", type=Path, help="write everything as JSON; - is standard output")
    parser.add_argument(
        "--require", type=share, metavar="SHARE", help="exit with 1 when success in the first scenario is below this"
    )


def main(arguments: argparse.Namespace) -> int:
    from robot_rl.commands.files import check_output, make_folder

    if arguments.output:
        make_folder(arguments.output)
    if arguments.json:
        check_output(arguments.json)
    task = jointed_task(arguments.policy, arguments.task)
    if task is not None:
        from robot_rl.evaluation.jointed.command import run

        return run(arguments, task)
    if arguments.physics or arguments.changes:
        raise ConfigError("--physics and --set are for policies of robots with joints; flight has its scenarios")
    return fly(arguments)


def jointed_task(policy: str, named: str | None = None) -> TaskSpec | None:
    """The task of a policy file for a robot with joints, or the one that was named; None for whatever flies.

    Raises:
        UnknownName: no task of that name. ConfigError: it is one of flight, or the policy does not say its task.
    """
    from robot_rl.commands.compose import task_played_by
    from robot_rl.registry import load

    try:
        task = load("task", named) if named else task_played_by(policy)
    except UnknownName:
        if named:
            raise
        return None
    if named and not task.variants:
        raise ConfigError(f"--task {named}: only for robots with joints; flight has its scenarios")
    return task if task.variants else None


def fly(arguments: argparse.Namespace) -> int:
    """Evaluate a policy that flies."""
    from rich.console import Console

    from robot_rl.commands.files import STDOUT, write_text
    from robot_rl.evaluation.report import tables, to_json

    report = evaluate_policy(arguments)
    stream = sys.stderr if arguments.json == STDOUT else sys.stdout
    # A file has no width to wrap at.
    console = Console(file=stream) if stream.isatty() else Console(file=stream, width=150)
    for table in tables(report):
        console.print(table)
    if arguments.json:
        write_text(arguments.json, to_json(report))
        if arguments.json != STDOUT:
            console.print(f"wrote {arguments.json}", soft_wrap=True)
    if arguments.output:
        for path in save_report(report, arguments.output, film=not arguments.no_video):
            console.print(f"wrote {path}", soft_wrap=True)
    return _verdict(report, arguments.require)


def evaluate_policy(arguments: argparse.Namespace) -> EvalReport:
    """Everything `arguments` ask for, without writing anything."""
    from rich.console import Console

    from robot_rl.evaluation.evaluate import compare, distinct, evaluate_table
    from robot_rl.evaluation.margins import margins
    from robot_rl.evaluation.report import EvalReport

    scenarios = _scenarios(arguments)
    begin = time.monotonic()
    with Console(stderr=True).status("flying …") as status:

        def progress(name: str, scenario: str) -> None:
            status.update(f"[{time.monotonic() - begin:4.0f} s] {name}: {scenario}")

        policy = _opened(arguments.policy, arguments.target)
        try:
            targets = distinct([policy, *arguments.baseline])
            results = evaluate_table(targets, scenarios, arguments.episodes, arguments.seed, progress=progress)
            mine = results[0].policy
            own = [r for r in results if r.policy == mine]
            rest = [r for r in results if r.policy != mine]
            found = {mine: margins(policy, progress=status.update)} if arguments.margins else {}
        finally:
            getattr(policy, "close", lambda: None)()
    others = [[r for r in rest if r.policy == n] for n in dict.fromkeys(r.policy for r in rest)]
    comparisons = [c for other in others for c in compare(own, other)]
    facts = {"episodes": arguments.episodes, "seed": arguments.seed, "target": arguments.target}
    return EvalReport(mine, results, comparisons, found, facts)


def _scenarios(arguments: argparse.Namespace) -> tuple[Scenario, ...]:
    from robot_rl.evaluation.scenarios import selected
    from robot_rl.evaluation.waypoints import waypoint_scenario

    if arguments.speed is not None and arguments.waypoints is None:
        raise ConfigError(f"--speed {arguments.speed:g} belongs to --waypoints FILE, which was not given")
    if arguments.waypoints is None:
        return selected(arguments.scenarios or "targets")
    own = waypoint_scenario(arguments.waypoints, arguments.speed)
    return (own, *(selected(arguments.scenarios) if arguments.scenarios else ()))


def _opened(policy: str, target: str) -> Any:
    if target == "onnxruntime":
        return policy
    from robot_rl.firmware_export.in_the_loop import EmulatedPolicy

    return EmulatedPolicy(policy, board=target)


def save_report(report: EvalReport, folder: Path, film: bool) -> list[Path]:
    """Plots, per-episode CSV and a film; returns the files written."""
    from robot_rl.evaluation.plots import save_plots
    from robot_rl.evaluation.report import write_csv

    written = save_plots(report, folder)
    write_csv(report, folder / "episodes.csv")
    written.append(folder / "episodes.csv")
    flown = [r for r in report.of(report.policy) if r.sample is not None]
    if film and flown:
        best = next((r for r in flown if r.scenario.tracking), flown[0])
        written.append(render(best, folder / "flight.mp4"))
    return written


def render(result: EvalResult, path: Path) -> Path:
    """Film of the first recorded episode."""
    from robot_rl.sim.quadrotor.equations import ROTOR_SPEED_MAX
    from robot_rl.sim.quadrotor.render import FlightTrajectory, render_flight

    sample = result.sample
    assert sample is not None
    flight = FlightTrajectory(
        time=sample.times, pos_w=sample.position[:, 0].astype(float), quat_wxyz=sample.quat_wxyz[:, 0].astype(float),
        target_pos_w=sample.reference, rotor_speed=(sample.command[:, 0] * ROTOR_SPEED_MAX).astype(float),
    )  # fmt: skip
    return render_flight(flight, path, title=result.scenario.title)


def _verdict(report: EvalReport, required: float | None) -> int:
    if required is None:
        return 0
    summary = report.of(report.policy)[0].summary
    return 0 if summary is not None and summary.survival.value >= required else 1
