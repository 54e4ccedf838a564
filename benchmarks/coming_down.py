"""How often a walking robot tips over when it is told to lie down in the middle of a step.

    python benchmarks/coming_down.py walk.onnx [--runs 80] [--gather-time 0.15]

Each run, not in real time: stand up, walk for 2 to 2.5 s at one of five velocities, lie down; the moment in the gait
and the sensors' noise differ. `--gather-time` is the supervisor's setting of that name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from robot_rl.evaluation.statistics import wilson
from robot_rl.hardware.run import run_without_ros

VELOCITIES = ((0.5, 0.0, 0.0), (-0.4, 0.0, 0.0), (0.0, 0.3, 0.0), (0.0, 0.0, 0.8), (0.6, 0.0, 0.5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path)
    parser.add_argument("--runs", type=int, default=80)
    parser.add_argument("--gather-time", type=float, default=0.15)
    arguments = parser.parse_args()
    lying = 0
    for number in range(arguments.runs):
        result = run_without_ros(
            arguments.policy, mission="velocity", velocity=VELOCITIES[number % 5], seconds=2.0 + 0.02 * (number % 25),
            driver_options={"seed": number}, settings={"supervisor.gather_time": arguments.gather_time},
            real_time=False,
        )  # fmt: skip
        lying += result.success
        if not result.success:
            print(f"run {number}: {result.outcome}")
    share = wilson(lying, arguments.runs)
    print(f"{lying} of {arguments.runs} lie as they should: [{share.lower:.1%}, {share.upper:.1%}]")


if __name__ == "__main__":
    main()
