"""`robot-rl demo`: the whole way, from nothing to a policy that flies in Python, on an emulated chip and under ROS 2."""

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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HELP = "train, evaluate, export, verify, fly on an emulated chip and over ROS 2; about three minutes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("out/demo"), help="folder (default out/demo); replaced"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="the one-second training: nominal vehicle only")
    parser.add_argument("--episodes", type=int, default=500, help="per evaluated scenario")


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


def main(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    demo = Demo(arguments.output, arguments.seed, arguments.fast, arguments.episodes)
    _replace(demo.folder)
    begin = time.monotonic()
    stages: list[tuple[str, Callable[[Demo], str]]] = [
        ("train quadrotor-hover", _train), ("export policy.onnx", _export), ("evaluate the file", _evaluate),
        ("verify on every target", _verify), ("generate C", _firmware), ("fly on the emulated STM32F405", _chip),
        ("fly over ROS 2", _ros),
    ]  # fmt: skip
    for number, (title, stage) in enumerate(stages, 1):
        console.print(f"[bold]\\[{number}/{len(stages)}] {title}[/bold]")
        console.print(f"      {stage(demo)}  ({time.monotonic() - begin:.0f} s)", highlight=False)
    table = Table(title="One policy file, three places")
    for name in ("target", "success", "position RMSE", "largest difference", "time per step"):
        table.add_column(name)
    for row in demo.rows:
        table.add_row(row.target, row.success, row.rmse, row.difference, row.step)
    console.print(table)
    for note in demo.notes:
        console.print(f"skipped: {note}", style="yellow", highlight=False)
    console.print(
        f"wrote {demo.folder}: policy.onnx, firmware/, plots and flight.mp4\nnext: robot-rl run {demo.policy} --driver sim --mission figure-eight"
    )
    return 0


def _replace(folder: Path) -> None:
    """A fresh folder; only one that an earlier demo made is removed."""
    from robot_rl.errors import ConfigError

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
    hover, delayed, eight = (r.summary for r in results)
    assert hover is not None and delayed is not None and eight is not None
    demo.rows.append(Row(
        "onnxruntime, simulator", _share(hover.survival), f"{100 * hover.rmse.value:.1f} cm hover, {100 * eight.rmse.value:.1f} cm eight",
        step=f"{_call_time(demo.policy):.0f} µs",
    ))  # fmt: skip
    return f"survival {_share(hover.survival)}, with 20 ms of delay {_share(delayed.survival)}; figure-eight RMSE {100 * eight.rmse.value:.1f} cm"


def _share(interval: Any) -> str:
    return f"{100 * interval.value:.1f} % [{100 * interval.lower:.1f}, {100 * interval.upper:.1f}]"


def _call_time(policy: Path) -> float:
    """Median microseconds of one call for one vehicle."""
    import numpy as np

    from robot_rl.commands.verify_command import flight_states
    from robot_rl.policy import Policy

    loaded = Policy.load(policy, verify=False)
    times = []
    for signals, _ in flight_states(policy, 200, 3):
        begin = time.perf_counter()
        loaded.act(signals)
        times.append(time.perf_counter() - begin)
    return 1e6 * float(np.median(times))


def _verify(demo: Demo) -> str:
    from robot_rl.commands.verify_command import verify

    differences = verify(demo.policy, ["host", "cortex-m4"], run=demo.run)
    for d in differences:
        if d.skipped:
            demo.notes.append(f"{d.target}: {d.skipped}")
        elif d.target in ("pytorch", "onnxruntime"):
            demo.rows[0].difference = f"{max(x or 0 for x in (d.states, d.golden)):.0e} of range"
        else:
            name = {"host": "C on this computer", "cortex-m4": "C on emulated STM32F405"}[d.target]
            demo.rows.append(Row(name, difference=f"{d.states or 0:.0e} of range"))
    return ", ".join(f"{d.target} {'skipped' if d.skipped else 'ok' if d.passed else 'DIFFERS'}" for d in differences)


def _firmware(demo: Demo) -> str:
    from robot_rl.firmware_export.generate import generate

    report = generate(demo.policy, demo.folder / "firmware", board="stm32f405")
    return f"flash {report.flash_bytes} B, RAM {report.ram_bytes} B, stack {report.stack_bytes} B"


def _chip(demo: Demo) -> str:
    from robot_rl.errors import MissingDependency
    from robot_rl.evaluation.evaluate import evaluate
    from robot_rl.firmware_export.in_the_loop import EmulatedPolicy

    try:
        with EmulatedPolicy(demo.policy, board="stm32f405") as chip:
            hover = evaluate(chip, "nominal", 10, seed=2).summary
            eight = evaluate(chip, "eight-5.5s", 1, seed=2).summary
    except MissingDependency as error:
        demo.notes.append(str(error))
        return "skipped"
    assert hover is not None and eight is not None
    row = next((r for r in demo.rows if "STM32" in r.target), Row("C on emulated STM32F405"))
    if row not in demo.rows:
        demo.rows.append(row)
    row.success = f"{round(10 * hover.survival.value)} of 10"
    row.rmse = f"{100 * hover.rmse.value:.1f} cm hover, {100 * eight.rmse.value:.1f} cm eight"
    row.step = _instructions(demo.policy)
    return f"{row.success} recoveries survived, figure-eight RMSE {100 * eight.rmse.value:.1f} cm"


def _instructions(policy: Path) -> str:
    from robot_rl.firmware_export.instructions import count_instructions

    count = count_instructions(policy)
    return f"{count:,} instructions"


def _ros(demo: Demo) -> str:
    try:
        import rclpy  # noqa: F401
    except ImportError:
        demo.notes.append("ROS 2: rclpy is not installed; pip install 'robot-rl[ros]'")
        return "skipped"
    environment = dict(os.environ) | {
        "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 100)), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"
    }  # fmt: skip
    result_file = demo.folder / "ros_mission.json"
    log = (demo.folder / "ros_node.log").open("w")
    node = subprocess.Popen(
        [sys.executable, "-m", "robot_rl.hardware.robot_node", "--ros-args", "-p", f"policy:={demo.policy.resolve()}"],
        stdout=log, stderr=subprocess.STDOUT, env=environment,
    )  # fmt: skip
    try:
        client = subprocess.run(
            [sys.executable, "-m", "robot_rl.hardware.mission", "--activate", "--mission", "figure-eight",
             "--seconds", "13", "--out", str(result_file.resolve())],
            capture_output=True, text=True, env=environment, timeout=180, check=False,
        )  # fmt: skip
    finally:
        _end(node)
        log.close()
    if client.returncode != 0:
        demo.rows.append(Row("ROS 2, simulated driver", "failed"))
        return f"failed: {client.stdout.strip()[-300:] or client.stderr.strip()[-300:]} (see {log.name})"
    result = json.loads(result_file.read_text())
    demo.rows.append(
        Row(
            "ROS 2, simulated driver",
            "took off, flew, landed",
            f"{100 * result['rmse_m']:.1f} cm eight",
            step="10 ms, real time",
        )
    )
    return f"take-off, figure-eight and landing over topics; RMSE {100 * result['rmse_m']:.1f} cm"


def _end(process: subprocess.Popen[Any]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
