"""Rewards, costs, failure and the critic's view as pure functions of arrays; no environment here."""

from __future__ import annotations

import torch
from torch import Tensor

from robot_rl.sim.quadrotor.equations import STATE, rotation
from robot_rl.sim.quadrotor.options import CostLimits, RewardWeights, Termination

CRITIC_SIZE = 28


def length(vector: Tensor) -> Tensor:
    """Euclidean length (N,) of vectors (3, N)."""
    x, y, z = vector.unbind(0)
    return torch.sqrt(x * x + y * y + z * z)


def critic_observation(state: Tensor, target_pos: Tensor, target_vel: Tensor, force: Tensor, torque: Tensor) -> Tensor:
    """Noise-free privileged view (N, 28) after Learning to Fly in Seconds.

    Position error 3, rotation matrix row-major 9, velocity error 3, body rates 3, external force 3 (N, world), torque 3
    (N m, body), rotor speeds in [−1, 1] 4. All arguments component-first.
    """
    R = rotation(*state[STATE["quat"]].unbind(0))
    rows = [
        state[STATE["pos"]] - target_pos,
        torch.stack([entry for row in R for entry in row]),
        state[STATE["vel"]] - target_vel,
        state[STATE["omega"]],
        force,
        torque,
        2 * state[STATE["rotor"]] - 1,
    ]
    return torch.cat(rows).T


def reward(
    critic_obs: Tensor, rotor_action: Tensor, terminated: Tensor, weights: RewardWeights, hover: float
) -> Tensor:
    """Reward (N,) of a step, see `RewardWeights`.

    Args:
        critic_obs: (N, 28) before the step. rotor_action: (N, 4), rotor commands as 2 u − 1 in [−1, 1].
        terminated: (N,) bool after the step. hover: the rotor command in hover, likewise in [−1, 1].
    """
    trace = critic_obs[:, 3] + critic_obs[:, 7] + critic_obs[:, 11]
    penalty = (
        weights.position * critic_obs[:, 0:3].square().sum(1)
        + weights.orientation * (3 - trace) / 4  # 1 − q_w²
        + weights.linear_velocity * critic_obs[:, 12:15].square().sum(1)
        + weights.action * (rotor_action - hover).square().sum(1)
    )
    return torch.where(terminated, 0.0, weights.alive - weights.scale * penalty)


def failed(off_axis: Tensor, speed: Tensor, body_rate: Tensor, bounds: Termination) -> Tensor:
    """(N,) bool: outside the box, too fast, spinning too fast, or not finite.

    Args:
        off_axis: (N,) largest distance to the target on any axis, m. speed: m/s. body_rate: rad/s.
    """
    inside = (off_axis <= bounds.box) & (speed <= bounds.speed)
    return ~(inside & (body_rate <= bounds.body_rate))  # a NaN compares false, so it fails


def cost_box(off_axis: Tensor, limits: CostLimits) -> Tensor:
    """Metres beyond the inner box, (N,)."""
    return torch.clamp(off_axis - limits.box, min=0.0)


def cost_body_rate(body_rate: Tensor, limits: CostLimits) -> Tensor:
    """Rad/s beyond the calm body rate, (N,)."""
    return torch.clamp(body_rate - limits.body_rate, min=0.0)


def cost_tilt(quat: Tensor, limits: CostLimits) -> Tensor:
    """Rad of tilt beyond the limit, (N,)."""
    up = torch.clamp(1 - 2 * (quat[1] ** 2 + quat[2] ** 2), -1.0, 1.0)
    return torch.clamp(torch.arccos(up) - limits.tilt, min=0.0)
