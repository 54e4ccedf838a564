"""From joint targets to joint torques: the PD loop of the drive (`drive.py`), or a model of your own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from robot_rl.errors import ConfigError
from robot_rl.sim.articulated.drive import pd_torque

if TYPE_CHECKING:
    from robot_rl.sim.articulated.jointed_robot import JointedRobot


class ActuatorModel(Protocol):
    """Computes what goes to the physics in every physics step. N simulations, J joints."""

    def reset(self, ids: Tensor) -> None:
        """Forget the past of simulations `ids`."""
        ...

    def torque(self, target: Tensor, pos: Tensor, vel: Tensor, gains: Gains) -> Tensor:
        """(N, J) N m from targets and *measured* positions (rad) and velocities (rad/s), each (N, J)."""
        ...


class Gains:
    """This episode's drive parameters, each (N, J): kp, kd, and `strength`, the share of its torque a drive gives."""

    def __init__(self, robot: JointedRobot, num_envs: int, device: torch.device) -> None:
        def rows(values: tuple[float, ...]) -> Tensor:
            return torch.tensor(values, device=device).expand(num_envs, -1).clone()

        self.kp, self.kd = rows(robot.stiffness), rows(robot.damping)
        self.strength = torch.ones_like(self.kp)
        self.limit = torch.tensor(robot.torque_limit, device=device)
        self.stall = torch.tensor(robot.stall_torque, device=device)
        self.no_load = torch.tensor(robot.no_load_speed, device=device)


class PdActuator:
    """The drive's own PD loop, held target, at the rate of the physics."""

    def reset(self, ids: Tensor) -> None:
        """Nothing is remembered."""
        del ids

    def torque(self, target: Tensor, pos: Tensor, vel: Tensor, gains: Gains) -> Tensor:
        g = gains
        return pd_torque(torch, target, pos, vel, g.kp, g.kd, g.limit, g.stall, g.no_load) * g.strength


class NetActuator:
    """A network per joint, shared by all: errors and velocities of the last three steps → torque.

    Hwangbo et al., Learning agile and dynamic motor skills (2019); Margolis & Agrawal, Walk These Ways (2022).

    Args:
        network: (B, 6) → (B, 1): position errors at t, t − 1, t − 2 in rad, then velocities likewise in rad/s, at the
            rate of the physics; torque in N m.
        robot: for its torque limits. num_envs, device: where it works.
    """

    def __init__(self, network: nn.Module, robot: JointedRobot, num_envs: int, device: torch.device) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.history = torch.zeros(num_envs, len(robot.joints), 6, device=device)
        self.fresh = torch.ones(num_envs, dtype=torch.bool, device=device)

    def reset(self, ids: Tensor) -> None:
        self.fresh[ids] = True

    def torque(self, target: Tensor, pos: Tensor, vel: Tensor, gains: Gains) -> Tensor:
        now = torch.stack([target - pos, vel], dim=2)
        old = self.history
        shifted = torch.stack([now[..., 0], old[..., 0], old[..., 1], now[..., 1], old[..., 3], old[..., 4]], dim=2)
        constant = now.repeat_interleave(3, dim=2)
        self.history = torch.where(self.fresh[:, None, None], constant, shifted)
        self.fresh = torch.zeros_like(self.fresh)
        torque = self.network(self.history.flatten(0, 1)).reshape(pos.shape) * gains.strength
        return torch.clamp(torque, -gains.limit, gains.limit)


def make_actuator(name: str, robot: JointedRobot, num_envs: int, device: torch.device) -> ActuatorModel:
    """`pd`, or what `package.module:FACTORY(robot, num_envs, device)` gives.

    Raises:
        ConfigError: neither.
    """
    if name == "pd":
        return PdActuator()
    module, colon, factory = name.partition(":")
    if not colon:
        raise ConfigError(f"actuator '{name}' is neither 'pd' nor of the form package.module:FACTORY")
    try:
        return getattr(importlib.import_module(module), factory)(robot, num_envs, device)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"actuator '{name}' cannot be loaded: {error}; is it on PYTHONPATH?") from error
