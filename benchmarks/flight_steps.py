"""What a flight policy does when its target jumps: overshoot, sideways excursion and time to settle.

    python benchmarks/flight_steps.py policy.onnx base:lee base:pid base:lqr

From rest on the target, with the sensor noise and constant disturbance of Learning to Fly, the target jumps and stays.
Overshoot and excursion are along and across the line to the new target; settled: within 5 cm until the end (6 s).
Median and worst of 40 flights; the same disturbances for every policy.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from robot_rl.evaluation.plant import reference
from robot_rl.evaluation.rollout import fly
from robot_rl.evaluation.scenarios import Scenario
from robot_rl.evaluation.targets import as_target

JUMPS = (
    (0.3, 0.0, 0.0),
    (0.6, 0.0, 0.0),
    (1.0, 0.0, 0.0),
    (0.0, 0.0, 1.0),
    (0.0, 0.0, -1.0),
    (1.0, 1.0, 0.0),
    (1.0, 1.0, 1.0),
)
SETTLED, FLIGHTS = 0.05, 40


class Jumped:
    """A target whose reference lies elsewhere: what it is told is shifted by `jump` (3,) m."""

    def __init__(self, policy: str, jump: np.ndarray) -> None:
        self.target, self.jump = as_target(policy), jump.astype(np.float32)

    def start(self, count: int) -> None:
        self.target.start(count)

    def act(self, signals: dict[str, np.ndarray], dt: float) -> np.ndarray:
        return self.target.act(signals | {"target_pos_w": signals["target_pos_w"] + self.jump}, dt)


def measured(policy: str, jump: tuple[float, float, float]) -> str:
    """One row of the table."""
    scenario = Scenario("step", "Step of the target", start="rest", duration=6.0)
    assert not reference(scenario).position.any(), "the evaluator's own target is the origin"
    away = np.array(jump)
    flight = fly(Jumped(policy, away), scenario, FLIGHTS, seed=3)
    error = flight.position - away
    along = error @ (away / np.linalg.norm(away))
    side = np.linalg.norm(error - along[..., None] * (away / np.linalg.norm(away)), axis=-1).max(0)
    outside = ~(np.linalg.norm(error, axis=-1) < SETTLED)
    last = np.where(outside.any(0), len(outside) - outside[::-1].argmax(0), 0) * scenario.control_dt
    over = along.max(0).clip(0.0)
    cells = (over * 100, side * 100, last)
    return "  ".join(f"{np.median(x):6.2f} {x.max():6.2f}" for x in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policies", nargs="+")
    arguments = parser.parse_args()
    print("jump (m)            overshoot (cm)  sideways (cm)  settled after (s); median, worst")
    for policy in arguments.policies:
        print(policy)
        for jump in JUMPS:
            print(f"  {jump!s:16}  {measured(policy, jump)}", flush=True)


if __name__ == "__main__":
    main()
