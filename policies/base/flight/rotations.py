"""Batched rotations in numpy for controllers: quaternions are wxyz and rotate body vectors into the world."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def matrix_from_quat(quat_wxyz: Floats) -> Floats:
    """(N, 4) → (N, 3, 3), body → world. The quaternion is normalised first; a zero one gives the identity."""
    norm = np.linalg.norm(quat_wxyz, axis=-1, keepdims=True)
    w, x, y, z = np.where(norm > 1e-9, quat_wxyz / np.maximum(norm, 1e-9), [1.0, 0.0, 0.0, 0.0]).T
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def cross(a: Floats, b: Floats) -> Floats:
    """Vector product a × b of (N, 3); several times quicker than np.cross on small batches."""
    ax, ay, az = a.T
    bx, by, bz = b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def vee(matrix: Floats) -> Floats:
    """Inverse of the hat map on the skew part: (N, 3, 3) → (N, 3)."""
    skew = 0.5 * (matrix - np.swapaxes(matrix, -1, -2))
    return np.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], axis=-1)


def log_map(matrix: Floats) -> Floats:
    """Rotation vector (N, 3) in rad of rotation matrices (N, 3, 3). Near π the axis comes from the diagonal."""
    cos = np.clip((np.trace(matrix, axis1=-2, axis2=-1) - 1) / 2, -1.0, 1.0)
    angle = np.arccos(cos)
    sine_axis = vee(matrix)
    sine = np.linalg.norm(sine_axis, axis=-1)
    scale = np.where(sine > 1e-6, angle / np.maximum(sine, 1e-6), 1.0)
    regular = sine_axis * scale[..., None]
    flipped = (sine <= 1e-4) & (cos < 0)
    if not flipped.any():
        return regular
    diagonal = np.diagonal(matrix, axis1=-2, axis2=-1)
    column = np.argmax(diagonal, axis=-1)
    axis = np.take_along_axis(matrix + np.eye(3), column[..., None, None], axis=-1)[..., 0]
    axis = axis / np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), 1e-9)
    return np.where(flipped[..., None], axis * angle[..., None], regular)


def euler_zyx(matrix: Floats) -> Floats:
    """Roll, pitch, yaw (N, 3) in rad of body → world matrices, R = Rz(yaw)·Ry(pitch)·Rx(roll)."""
    roll = np.arctan2(matrix[..., 2, 1], matrix[..., 2, 2])
    pitch = np.arcsin(np.clip(-matrix[..., 2, 0], -1.0, 1.0))
    yaw = np.arctan2(matrix[..., 1, 0], matrix[..., 0, 0])
    return np.stack([roll, pitch, yaw], axis=-1)


def wrapped(angle: Floats) -> Floats:
    """Angle in rad to (−π, π]."""
    return -((np.pi - angle) % (2 * np.pi) - np.pi)


def attitude_from_thrust(direction_w: Floats, yaw: Floats) -> Floats:
    """Attitude whose body z is along `direction_w` (N, 3) and whose heading is `yaw` (N,) rad. Returns (N, 3, 3).

    Source: Mellinger and Kumar 2011, differential flatness of the quadrotor.
    """
    z = direction_w / np.maximum(np.linalg.norm(direction_w, axis=-1, keepdims=True), 1e-9)
    heading = np.stack([np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)], axis=-1)
    y = cross(z, heading)
    length = np.linalg.norm(y, axis=-1, keepdims=True)
    left = np.stack([-np.sin(yaw), np.cos(yaw), np.zeros_like(yaw)], axis=-1)
    y = np.where(length > 1e-6, y / np.maximum(length, 1e-6), left)
    return np.stack([cross(y, z), y, z], axis=-1)
