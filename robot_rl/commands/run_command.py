"""`robot-rl run`: run a policy on a driver, without ROS, behind the same supervisor."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HELP = "run a policy on a robot or on the simulated one, without ROS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", type=Path)
    parser.add_argument("--driver", default="sim", help="robot-rl list driver, or package.module:NAME (default sim)")
    parser.add_argument(
        "--mission",
        default="",
        help="hover, figure-eight, figure-eight-fast, square; walking: walk, velocity, stand; handling: goals, stand",
    )
    parser.add_argument("--velocity", type=float, nargs=3, metavar=("FORWARD", "SIDEWAYS", "TURN"),
                        help="walk with these m/s, m/s, rad/s: the mission `velocity`")  # fmt: skip
    parser.add_argument("--goal", type=float, nargs=3, metavar=("X", "Y", "Z"), action="append", default=[],
                        dest="goals", help="m in the world, may be repeated: the mission `goals`")  # fmt: skip
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
    mission = arguments.mission or ("velocity" if arguments.velocity else "goals" if arguments.goals else "")
    forward, sideways, turn = arguments.velocity or (0.0, 0.0, 0.0)
    result = run_without_ros(
        arguments.policy, arguments.driver, mission, arguments.seconds,
        velocity=(forward, sideways, turn), goals=[tuple(g) for g in arguments.goals],
        driver_options=driver, settings=settings, real_time=not arguments.fast_forward,
    )  # fmt: skip
    summary = result.summary()
    if arguments.json:
        from robot_rl.commands.files import write_text

        write_text(arguments.json, json.dumps(summary, indent=2))
    for line in summary["states"]:
        print(f"  {line}")
    position, velocity = summary["rmse_m"], summary["velocity_rmse_m_s"]
    print(
        f"{summary['outcome']}; {summary['flown_s']:.1f} s"
        + (f", RMSE {100 * position:.1f} cm" if position is not None else "")
        + (f", velocity RMSE {velocity:.2f} m/s" if velocity is not None else "")
    )
    for number, left in enumerate(summary.get("goals", ()), 1):
        parts = [f"{100 * left['m']:.1f} cm"] if "m" in left else []
        parts += [f"{left['rad']:.2f} rad"] if "rad" in left else []
        print(f"  goal {number}: {', '.join(parts)} left")
    loop = summary["loop"]
    print("loop: " + ", ".join(f"{k} {v:.4g}" for k, v in loop.items()))
    return 0 if summary["success"] else 1
