"""The observers and action maps of the flight tasks, by the names that a task's options use."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from robot_rl.contract import Command, Memory
from robot_rl.errors import UnknownName
from robot_rl.observer import ActionMap, Observer
from robot_rl.signals import FLIGHT_SIGNALS
from robot_rl.sim.quadrotor.equations import rotation
from robot_rl.sim.quadrotor.flight_observer import FlightObserver
from robot_rl.sim.quadrotor.params import VehicleParams

_L2F_READS = (
    "base_pos_w",
    "base_quat_wxyz",
    "base_lin_vel_w",
    "base_ang_vel_b",
    "target_pos_w",
    "target_lin_vel_w",
)


class L2FObserver(Observer):
    """The observation of Learning to Fly in Seconds: state error and the last 32 actions, for one call per 10 ms.

    146 numbers: position error 3 (m), rotation matrix row-major 9, velocity error 3 (m/s), body rates 3 (rad/s), 32 × 4
    actions, oldest first. Nothing is scaled.

    Attributes:
        rotation_entries: where the rotation matrix stands; there the environment adds its attitude noise, as L2F does.
    """

    length = 32
    signals = tuple(FLIGHT_SIGNALS[name] for name in _L2F_READS)
    memory = (Memory("action_history", (length, 4), (0.0,) * (length * 4)),)
    obs_dim = 18 + 4 * length
    rotation_entries = slice(3, 12)

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        quat = signals["base_quat_wxyz"]
        R = rotation(*quat.split(1, dim=1))
        history = memory["action_history"]
        parts = [
            signals["base_pos_w"] - signals["target_pos_w"],
            *(entry for row in R for entry in row),
            signals["base_lin_vel_w"] - signals["target_lin_vel_w"],
            signals["base_ang_vel_b"],
            history.reshape(-1, 4 * self.length),
        ]
        return torch.cat(parts, dim=1), memory

    def record(self, memory: dict[str, Tensor], action: Tensor) -> dict[str, Tensor]:
        return {"action_history": torch.cat([memory["action_history"][:, 1:], action[:, None]], dim=1)}


class RotorMap(ActionMap):
    """Action −1 … 1 → rotor speed 0 … full speed, linearly; actions beyond are clipped."""

    lower: Tensor
    upper: Tensor

    def __init__(self, command: Command) -> None:
        super().__init__()
        self.commands = (command,)
        self.register_buffer("lower", torch.tensor(command.lower))
        self.register_buffer("upper", torch.tensor(command.upper))

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        share = 0.5 + 0.5 * torch.clamp(action, -1.0, 1.0)
        return {self.commands[0].name: self.lower + share * (self.upper - self.lower)}

    def action_for(self, commands: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Tensor:
        del signals
        return 2.0 * (commands[self.commands[0].name] - self.lower) / (self.upper - self.lower) - 1.0


OBSERVERS: dict[str, Callable[[VehicleParams], Observer]] = {
    "flight": FlightObserver,
    "l2f": lambda vehicle: L2FObserver(),
}
ACTION_MAPS: dict[str, Callable[[Command], ActionMap]] = {"rotor": RotorMap}


def make_observer(name: str, vehicle: VehicleParams) -> Observer:
    """The observer called `name`; `vehicle` is what it believes to fly.

    Raises:
        UnknownName: no such observer.
    """
    if name not in OBSERVERS:
        raise UnknownName("observer", name, OBSERVERS)
    return OBSERVERS[name](vehicle)


def make_action_map(name: str, command: Command) -> ActionMap:
    """The action map called `name` onto `command`.

    Raises:
        UnknownName: no such action map.
    """
    if name not in ACTION_MAPS:
        raise UnknownName("action map", name, ACTION_MAPS)
    return ACTION_MAPS[name](command)
