"""A slow, smooth motion of all joints through a few poses; pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot_rl.hardware.setpoints import Vector


class PoseMotion:
    """From `start` (J,) rad through `stops`, each a pose (J,) and the seconds on the way there; at rest in each."""

    def __init__(self, start: Vector, stops: Sequence[tuple[Vector, float]]) -> None:
        self._from, self._stops = np.asarray(start, np.float64), list(stops)
        self._spent = 0.0

    @property
    def done(self) -> bool:
        """Whether the last pose is reached."""
        return not self._stops

    def step(self, dt: float) -> Vector:
        """The pose (J,) `dt` s later."""
        self._spent += dt
        while self._stops and self._spent >= self._stops[0][1]:
            pose, seconds = self._stops.pop(0)
            self._from, self._spent = np.asarray(pose, np.float64), self._spent - seconds
        if not self._stops:
            return self._from.copy()
        pose, seconds = self._stops[0]
        share = self._spent / seconds
        return self._from + (np.asarray(pose) - self._from) * share * share * (3.0 - 2.0 * share)
