"""What an arm's wrist feels, from a sensor that also carries the hand, in numpy for one robot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import mujoco


class WristForce:
    """Force that the world exerts on the body `hand`: (3,) N in its axes, the mean since the last reading.

    The wrist's sensor bears the hand against gravity and inertia too; both are taken off, as in the tasks of the arm.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._data, self._dt = data, float(model.opt.timestep)
        self._mass = float(model.body_subtreemass[model.body("hand").id])
        self._gravity = np.array(model.opt.gravity)
        self.reset()

    def reset(self) -> None:
        """Begin anew with the present velocity, after it was set from outside."""
        self._sum, self._count, self._last = np.zeros(3), 0, np.zeros(3)
        self._vel = np.array(self._data.sensor("ee_vel").data)

    def add(self) -> None:
        """Take in one physics step."""
        self._sum += self._data.sensor("wrist_force").data
        self._count += 1

    def read(self) -> NDArray[np.float64]:
        """The mean force since the last call; the same again where nothing has moved since."""
        if self._count == 0:
            return self._last
        vel = np.array(self._data.sensor("ee_vel").data)
        acceleration = (vel - self._vel) / (self._count * self._dt)
        to_world = self._data.body("hand").xmat.reshape(3, 3)
        own = self._mass * (to_world.T @ (acceleration - self._gravity))
        self._last = own - self._sum / self._count
        self._vel, self._sum, self._count = vel, np.zeros(3), 0
        return self._last
