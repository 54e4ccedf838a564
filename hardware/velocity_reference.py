"""The reference of a walking robot: velocities that change gently and go to zero when nobody repeats them.

Pure: no clock, no driver; the caller says how much time has passed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from robot_rl.hardware.setpoints import Vector, VelocityLimits, VelocitySetpoint
from robot_rl.protocols import Array


class VelocityReference:
    """Moves the asked velocity towards the last request, within `limits`.

    Attributes:
        current: the newest set-point.
    """

    def __init__(self, limits: VelocityLimits | None = None) -> None:
        self.limits = limits or VelocityLimits()
        top = self.limits
        self._most = np.array([top.max_forward, top.max_sideways, top.max_yaw_rate])
        self._rates = np.array([top.max_acceleration, top.max_acceleration, top.max_yaw_acceleration])
        self.stand()

    def stand(self) -> VelocitySetpoint:
        """Zero at once, and nothing is asked for any more."""
        self._now, self._goal, self._left = np.zeros(3), np.zeros(3), 0.0
        self.current = VelocitySetpoint(np.zeros(2), 0.0)
        return self.current

    def rest(self, signals: Mapping[str, Array]) -> VelocitySetpoint:
        """While the policy does not lead: zero, whatever is measured."""
        del signals
        return self.stand()

    def halt(self) -> None:
        """Towards zero, as fast as the limits allow."""
        self._goal, self._left = np.zeros(3), 0.0

    def walk(self, forward: float, sideways: float, yaw_rate: float, hold: float | None = None) -> Vector:
        """Towards these velocities, m/s, m/s, rad/s, for `hold` s, by default the time-out; returns what is taken."""
        self._goal = np.clip(np.array([forward, sideways, yaw_rate], np.float64), -self._most, self._most)
        self._left = self.limits.timeout if hold is None else hold
        return self._goal.copy()

    def step(self, dt: float) -> VelocitySetpoint:
        """The set-point `dt` s later. Raises ValueError for a time that cannot pass."""
        if not 0.0 <= dt < math.inf:
            raise ValueError(f"dt = {dt} s: must be finite and not negative")
        self._left -= dt
        if self._left < 0.0:
            self._goal = np.zeros(3)
        change = np.clip(self._goal - self._now, -self._rates * dt, self._rates * dt)
        self._now = self._now + change
        self.current = VelocitySetpoint(self._now[:2].copy(), float(self._now[2]))
        return self.current
