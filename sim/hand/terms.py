"""Reward terms of in-hand tasks as pure functions of arrays: (N, …) in, (N,) out, unweighted. Costs are positive.

Source: MuJoCo Playground's LeapCubeReorient (Zakka et al., 2025), `progress` aside.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CLOSE_ANGLE, CLOSE_DISTANCE, FAR_DISTANCE = 0.2, 0.02, 0.05
"""rad, m: closer is as good as it gets; m beyond that at which nothing is left."""


def orientation(angle: Tensor) -> Tensor:
    """1 near the goal, falling linearly to 0 at half a turn (and 0.2 rad) from it; angle (N,) rad."""
    return torch.clamp(1.0 - (angle - CLOSE_ANGLE) / math.pi, 0.0, 1.0)


def position(distance: Tensor) -> Tensor:
    """1 in the middle of the palm, falling linearly to 0 at 7 cm from it; distance (N,) m."""
    return torch.clamp(1.0 - (distance - CLOSE_DISTANCE) / FAR_DISTANCE, 0.0, 1.0)


def progress(before: Tensor, angle: Tensor) -> Tensor:
    """rad that the object has come closer to its goal since the last control step; (N,) each."""
    return before - angle


def pose(pos: Tensor, default: Tensor) -> Tensor:
    """Squared distance (N, J) rad to the default pose."""
    return (pos - default).square().sum(1)


def action_rate(action: Tensor, previous: Tensor, before: Tensor) -> Tensor:
    """Squared first and second differences of three actions (N, A) in a row, the newest first."""
    return (action - previous).square().sum(1) + (action - 2 * previous + before).square().sum(1)


def energy(torque: Tensor, vel: Tensor) -> Tensor:
    """Σ|τ·q̇| in W."""
    return (torque * vel).abs().sum(1)
