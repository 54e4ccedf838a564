"""A perspective camera: points in the world to pixels. No drawing here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_FIELD_OF_VIEW = math.radians(42.0)
_NEAR = 0.02  # m; what is closer to the camera's plane is not drawn


@dataclass(frozen=True)
class Camera:
    """`eye`: m, world; `axes`: rows right, down, forward; `focal`: pixels; `size`: width and height in pixels."""

    eye: Array
    axes: Array
    focal: float
    size: tuple[int, int]

    @staticmethod
    def looking_at(points: Array, size: tuple[int, int], azimuth: float = -0.95, elevation: float = 0.42) -> Camera:
        """A camera far enough away to see all `points` (K, 3), from a direction given by two angles in rad."""
        low, high = points.min(axis=0), points.max(axis=0)
        centre, radius = (low + high) / 2, max(0.25, float(np.linalg.norm(high - low)) / 2)
        away = np.array(
            [
                math.cos(elevation) * math.cos(azimuth),
                math.cos(elevation) * math.sin(azimuth),
                math.sin(elevation),
            ]
        )
        forward = -away
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(forward, right), forward])
        distance = 0.95 * radius / math.sin(_FIELD_OF_VIEW / 2)
        return Camera(centre + distance * away, axes, size[1] / 2 / math.tan(_FIELD_OF_VIEW / 2), size)

    def project(self, points: Array) -> tuple[Array, Array]:
        """Pixels (K, 2) and depth (K,) in m of points (K, 3); what is not in front of the camera has depth ≤ 0."""
        seen = (np.asarray(points, dtype=float) - self.eye) @ self.axes.T
        depth = seen[:, 2]
        scale = self.focal / np.maximum(depth, _NEAR)
        pixels = seen[:, :2] * scale[:, None] + np.array(self.size) / 2
        return pixels, np.where(depth > _NEAR, depth, -1.0)

    def pixels_per_metre(self, point: Array) -> float:
        """How large one metre appears at a point (3,)."""
        return self.focal / max(_NEAR, float((np.asarray(point) - self.eye) @ self.axes[2]))
