"""Closed-loop flight of one batch: the target's commands against the plant, everything that metrics need recorded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.evaluation.plant import Floats, Reference, plant, reference
from robot_rl.evaluation.scenarios import Scenario
from robot_rl.evaluation.targets import Target

Floats32 = NDArray[np.float32]
# A vehicle this far from its target, or tumbling this fast, is lost for good: from there its rotors are off, the policy
# sees benign signals for it, and its record is NaN. Far outside every box that counts as survival.
LOST_DISTANCE = 3.0  # m, any axis
LOST_RATE = 300.0  # rad/s


@dataclass(frozen=True)
class Rollout:
    """True states of N vehicles over T control steps, after each step; NaN once a vehicle is lost.

    Attributes:
        times: (T,) s. reference: (T, 3) m.
        position: (T, N, 3) m, world. quat_wxyz: (T, N, 4). body_rate: (T, N, 3) rad/s.
        command: (T, N, 4), held before that state was reached, as a fraction of full rotor speed.
        settled: (T,) bool, where steady or tracking errors count.
        call_seconds: (T,) wall time of each call of the policy, for all N vehicles.
    """

    times: Floats
    reference: Floats
    position: Floats32
    quat_wxyz: Floats32
    body_rate: Floats32
    command: Floats32
    settled: NDArray[np.bool_]
    call_seconds: Floats

    @property
    def error(self) -> Floats32:
        """(T, N, 3) position minus reference, m."""
        return self.position - self.reference[:, None, :].astype(np.float32)


def fly(target: Target, scenario: Scenario, count: int, seed: int | np.random.SeedSequence, copies: int = 1) -> Rollout:
    """`count` episodes side by side. The same seed gives any target the same starts, disturbances and sensor noise.

    Args:
        copies: blocks of equal starts, see `plant.plant`.
    """
    from robot_rl.sim.quadrotor.equations import ROTOR_SPEED_MAX

    sim, _ = plant(scenario, count, seed, copies)
    path = reference(scenario)
    steps = len(path.times) - 1
    record = _Record(steps, count)
    lost = np.zeros(count, dtype=bool)
    target.start(count)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for k in range(steps):
            signals = _signals(sim.signals(), path, k, lost)
            begin = time.perf_counter()
            command = target.act(signals, scenario.control_dt)
            record.call_seconds[k] = time.perf_counter() - begin
            command = np.where(lost[:, None] | ~np.isfinite(command), 0.0, command)
            sim.advance(command, scenario.control_dt)
            state = sim.state  # (17, N)
            lost |= _lost(state, path.position[k + 1])
            record.store(k, state, command / ROTOR_SPEED_MAX, lost)
    settled = path.settled[1:] if scenario.tracking else path.times[1:] > path.times[-1] - 1.0 + 1e-9
    return Rollout(
        path.times[1:],
        path.position[1:],
        record.position,
        record.quat,
        record.body_rate,
        record.command,
        settled,
        record.call_seconds,
    )


class _Record:
    """Preallocated arrays of a rollout."""

    def __init__(self, steps: int, count: int) -> None:
        self.position = np.full((steps, count, 3), np.nan, dtype=np.float32)
        self.quat = np.full((steps, count, 4), np.nan, dtype=np.float32)
        self.body_rate = np.full((steps, count, 3), np.nan, dtype=np.float32)
        self.command = np.full((steps, count, 4), np.nan, dtype=np.float32)
        self.call_seconds = np.zeros(steps)

    def store(self, k: int, state: NDArray[np.float64], command: NDArray[Any], lost: NDArray[np.bool_]) -> None:
        from robot_rl.sim.quadrotor.equations import STATE

        here = ~lost
        self.position[k, here] = state[STATE["pos"]].T[here]
        self.quat[k, here] = state[STATE["quat"]].T[here]
        self.body_rate[k, here] = state[STATE["omega"]].T[here]
        self.command[k, here] = np.clip(command[here], 0.0, 1.0)


def _signals(sensed: dict[str, Any], path: Reference, k: int, lost: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Sensed signals and targets (N, …); lost vehicles see themselves at rest on the target."""
    count = len(lost)
    signals = dict(sensed)
    targets = {
        "target_pos_w": path.position[k],
        "target_lin_vel_w": path.velocity[k],
        "target_lin_acc_w": path.acceleration[k],
        "target_yaw": np.zeros(1),
    }
    for name, value in targets.items():
        signals[name] = np.broadcast_to(value.astype(np.float32), (count, len(value))).copy()
    if lost.any():
        benign = {"base_pos_w": signals["target_pos_w"][0], "base_quat_wxyz": np.array([1.0, 0.0, 0.0, 0.0])}
        for name in sensed:
            signals[name] = signals[name].copy()
            signals[name][lost] = benign.get(name, 0.0)
    return signals


def _lost(state: NDArray[np.float64], target: Floats) -> NDArray[np.bool_]:
    from robot_rl.sim.quadrotor.equations import STATE

    away = np.abs(state[STATE["pos"]].T - target)
    spin = np.abs(state[STATE["omega"]].T)
    # Written so that NaN counts as lost.
    return ~((away < LOST_DISTANCE).all(axis=1) & (spin < LOST_RATE).all(axis=1))
