"""`robot-rl run`: fly a policy on a driver, without ROS, behind the same supervisor."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HELP = "run a policy on a robot or on the simulated one, without ROS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", type=Path)
    parser.add_argument("--driver", default="sim", help="robot-rl list driver, or package.module:NAME (default sim)")
    parser.add_argument("--mission", default="hover", help="hover, figure-eight, figure-eight-fast, square")
    parser.add_argument("--seconds", type=float, default=10.0, help="time spent on the mission")
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", dest="changes",
                        help="settings such as supervisor.max_tilt=1.0, and driver.KEY=VALUE")  # fmt: skip
    parser.add_argument("--fast-forward", action="store_true", help="simulated robot only: not in real time")
    parser.add_argument("--json", type=Path, help="write the result here")


def main(arguments: argparse.Namespace) -> int:
    from robot_rl.config import parse_set
    from robot_rl.hardware.run import run_without_ros

    changes = parse_set(arguments.changes)
    driver = {k.removeprefix("driver."): v for k, v in changes.items() if k.startswith("driver.")}
    settings = {k: v for k, v in changes.items() if not k.startswith("driver.")}
    result = run_without_ros(
        arguments.policy, arguments.driver, arguments.mission, arguments.seconds,
        driver_options=driver, settings=settings, real_time=not arguments.fast_forward,
    )  # fmt: skip
    summary = result.summary()
    if arguments.json:
        from robot_rl.commands.files import write_text

        write_text(arguments.json, json.dumps(summary, indent=2))
    for line in summary["states"]:
        print(f"  {line}")
    rmse = summary["rmse_m"]
    print(
        f"{summary['outcome']}; flown {summary['flown_s']:.1f} s"
        + (f", RMSE {100 * rmse:.1f} cm" if rmse is not None else "")
    )
    loop = summary["loop"]
    print("loop: " + ", ".join(f"{k} {v:.4g}" for k, v in loop.items()))
    return 0 if summary["success"] else 1
