"""Kinematics of the Panda in NumPy: where the gripper is, and joint targets that move it; N arms at once.

Source: Denavit-Hartenberg parameters (Craig) and joint ranges, Franka FCI documentation, "Robot and interface
specifications"; hand turned by −45° behind the flange, middle of the finger pads 0.1034 m further.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

_A = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
_D = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
_ALPHA = (0.0, -math.pi / 2, math.pi / 2, math.pi / 2, -math.pi / 2, math.pi / 2, math.pi / 2)
_FLANGE, _TIP, _HAND_TURN = 0.107, 0.1034, -math.pi / 4
LOWER = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
UPPER = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
WIDTH = 0.08
"""m: the gripper, fully open."""

REST = np.array([0.0, -0.15, 0.0, -2.45, 0.0, 2.3, math.pi / 4])
"""(7,) rad: posture preferred where there is freedom."""

_ITERATIONS, _DAMPING, _POSTURE, _FAR = 2, 0.02, 0.01, 0.2


def forward(q: Floats) -> tuple[Floats, Floats, Floats]:
    """q (N, 7) rad → position (N, 3) m, rotation (N, 3, 3) of the gripper, Jacobian (N, 6, 7), world frame."""
    pose = np.tile(np.eye(4), (len(q), 1, 1))
    axes, places = [], []
    for j in range(7):
        pose = pose @ _link(_A[j], _ALPHA[j], _D[j], q[:, j])
        axes.append(pose[:, :3, 2])
        places.append(pose[:, :3, 3])
    pose = pose @ _link(0.0, 0.0, _FLANGE + _TIP, np.full(len(q), _HAND_TURN))
    end = pose[:, :3, 3]
    columns = [np.concatenate([np.cross(a, end - p), a], axis=1) for a, p in zip(axes, places, strict=True)]
    return end, pose[:, :3, :3], np.stack(columns, axis=2)


def joint_targets(q: Floats, place: Floats, heading: Floats) -> Floats:
    """(N, 7) rad that bring the gripper, pointing straight down, to place (N, 3) m with heading (N,) rad.

    Two steps of damped least squares (Wampler 1986) from q, with a preferred posture in the null space.
    """
    c, s, zero = np.cos(heading), np.sin(heading), np.zeros_like(heading)
    down = np.stack([c, s, zero, s, -c, zero, zero, zero, zero - 1.0], axis=1).reshape(-1, 3, 3)
    for _ in range(_ITERATIONS):
        pos, rot, jacobian = forward(q)
        error = np.concatenate([_shorter(place - pos, _FAR), _shorter(_turn(rot, down), _FAR / 2)], axis=1)
        wish = _POSTURE * (REST - q)
        missing = error - np.einsum("nij,nj->ni", jacobian, wish)
        square = jacobian @ jacobian.transpose(0, 2, 1) + _DAMPING**2 * np.eye(6)
        solved = np.linalg.solve(square, missing[..., None])[..., 0]
        q = np.clip(q + np.einsum("nij,ni->nj", jacobian, solved) + wish, LOWER, UPPER)
    return q


def heading_of(quat: Floats) -> Floats:
    """(N,) rad: where the body's x axis points, horizontally; quat (N, 4) wxyz."""
    w, x, y, z = quat.T
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def _link(a: float, alpha: float, d: float, theta: Floats) -> Floats:
    ca, sa, ct, st = math.cos(alpha), math.sin(alpha), np.cos(theta), np.sin(theta)
    zero, one = np.zeros_like(theta), np.ones_like(theta)
    rows = [ct, -st, zero, a * one, st * ca, ct * ca, -sa * one, -d * sa * one]
    rows += [st * sa, ct * sa, ca * one, d * ca * one, zero, zero, zero, one]
    return np.stack(rows, axis=1).reshape(-1, 4, 4)


def _turn(rot: Floats, target: Floats) -> Floats:
    """(N, 3): axis times 2·tan(θ/2), from rot to target, bounded near half a turn."""
    r = target @ rot.transpose(0, 2, 1)
    skew = np.stack([r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], axis=1)
    cosine = 0.5 * (np.trace(r, axis1=1, axis2=2) - 1.0)
    return skew / np.maximum(1.0 + cosine, 0.05)[:, None]


def _shorter(vector: Floats, most: float) -> Floats:
    return vector * (most / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), most))
