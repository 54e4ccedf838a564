"""What changes during a flight without the vehicle's doing: wind and gusts, and the battery."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from robot_rl.sim.quadrotor.equations import STATE
from robot_rl.sim.quadrotor.options import FlightOptions
from robot_rl.sim.quadrotor.params import SUPPLY, WIND
from robot_rl.sim.quadrotor.randomize import uniform


class Surroundings:
    """Writes wind and battery supply into the parameters of N vehicles at each control step, where the options ask."""

    def __init__(self, options: FlightOptions, num_envs: int, generator: torch.Generator) -> None:
        self._wind, self._battery, self._generator = options.wind, options.battery, generator
        device = generator.device
        self._mean, self._gust = torch.zeros(3, num_envs, device=device), torch.zeros(3, num_envs, device=device)
        self._start, self._sag = torch.ones(num_envs, device=device), torch.zeros(num_envs, device=device)
        self._windy = options.wind.mean > 0 or options.wind.gust > 0
        battery = options.battery
        self._draining = battery.start != (1.0, 1.0) or battery.sag[1] > 0 or battery.load > 0
        self._keep = math.exp(-options.control_dt / options.wind.gust_time)

    def reset(self, env_ids: Tensor) -> None:
        """New weather and a new battery for some environments."""
        n, g = len(env_ids), self._generator
        if self._windy:
            draw = torch.randn(6, n, generator=g, device=g.device)
            self._mean[:, env_ids] = self._wind.mean * draw[:3]
            self._gust[:, env_ids] = self._wind.gust * draw[3:]
        if self._draining:
            self._start[env_ids] = uniform(self._battery.start, (n,), g)
            self._sag[env_ids] = uniform(self._battery.sag, (n,), g)

    def apply(self, params: Tensor, state: Tensor, progress: Tensor) -> None:
        """Update `params` (P, N) in place; `progress` (N,) is the elapsed share of the episode."""
        g = self._generator
        if self._windy:
            draw = torch.randn(self._gust.shape, generator=g, device=g.device)
            self._gust = self._keep * self._gust + self._wind.gust * math.sqrt(1 - self._keep**2) * draw
            params[WIND] = self._mean + self._gust
        if self._draining:
            load = self._battery.load * (state[STATE["rotor"]] ** 2).mean(0)
            params[SUPPLY] = torch.clamp(self._start - self._sag * progress - load, min=0.1)

    def state_dict(self) -> dict[str, Any]:
        return {k: getattr(self, "_" + k).clone() for k in ("mean", "gust", "start", "sag")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, "_" + name, value.to(self._generator.device).clone())
