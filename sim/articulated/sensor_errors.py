"""What sensors add to the truth, as data by signal name, and one robot's samples of it in numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class SensorError:
    """Fresh for every sample: U(−size, size), or N(0, size²) where `normal`, in the signal's unit.

    A quaternion is turned by a small rotation vector with such components, rad, in the world: about all axes, or only
    about the vertical where `vertical`.
    """

    size: float
    normal: bool = False
    vertical: bool = False

    def sample(self, rng: np.random.Generator, count: int) -> Vector:
        """(count,) errors."""
        if self.normal:
            return self.size * rng.standard_normal(count)
        return self.size * rng.uniform(-1.0, 1.0, count)


def with_errors(
    true: Mapping[str, Vector], errors: Mapping[str, SensorError], rng: np.random.Generator
) -> dict[str, Vector]:
    """Signals (n,) as the sensors of one robot say them; those without an error as they are."""
    out = dict(true)
    for name, error in errors.items():
        if name not in out:
            continue
        if name.endswith("quat_wxyz"):
            axes = np.array([0.0, 0.0, 1.0]) if error.vertical else np.ones(3)
            out[name] = _turned(out[name], error.sample(rng, 3) * axes)
        else:
            out[name] = out[name] + error.sample(rng, len(out[name]))
    return out


def _turned(quat: Vector, rotation: Vector) -> Vector:
    """`quat` (4,) turned by a rotation vector (3,) rad in the world."""
    angle = float(np.linalg.norm(rotation))
    if angle == 0.0:
        return quat
    a, v = math.cos(0.5 * angle), math.sin(0.5 * angle) * rotation / angle
    w, u = quat[0], quat[1:]
    return np.array([a * w - v @ u, *(a * u + w * v + np.cross(v, u))])
