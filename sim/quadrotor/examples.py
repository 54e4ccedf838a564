"""Signals of one simulated flight under any policy: what exports record and targets are compared on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rl.sim.quadrotor.numpy_sim import NumpyQuadrotor, NumpySimOptions
from robot_rl.sim.quadrotor.references import figure_eight

if TYPE_CHECKING:
    from robot_rl.sim.task_spec import Act, TaskSpec


def figure_eight_flight(
    task: TaskSpec, act: Act, count: int, seed: int = 0, control_dt: float | None = None
) -> list[dict[str, Any]]:
    """One flight from a hard start, by odd seeds at a point, else along a figure-eight, always turning.

    See `TaskSpec.example_signals`. Every input of a flight policy does something; (1, n) float32 arrays.
    """
    dt = control_dt or task.rate.control_dt
    rng = np.random.default_rng(seed)
    sim = NumpyQuadrotor(dt=dt, seed=seed, options=NumpySimOptions(ground=False))
    tilt = rng.normal(0, 0.25, 4) + np.array([1.0, 0.0, 0.0, 0.0])
    velocity, rate = rng.uniform(-0.7, 0.7, 3), rng.uniform(-1, 1, 3)
    sim.reset(rng.uniform(-0.2, 0.2, 3), tilt, velocity, rate, sim.vehicle.hover_rotor * 2000)
    moving = 1.0 - seed % 2
    out = []
    for k in range(count):
        path = figure_eight(np, np.array([k * dt * moving]), period=6.0, ramp=0.3)
        signals: dict[str, Any] = dict(sim.signals())
        for name, value in (("target_pos_w", path.pos), ("target_lin_vel_w", path.vel), ("target_lin_acc_w", path.acc)):
            signals[name] = np.asarray(value * moving, dtype=np.float32).reshape(1, 3)
        signals["target_yaw"] = np.full((1, 1), 0.3 * np.sin(k * dt), dtype=np.float32)
        signals["time_step"] = np.full((1, 1), dt, dtype=np.float32)
        out.append(signals)
        sim.advance(np.asarray(act(signals)["rotor_speed_target"]), dt)
    return out
