"""`robot-rl tune`: gains of a classical controller, found with a fixed budget."""

from __future__ import annotations

import argparse
from pathlib import Path

from robot_rl.commands.arguments import seed

HELP = "tune a classical controller on the flight scenarios"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", help="robot-rl list base")
    parser.add_argument("--budget", type=int, help="configurations flown (default as in docs/results.md)")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("-o", "--output", type=Path, help="YAML file of gains (default: only print)")


def main(arguments: argparse.Namespace) -> int:
    from robot_rl.commands.files import check_output
    from robot_rl.evaluation.tune import BUDGET, tune_controller

    if arguments.output is not None:
        check_output(arguments.output)

    budget = BUDGET if arguments.budget is None else arguments.budget
    report = tune_controller(
        arguments.base, budget=budget, seed=arguments.seed, out=arguments.output,
        progress=lambda n, best: print(f"\r{n} flown, best score {best:.4f}", end="", flush=True),
    )  # fmt: skip
    print(f"\n{report}")
    return 0
