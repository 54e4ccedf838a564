"""Quaternions wxyz and vectors, batched: (…, 4) and (…, 3). Unit quaternions in, unit quaternions out."""

from __future__ import annotations

import torch
from torch import Tensor


def quat_mul(a: Tensor, b: Tensor) -> Tensor:
    """a ⊗ b: first b, then a."""
    w, u, s, v = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
    return torch.cat([w * s - (u * v).sum(-1, keepdim=True), w * v + s * u + torch.linalg.cross(u, v)], dim=-1)


def conjugate(q: Tensor) -> Tensor:
    """The inverse rotation."""
    w, xyz = q[..., :1], q[..., 1:]
    return torch.cat([w, -xyz], dim=-1)


def rotate(q: Tensor, v: Tensor) -> Tensor:
    """A body vector in the world, where q is body → world."""
    w, u = q[..., :1], q[..., 1:]
    t = 2.0 * torch.linalg.cross(u, v)
    return v + w * t + torch.linalg.cross(u, t)


def rotate_back(q: Tensor, v: Tensor) -> Tensor:
    """A world vector in the body, where q is body → world."""
    return rotate(conjugate(q), v)


def down_in_body(q: Tensor) -> Tensor:
    """The direction of gravity seen from the body, (…, 3): (0, 0, −1) when upright."""
    w, x, y, z = q.unbind(-1)
    return torch.stack([2 * (w * y - x * z), -2 * (w * x + y * z), 2 * (x * x + y * y) - 1], dim=-1)


def small_rotation(angle: Tensor) -> Tensor:
    """The unit quaternion of a small rotation vector (…, 3) in rad."""
    q = torch.cat([torch.ones_like(angle[..., :1]), 0.5 * angle], dim=-1)
    return q / q.norm(dim=-1, keepdim=True)


def about(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotation by angle (…,) rad about a unit vector (…, 3) → (…, 4)."""
    return torch.cat([torch.cos(0.5 * angle)[..., None], torch.sin(0.5 * angle)[..., None] * axis], dim=-1)


def from_yaw(yaw: Tensor) -> Tensor:
    """Rotation about the vertical by yaw (…,) rad → (…, 4)."""
    zero = torch.zeros_like(yaw)
    return torch.stack([torch.cos(0.5 * yaw), zero, zero, torch.sin(0.5 * yaw)], dim=-1)


def yaw_of(q: Tensor) -> Tensor:
    """Heading (…,) rad of the body's x axis."""
    w, x, y, z = q.unbind(-1)
    return torch.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def angle_between(a: Tensor, b: Tensor) -> Tensor:
    """The angle (…,) in [0, π] rad of the rotation from a to b."""
    relative = quat_mul(conjugate(a), b)
    return 2.0 * torch.atan2(relative[..., 1:].norm(dim=-1), relative[..., 0].abs())


def random_quat(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform on SO(3), (*shape, 4)."""
    q = torch.randn(*shape, 4, generator=generator, device=generator.device)
    return q / q.norm(dim=-1, keepdim=True).clamp(min=1e-9)
