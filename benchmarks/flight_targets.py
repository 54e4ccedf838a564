"""Train several seeds, export each, and evaluate the exported files: the table behind docs/results.md.

    python benchmarks/flight_targets.py --seeds 5                         # default training
    python benchmarks/flight_targets.py --seeds 5 --fast                  # under a CPU-second
    python benchmarks/flight_targets.py --seeds 5 --algorithm td3-l2f     # the recipe of Learning to Fly in Seconds
    python benchmarks/flight_targets.py --base lee,pid,lqr                # tuned classical controllers
    python benchmarks/flight_targets.py --seeds 5 --set task.delay_max=0  # an ablation

The last checkpoint is used, never a selected one. Training time is process CPU time without imports and, for `apg`,
without the compilation of the kernel, which is cached and printed apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

COLUMNS = ("survival", "wide_survival", "steady_error", "steady_error_p95", "rmse", "body_rate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--algorithm", default="apg")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--base", help="evaluate these base controllers instead of training")
    parser.add_argument("--set", action="extend", nargs="+", default=[], dest="changes")
    parser.add_argument("--scenarios", default="targets")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("runs/targets"))
    arguments = parser.parse_args()
    if arguments.base:
        policies = [(name, f"base:{name}", None) for name in arguments.base.split(",")]
    else:
        policies = [train_one(arguments, arguments.first_seed + i) for i in range(arguments.seeds)]
    rows = [row for policy in policies for row in evaluate_one(arguments, *policy)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    name = arguments.base or arguments.algorithm.replace(":", "-") + ("-fast" if arguments.fast else "")
    path = arguments.out / f"{name}.json"
    path.write_text(json.dumps(rows, indent=1))
    print_table(rows)
    print(f"wrote {path}")


def train_one(arguments: argparse.Namespace, seed: int) -> tuple[str, str, float | None]:
    """Train and export one seed; gives (name, file, CPU-seconds)."""
    from robot_rl.commands.compose import sections
    from robot_rl.commands.export_command import export
    from robot_rl.commands.train_command import fast_config, train
    from robot_rl.config import from_yaml, parse_set

    changes: dict[str, Any] = sections(from_yaml(fast_config()) if arguments.fast else {})
    for section, values in sections(parse_set(arguments.changes)).items():
        changes[section] |= values
    name = f"{arguments.algorithm.replace(':', '-')}{'-fast' if arguments.fast else ''}-{seed}"
    folder = arguments.out / f"{name}-{int(time.time())}"
    result = train("quadrotor-hover", arguments.algorithm, folder, changes, seed=seed, quiet=True)
    file = export(folder, folder / "policy.onnx")
    print(f"{name}: {result.cpu_seconds:.2f} CPU-seconds, {result.env_steps:,} steps", flush=True)
    return name, str(file), result.cpu_seconds


def evaluate_one(
    arguments: argparse.Namespace, name: str, policy: str, cpu_seconds: float | None
) -> list[dict[str, Any]]:
    """One row per scenario."""
    from robot_rl.evaluation.evaluate import evaluate
    from robot_rl.evaluation.scenarios import selected

    rows = []
    for scenario in selected(arguments.scenarios):
        episodes = max(20, arguments.episodes // 10) if scenario.tracking else arguments.episodes
        result = evaluate(policy, scenario, episodes, seed=1)
        row: dict[str, Any] = {
            "policy": name,
            "cpu_seconds": cpu_seconds,
            "scenario": scenario.name,
            "skipped": result.skipped,
        }
        if result.summary is not None:
            row["episodes"] = episodes
            for column in COLUMNS:
                value = getattr(result.summary, column)
                row[column] = value if isinstance(value, float) else [value.value, value.lower, value.upper]
        rows.append(row)
        print(f"  {name} {scenario.name}: {_cells(row)}", flush=True)
    return rows


def _number(value: Any) -> float:
    return value[0] if isinstance(value, list) else value


def _cells(row: dict[str, Any]) -> str:
    if row["skipped"]:
        return f"skipped: {row['skipped']}"
    return (
        f"survival {_number(row['survival']):.3f} / 1 m {_number(row['wide_survival']):.3f}, "
        f"steady {100 * _number(row['steady_error']):.2f} cm, p95 {100 * row['steady_error_p95']:.2f} cm, "
        f"RMSE {100 * _number(row['rmse']):.2f} cm, rates {row['body_rate']:.3f} rad/s"
    )


def print_table(rows: list[dict[str, Any]]) -> None:
    """Worst … median over seeds, as Markdown."""
    print(
        "\n| scenario | survival 0.6 m: min, median | survival 1 m: min "
        "| steady error median: median, max | p95: max | RMSE: median, max |"
    )
    print("|---|---|---|---|---|---|")
    for scenario in dict.fromkeys(r["scenario"] for r in rows):
        cells = [r for r in rows if r["scenario"] == scenario and not r["skipped"]]
        if not cells:
            continue
        survival = [_number(r["survival"]) for r in cells]
        steady = [100 * _number(r["steady_error"]) for r in cells]
        rmse = [100 * _number(r["rmse"]) for r in cells]
        print(
            f"| {scenario} | {min(survival):.3f}, {statistics.median(survival):.3f} "
            f"| {min(_number(r['wide_survival']) for r in cells):.3f} "
            f"| {statistics.median(steady):.2f}, {max(steady):.2f} cm "
            f"| {max(100 * r['steady_error_p95'] for r in cells):.2f} cm "
            f"| {statistics.median(rmse):.2f}, {max(rmse):.2f} cm |"
        )
    times = sorted({r["cpu_seconds"] for r in rows if r["cpu_seconds"] is not None})
    if times:
        print(f"\ntraining: {times[0]:.2f} … {times[-1]:.2f} CPU-seconds")


if __name__ == "__main__":
    main()
