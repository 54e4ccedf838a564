"""The default observer of the flight tasks as a torch module that exports; its equations: `observer_equations.py`."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from robot_rl.contract import Memory
from robot_rl.observer import Observer
from robot_rl.signals import FLIGHT_SIGNALS
from robot_rl.sim.quadrotor import observer_equations as oe
from robot_rl.sim.quadrotor.params import VehicleParams

READS = (
    "base_pos_w", "base_quat_wxyz", "base_lin_vel_w", "base_ang_vel_b",
    "target_pos_w", "target_lin_vel_w", "target_lin_acc_w", "target_yaw", "time_step",
)  # fmt: skip


def nominal_of(vehicle: VehicleParams) -> oe.Nominal:
    """What the observer needs to know of a vehicle."""
    return oe.Nominal(vehicle.mass, *vehicle.inertia, *vehicle.thrust, vehicle.torque_ratio, vehicle.arm)


class FlightObserver(Observer):
    """Errors in body axes, leaky averages of past actions, a disturbance estimate, and the target's jerk.

    35 numbers, at any rate (see `time_step`).
    """

    signals = tuple(FLIGHT_SIGNALS[name] for name in READS)
    memory = tuple(Memory(name, (size,), (0.0,) * prod((size,))) for name, size in oe.MEMORY.items())
    obs_dim = oe.OBS_SIZE

    def __init__(self, vehicle: VehicleParams) -> None:
        """`vehicle`: the one the disturbance observer assumes."""
        super().__init__()
        self.nominal = nominal_of(vehicle)

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        quat = signals["base_quat_wxyz"]
        R = oe.rotation_matrix(torch, quat / quat.norm(dim=-1, keepdim=True).clamp(min=1e-6))
        yaw = signals["target_yaw"]
        c, s = torch.cos(yaw), torch.sin(yaw)
        forward_x, forward_y = R[..., 0, 0:1], R[..., 1, 0:1]
        return oe.observe(
            torch,
            signals["base_pos_w"] - signals["target_pos_w"],
            R,
            signals["base_lin_vel_w"] - signals["target_lin_vel_w"],
            signals["base_ang_vel_b"],
            signals["target_lin_acc_w"],
            (c * forward_x + s * forward_y, c * forward_y - s * forward_x),
            memory,
            signals["time_step"],
            self.nominal,
        )

    def record(self, memory: dict[str, Tensor], action: Tensor) -> dict[str, Tensor]:
        return {**memory, "action": action}
