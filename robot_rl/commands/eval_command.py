"""`robot-rl eval`: fly an exported policy file through scenarios and report with intervals, plots and a film."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robot_rl.evaluation.evaluate import EvalResult
    from robot_rl.evaluation.report import EvalReport

HELP = "evaluate an exported policy: success, errors, stress table, stability margins, plots, film"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", help="ONNX file, or base:<name> for a classical controller")
    parser.add_argument(
        "--episodes", type=int, default=1000, help="per scenario; figure-eights fly a fifth (default 1000)"
    )
    parser.add_argument(
        "--scenarios",
        default="targets",
        help="names or groups, comma-separated: quick, targets, recovery, tracking, all",
    )
    parser.add_argument(
        "--baseline", action="append", default=[], help="another policy on the same episodes, e.g. base:lee"
    )
    parser.add_argument("--margins", action="store_true", help="search the stability margin along each parameter")
    parser.add_argument(
        "--target", default="onnxruntime", help="onnxruntime, or a board: the generated C on the emulated chip"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="folder for plots, film and per-episode CSV")
    parser.add_argument("--no-video", action="store_true")
    parser.add_argument("--json", type=Path, help="write everything as JSON")
    parser.add_argument(
        "--require", type=float, metavar="SHARE", help="exit with 1 when nominal survival is below this"
    )


def main(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from robot_rl.commands.files import write_text
    from robot_rl.evaluation.report import tables, to_json

    report = evaluate_policy(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=150)  # a file has no width to wrap at
    for table in tables(report):
        console.print(table)
    if arguments.json:
        write_text(arguments.json, to_json(report))
        console.print(f"wrote {arguments.json}")
    if arguments.output:
        for path in save_report(report, arguments.output, film=not arguments.no_video):
            console.print(f"wrote {path}")
    return _verdict(report, arguments.require)


def evaluate_policy(arguments: argparse.Namespace) -> EvalReport:
    """Everything `arguments` ask for, without writing anything."""
    from rich.console import Console

    from robot_rl.evaluation.evaluate import compare, evaluate_table
    from robot_rl.evaluation.margins import margins
    from robot_rl.evaluation.report import EvalReport
    from robot_rl.evaluation.scenarios import selected

    scenarios = selected(arguments.scenarios)
    begin = time.monotonic()
    with Console(stderr=True).status("flying …") as status:

        def progress(name: str, scenario: str) -> None:
            status.update(f"[{time.monotonic() - begin:4.0f} s] {name}: {scenario}")

        policy = _opened(arguments.policy, arguments.target)
        try:
            results = evaluate_table(
                [policy, *arguments.baseline], scenarios, arguments.episodes, arguments.seed, progress=progress
            )
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
    nominal = next((r for r in report.of(report.policy) if r.summary is not None and not r.scenario.tracking), None)
    return (
        0 if nominal is not None and nominal.summary is not None and nominal.summary.survival.value >= required else 1
    )
