"""Ways to run the row equations without torch: plain floats for one vehicle, numpy arrays for many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


class ScalarRows:
    """Array namespace for rows that are Python floats: some ten times faster than numpy for one vehicle."""

    sqrt = staticmethod(math.sqrt)
    exp = staticmethod(math.exp)

    @staticmethod
    def clip(x: float, low: float, high: float) -> float:
        return low if x < low else high if x > high else x

    @staticmethod
    def where(condition: bool, a: float, b: float) -> float:
        return a if condition else b

    @staticmethod
    def stack(rows: Sequence[float]) -> list[float]:
        return list(rows)


_STICK_SPEED = 0.02  # m/s, and rad/s below: slower motion on the ground stops at once
_STICK_RATE = 0.2


def rest_on_ground(xp: Any, s: Sequence[Any], ground_z: Any, dt: float) -> tuple[list[Any], Any]:
    """An inelastic, sticky ground for a vehicle whose feet are at its origin.

    Below `ground_z` the vehicle is put back on it without downward speed; sliding, rotation and tilt die out within
    some hundredths of a second and slow motion sticks, so a landing neither bounces nor tumbles; upside down it comes
    to rest on its back.

    Args:
        s: 17 state rows of `equations.py`; ground_z: m; dt: s since the last call.

    Returns:
        The 17 rows, and whether the vehicle touches the ground.
    """
    x, y, z, qw, qx, qy, qz, vx, vy, vz, wx, wy, wz = s[:13]
    touching = z <= ground_z
    keep = math.exp(-dt / 0.03)
    upright = qx * qx + qy * qy < qw * qw + qz * qz
    tilt_keep = xp.where(touching, xp.where(upright, keep, 1.0), 1.0)
    roll_keep = xp.where(touching, xp.where(upright, 1.0, keep), 1.0)
    qw, qx, qy, qz = qw * roll_keep, qx * tilt_keep, qy * tilt_keep, qz * roll_keep
    scale = 1 / xp.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
    slow = xp.where(touching, keep, 1.0)
    z = xp.where(touching, ground_z, z)
    vz = xp.where(touching, xp.clip(vz, 0.0, 1e9), vz)
    held = [vx * slow, vy * slow, vz, wx * slow, wy * slow, wz * slow]
    stick = (_STICK_SPEED, _STICK_SPEED, 0.0, _STICK_RATE, _STICK_RATE, _STICK_RATE)
    quiet = [xp.where(touching, xp.where(v * v < k * k, 0.0, v), v) for v, k in zip(held, stick, strict=True)]
    return [x, y, z, qw * scale, qx * scale, qy * scale, qz * scale, *quiet, *s[13:]], touching
