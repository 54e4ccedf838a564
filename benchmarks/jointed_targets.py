"""Train several seeds of a task with joints, evaluate the exported files, draw the curves: docs/results.md's tables.

    python benchmarks/jointed_targets.py go1-velocity-flat                    # 3 seeds, one core, the task's settings
    python benchmarks/jointed_targets.py go1-velocity-flat --stage config/go1-velocity-flat-pushed.yaml
    python benchmarks/jointed_targets.py panda-pick --episodes 500
    python benchmarks/jointed_targets.py go1-velocity-flat --set symmetry=augment --out runs/mirrored   # an ablation
    python benchmarks/jointed_targets.py go1-velocity-flat --scenarios task,pybullet,warp               # sim to sim

The last checkpoint is used, never a selected one. What stands in the output folder already is not done again, so that
one command goes on with what another began: a finished run, an evaluation with the same scenarios and episodes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

CURVES = ("env/tracking", "env/solved", "env/episode/successes", "env/standing", "episode/return")
"""The first of these metrics that a run has is drawn."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--algorithm", help="default: the task's own")
    parser.add_argument("--set", action="extend", nargs="+", default=[], dest="changes")
    parser.add_argument("--stage", type=Path, help="settings of a second stage that goes on from each run")
    parser.add_argument("--scenarios", default="task,nominal")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1, help="of the simulator in training")
    parser.add_argument("--out", type=Path, default=Path("runs/targets"))
    arguments = parser.parse_args()
    results = [one_seed(arguments, seed) for seed in arguments.seeds]
    table(results)
    print(f"wrote {curves(arguments.task, results, arguments.out / f'{arguments.task}.png')}")


def one_seed(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train, export and evaluate; gives the evaluation's document with `run`, `seed`, `steps` and `cpu_seconds`."""
    run = arguments.out / f"{arguments.task}-{seed}"
    train(arguments, seed, run, [])
    if arguments.stage:
        before, run = run, run.with_name(f"{run.name}-{arguments.stage.stem}")
        train(arguments, seed, run, ["--from", str(before), "--config", str(arguments.stage)])
    policy, wanted = run.with_suffix(".onnx"), f"{arguments.scenarios}-{arguments.episodes}".replace(",", "-")
    document = run.with_name(f"{run.name}-{wanted}.json")
    if not policy.exists():
        command("export", str(run), "-o", str(policy))
        document.unlink(missing_ok=True)
    if not document.exists():
        command("eval", str(policy), "--episodes", str(arguments.episodes), "--scenarios", arguments.scenarios,
                "--no-video", "--json", str(document))  # fmt: skip
    info = json.loads((run / "run.json").read_text())
    about = {"run": run, "seed": seed, "steps": info["env_steps"], "cpu_seconds": info["cpu_seconds"]}
    return json.loads(document.read_text()) | about


def train(arguments: argparse.Namespace, seed: int, run: Path, words: list[str]) -> None:
    """Train unless that is done; what was exported of an unfinished run is thrown away."""
    if finished(run):
        return
    algorithm = ["--algorithm", arguments.algorithm] if arguments.algorithm else []
    settings = ["--set", f"task.threads={arguments.threads}", *arguments.changes]
    again = ["--resume"] if (run / "run.json").exists() else []
    command("train", arguments.task, *algorithm, "--seed", str(seed), "--out", str(run), *words, *again, *settings)
    run.with_suffix(".onnx").unlink(missing_ok=True)


def finished(run: Path) -> bool:
    return (run / "run.json").exists() and json.loads((run / "run.json").read_text()).get("status") == "completed"


def command(verb: str, *words: str) -> None:
    """One call of the command line; ends this program where it fails."""
    done = subprocess.run([sys.executable, "-m", "robot_rl.cli", verb, *words], check=False)
    if done.returncode:
        sys.exit(f"robot-rl {verb} {' '.join(words)} failed with {done.returncode}")


def table(results: list[dict[str, Any]]) -> None:
    for result in results:
        print(f"\nseed {result['seed']}: {result['steps']:,.0f} steps in {result['cpu_seconds']:,.0f} CPU-seconds")
        for row in result["results"]:
            if row["summary"] is None:
                print(f"  {row['variant']:10} not played: {row['skipped']}")
                continue
            s = row["summary"]["success"]
            metrics = "  ".join(f"{k} {v['value']:.3g}" for k, v in row["summary"]["metrics"].items())
            print(f"  {row['variant']:10} success {s['value']:.3f} [{s['lower']:.3f}, {s['upper']:.3f}]  {metrics}")
    for i, row in enumerate(results[0]["results"]):
        if row["summary"] is not None:
            shares = [r["results"][i]["summary"]["success"]["value"] for r in results]
            print(f"\n{row['variant']}: success median {statistics.median(shares):.3f}, worst {min(shares):.3f}")


def curves(task: str, results: list[dict[str, Any]], path: Path) -> Path:
    """Training curves of all seeds over environment steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    name = ""
    for result in results:
        rows = [json.loads(line) for line in (result["run"] / "metrics.jsonl").read_text().splitlines()]
        name = next(n for n in CURVES if n in rows[-1])
        axes.plot([r["env_steps"] / 1e6 for r in rows], [r.get(name) for r in rows], label=f"seed {result['seed']}")
    axes.set(xlabel="million environment steps", ylabel=name, title=f"{task}, with exploration")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


if __name__ == "__main__":
    main()
