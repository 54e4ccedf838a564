"""`robot-rl demo`: the whole way, from nothing to a policy that flies in Python, on an emulated chip and in ROS 2."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_rl.commands.arguments import seed
from robot_rl.errors import ConfigError, MissingDependency, RobotRlError

if TYPE_CHECKING:
    from rich.console import Console

    from robot_rl.commands.verify_command import Difference
    from robot_rl.evaluation.evaluate import EvalResult
    from robot_rl.evaluation.metrics import Summary

HELP = "train, evaluate, export, verify, fly on an emulated chip and over ROS 2; about three minutes"
IN_PYTHON, ON_CHIP, IN_ROS = "onnxruntime, simulator", "C on emulated STM32F405", "ROS 2, simulated driver"
MISSION_TIMEOUT = 180  # s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("out/demo"), help="folder (default out/demo); replaced"
    )
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--fast", action="store_true", help="the one-second training: nominal vehicle only")
    parser.add_argument("--episodes", type=int, default=500, help="per evaluated scenario")


class StageFailed(RobotRlError):
    """A stage came to its end, and its result is not what it must be."""


@dataclass
class Row:
    """One line of the closing table."""

    target: str
    success: str = ""
    rmse: str = ""
    difference: str = ""
    step: str = ""


@dataclass
class Demo:
    """What the stages share."""

    folder: Path
    seed: int
    fast: bool
    episodes: int
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def policy(self) -> Path:
        return self.folder / "policy.onnx"

    def row(self, target: str) -> Row:
        """The line of this target; a new one where there is none."""
        found = next((r for r in self.rows if r.target == target), None)
        if found is None:
            found = Row(target)
            self.rows.append(found)
        return found


@dataclass(frozen=True)
class Stage:
    """One step of the demo: `run` gives one line on what came of it, or raises RobotRlError.

    `needs` are the names of the stages without whose success it cannot be run.
    """

    name: str
    title: str
    run: Callable[[Demo], str]
    needs: tuple[str, ...] = ()


def main(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=140)  # a file has no width to wrap at
    demo = Demo(arguments.output, arguments.seed, arguments.fast, arguments.episodes)
    _replace(demo.folder)
    needs = ("export",)
    stages = [
        Stage("train", "train quadrotor-hover", _train),
        Stage("export", "export policy.onnx", _export, ("train",)),
        Stage("evaluate", "evaluate the file", _evaluate, needs),
        Stage("verify", "verify on every target", _verify, needs),
        Stage("firmware", "generate C", _firmware, needs),
        Stage("chip", "fly on the emulated STM32F405", _chip, needs),
        Stage("ros", "fly over ROS 2", _ros, needs),
    ]
    failed = run_stages(demo, stages, console)
    _print_table(demo, console)
    for note in demo.notes:
        console.print(f"skipped: {note}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    if failed:
        console.print(f"failed: {', '.join(failed)}", style="bold red", highlight=False)
        return 1
    console.print(f"wrote {demo.folder}: policy.onnx, firmware/, plots and flight.mp4", markup=False, soft_wrap=True)
    console.print(f"next: robot-rl run {demo.policy} --driver sim --mission figure-eight", markup=False, soft_wrap=True)
    return 0


def run_stages(demo: Demo, stages: Sequence[Stage], console: Console) -> list[str]:
    """Run every stage whose needs were met; the names of those that failed or could not be run."""
    begin = time.monotonic()
    failed: list[str] = []
    for number, stage in enumerate(stages, 1):
        console.print(f"[bold]\\[{number}/{len(stages)}] {stage.title}[/bold]")
        missing = [name for name in stage.needs if name in failed]
        style = None
        if missing:
            text = f"not run: needs {', '.join(missing)}"
        else:
            try:
                text = stage.run(demo)
            except RobotRlError as error:
                text, style = f"failed: {error}", "red"
        if missing or style:
            failed.append(stage.name)
        line = f"      {text}  ({time.monotonic() - begin:.0f} s)"
        console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
    return failed


def _print_table(demo: Demo, console: Console) -> None:
    from rich.table import Table

    table = Table(title="One policy file, three places")
    for name in ("target", "success", "position RMSE", "largest difference", "time per step"):
        table.add_column(name)
    for row in demo.rows:
        table.add_row(row.target, row.success, row.rmse, row.difference, row.step)
    if demo.rows:
        console.print(table)


def _replace(folder: Path) -> None:
    """A fresh folder; only one that an earlier demo made is removed."""
    marker = folder / ".robot-rl-demo"
    if folder.exists() and any(folder.iterdir()):
        if not marker.is_file():
            raise ConfigError(f"{folder} is not empty and no earlier demo made it; choose another folder with -o")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _train(demo: Demo) -> str:
    from robot_rl.commands.train_command import fast_config, train
    from robot_rl.config import from_yaml

    changes = from_yaml(fast_config()) if demo.fast else {}
    result = train("quadrotor-hover", "apg", demo.run, changes, seed=demo.seed, quiet=not sys.stderr.isatty())
    return f"{result.env_steps:,} steps in {result.cpu_seconds:.1f} CPU-seconds"


def _export(demo: Demo) -> str:
    from robot_rl.commands.export_command import export

    return f"{export(demo.run, demo.policy).stat().st_size / 1024:.0f} KiB with contract and golden vectors"


def _evaluate(demo: Demo) -> str:
    from robot_rl.commands.eval_command import save_report
    from robot_rl.evaluation.evaluate import evaluate_table
    from robot_rl.evaluation.report import EvalReport
    from robot_rl.evaluation.scenarios import selected

    results = evaluate_table([str(demo.policy)], selected("quick"), demo.episodes)
    report = EvalReport(results[0].policy, results)
    save_report(report, demo.folder, film=True)
    hover, delayed, eight = (_summary(r) for r in results)
    row = demo.row(IN_PYTHON)
    row.success, row.rmse, row.step = _share(hover.survival), _errors(hover, eight), f"{_call_time(demo.policy):.0f} µs"
    return (
        f"survival {_share(hover.survival)}, with 20 ms of delay {_share(delayed.survival)}; "
        f"figure-eight RMSE {100 * eight.rmse.value:.2f} cm"
    )


def _summary(result: EvalResult) -> Summary:
    if result.summary is None:
        raise StageFailed(f"the scenario {result.scenario.name} was not flown: {result.skipped}")
    return result.summary


def _errors(hover: Summary, eight: Summary) -> str:
    return f"{100 * hover.rmse.value:.2f} cm hover, {100 * eight.rmse.value:.2f} cm eight"


def _share(interval: Any) -> str:
    return f"{100 * interval.value:.1f} % [{100 * interval.lower:.1f}, {100 * interval.upper:.1f}]"


def _call_time(policy: Path) -> float:
    """Median microseconds of one call for one vehicle."""
    import numpy as np

    from robot_rl.commands.verify_command import fresh_states
    from robot_rl.policy import Policy

    loaded = Policy.load(policy, verify=False)
    times = []
    for signals, _ in fresh_states(policy, 200, 3):
        begin = time.perf_counter()
        loaded.act(signals)
        times.append(time.perf_counter() - begin)
    return 1e6 * float(np.median(times))


def _verify(demo: Demo) -> str:
    from robot_rl.commands.verify_command import verify

    return compared(demo, verify(demo.policy, ["host", "cortex-m4"], run=demo.run))


def compared(demo: Demo, differences: Sequence[Difference]) -> str:
    """Enter the differences into the table and say in one line how they are.

    Raises:
        StageFailed: a target that could be built differs.
    """
    for d in differences:
        if d.skipped:
            demo.notes.append(f"{d.target}: {d.skipped}")
        elif d.target in ("pytorch", "onnxruntime"):
            demo.row(IN_PYTHON).difference = f"{max(x or 0 for x in (d.states, d.golden)):.0e} of range"
        else:
            name = {"host": "C on this computer", "cortex-m4": ON_CHIP}[d.target]
            demo.row(name).difference = f"{d.states or 0:.0e} of range"
    text = ", ".join(f"{d.target} {'skipped' if d.skipped else 'ok' if d.passed else 'DIFFERS'}" for d in differences)
    if not all(d.passed or d.skipped for d in differences):
        raise StageFailed(text)
    return text


def _firmware(demo: Demo) -> str:
    from robot_rl.firmware_export.generate import generate

    report = generate(demo.policy, demo.folder / "firmware", board="stm32f405")
    return f"flash {report.flash_bytes} B, RAM {report.ram_bytes} B, stack {report.stack_bytes} B"


def _chip(demo: Demo) -> str:
    from robot_rl.evaluation.evaluate import evaluate
    from robot_rl.firmware_export.in_the_loop import EmulatedPolicy

    try:
        with EmulatedPolicy(demo.policy, board="stm32f405") as chip:
            hover = _summary(evaluate(chip, "nominal", 10, seed=2))
            eight = _summary(evaluate(chip, "eight-5.5s", 1, seed=2))
    except MissingDependency as error:
        demo.notes.append(str(error))
        return "skipped"
    row = demo.row(ON_CHIP)
    row.success, row.rmse = f"{round(10 * hover.survival.value)} of 10", _errors(hover, eight)
    row.step = _instructions(demo.policy)
    return f"{row.success} recoveries survived, figure-eight RMSE {100 * eight.rmse.value:.2f} cm"


def _instructions(policy: Path) -> str:
    from robot_rl.firmware_export.instructions import count_instructions

    count = count_instructions(policy)
    return f"{count:,} instructions"


def _ros(demo: Demo) -> str:
    if find_spec("rclpy") is None:
        demo.notes.append("ROS 2: rclpy is not installed; pip install 'robot-rl[ros]'")
        return "skipped"
    environment = dict(os.environ) | {
        "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 100)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    result_file, log_file = demo.folder / "ros_mission.json", demo.folder / "ros_node.log"
    row = demo.row(IN_ROS)
    row.success = "failed"
    with log_file.open("w") as log:
        node = subprocess.Popen(
            [sys.executable, "-m", "robot_rl.hardware.robot_node", "--ros-args",
             "-p", f"policy:={demo.policy.resolve()}"],
            stdout=log, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
        try:
            client = subprocess.run(
                [sys.executable, "-m", "robot_rl.hardware.mission", "--activate", "--mission", "figure-eight",
                 "--seconds", "13", "--out", str(result_file.resolve())],
                capture_output=True, text=True, env=environment, timeout=MISSION_TIMEOUT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise StageFailed(f"no end of the mission after {MISSION_TIMEOUT} s (see {log_file})") from error
        finally:
            _end(node)
    if client.returncode != 0:
        raise StageFailed(f"{client.stdout.strip()[-300:] or client.stderr.strip()[-300:]} (see {log_file})")
    error = f"{100 * json.loads(result_file.read_text())['rmse_m']:.1f} cm"
    row.success, row.rmse, row.step = "took off, flew, landed", f"{error} eight", "10 ms, real time"
    return f"take-off, figure-eight and landing over topics; RMSE {error}"


def _end(process: subprocess.Popen[Any]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
