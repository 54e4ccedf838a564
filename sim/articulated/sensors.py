"""Readings of a model's sensors by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from robot_rl.sim.articulated.physics import Physics


class Sensors:
    """What the sensors of `physics.model` read in its N simulations. Names that it has not raise KeyError."""

    def __init__(self, physics: Physics) -> None:
        self.physics, model = physics, physics.model
        self._places = {
            model.sensor(i).name: slice(int(model.sensor_adr[i]), int(model.sensor_adr[i] + model.sensor_dim[i]))
            for i in range(model.nsensor)
        }
        self._data: Tensor | None = None
        self._views: dict[str, Tensor] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def read(self, name: str) -> Tensor:
        """(N, k) of the present state."""
        data = self.physics.sensordata
        if data is not self._data:
            self._data, self._views = data, {}
        if name not in self._views:
            self._views[name] = data[:, self._places[name]]
        return self._views[name]

    def read_raw(self, name: str) -> Tensor:
        """(N, k) as the last physics step left it."""
        return self.physics.raw_sensordata[:, self._places[name]]

    def columns(self, names: Sequence[str]) -> Tensor:
        """Where the readings of several sensors stand in `sensordata`, one after another."""
        columns = [i for name in names for i in range(self._places[name].start, self._places[name].stop)]
        return torch.tensor(columns, dtype=torch.long, device=self.physics.device)
