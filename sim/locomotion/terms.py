"""Reward terms of walking as pure functions of arrays: (N, …) in, (N,) out, unweighted. Costs are positive.

Sources: legged_gym (Rudin et al., 2021) and MuJoCo Playground's Go1 joystick task (Zakka et al., 2025).
"""

from __future__ import annotations

import torch
from torch import Tensor

MOVING = 0.05  # m/s and rad/s: a smaller command means to stand


def moving(command: Tensor) -> Tensor:
    """(N,) 1 where the command (N, 3) asks for motion, else 0."""
    return (command.norm(dim=1) > MOVING).to(command)


def tracking(error: Tensor, sigma: float) -> Tensor:
    """exp(−|e|²/σ) of a velocity error (N, k)."""
    return torch.exp(-error.square().sum(1) / sigma)


def orientation(down_b: Tensor) -> Tensor:
    """Squared horizontal part of gravity's direction in the body (N, 3): sin² of the tilt."""
    return down_b[:, :2].square().sum(1)


def joint_limits(pos: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Rad beyond the soft limits (J,), summed over joints."""
    return (torch.clamp(lower - pos, min=0) + torch.clamp(pos - upper, min=0)).sum(1)


def pose(pos: Tensor, default: Tensor, weight: Tensor) -> Tensor:
    """exp of minus the weighted squared distance to the default pose; weight (J,)."""
    return torch.exp(-(weight * (pos - default).square()).sum(1))


def stand_still(pos: Tensor, default: Tensor, command: Tensor) -> Tensor:
    """Σ|q − q₀| where nothing is asked for."""
    return (pos - default).abs().sum(1) * (1 - moving(command))


def torque(value: Tensor) -> Tensor:
    """‖τ‖₂ + ‖τ‖₁."""
    return value.norm(dim=1) + value.abs().sum(1)


def energy(torque: Tensor, vel: Tensor) -> Tensor:
    """Σ|τ·q̇| in W."""
    return (torque * vel).abs().sum(1)


def foot_clearance(height: Tensor, foot_vel_w: Tensor, wanted: float) -> Tensor:
    """Feet that move fast near the ground: Σ |z − wanted|·√speed; height (N, F) m, velocity (N, F, 3) m/s."""
    speed = foot_vel_w[..., :2].norm(dim=2)
    return ((height - wanted).abs() * torch.sqrt(speed + 1e-9)).sum(1)


def foot_slip(contact: Tensor, foot_vel_w: Tensor, command: Tensor) -> Tensor:
    """Squared horizontal speed of feet on the ground, where motion is asked for."""
    return (foot_vel_w[..., :2].square().sum(2) * contact).sum(1) * moving(command)


def air_time(seconds: Tensor, first_contact: Tensor, command: Tensor, least: float = 0.1, most: float = 0.4) -> Tensor:
    """Σ over feet that touch down now of the time in the air beyond `least`, capped at `most`; (N, F)."""
    return ((torch.clamp(seconds, max=most) - least) * first_contact).sum(1) * moving(command)


def upright(down_b: Tensor) -> Tensor:
    """0 upside down, ½ on the side, 1 upright; gravity's direction in the body (N, 3)."""
    return 0.5 * (1.0 - down_b[:, 2])


def risen(height: Tensor, wanted: float) -> Tensor:
    """Share of the wanted height m, at most 1; (N,)."""
    return torch.clamp(height / wanted, 0.0, 1.0)


def still(lin_vel: Tensor, ang_vel: Tensor) -> Tensor:
    """exp of minus squared speeds (N, 3) m/s, (N, 3) rad/s: 1 at rest."""
    return torch.exp(-4.0 * lin_vel.square().sum(1) - 0.25 * ang_vel.square().sum(1))
