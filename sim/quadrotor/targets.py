"""The moving set-points of N environments: each follows its own reference in its own time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robot_rl.sim.quadrotor.options import Reference
from robot_rl.sim.quadrotor.references import Target, Waypoints, figure_eight, step_reference


class Targets:
    """Set-points as `options` describe; `rows` (10, N): position, velocity, acceleration, yaw, relative to the origin.

    The Langevin reference is a low-passed random force on a damped spring (RAPTOR's second-order reference, with
    continuous-time parameters): ẍ = f − γ ẋ − ω² x, ḟ = (w − f) / filter, w white with ⟨w w⟩ = 2 σ² per second.
    """

    def __init__(self, options: Reference, num_envs: int, dt: float, generator: torch.Generator) -> None:
        self._options, self._dt, self._generator = options, dt, generator
        device = generator.device
        self._push = torch.zeros(3, num_envs, device=device)
        self._moves = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self.rows = torch.zeros(10, num_envs, device=device)
        self._path = Waypoints(options.waypoints, options.speed) if options.kind == "waypoints" else None
        self._random = options.kind in ("langevin", "mixed")

    @property
    def target(self) -> Target:
        """The set-points now, views of `rows`."""
        return Target(self.rows[0:3], self.rows[3:6], self.rows[6:9], self.rows[9])

    def reset(self, env_ids: Tensor) -> None:
        """Start the reference of some environments anew, at time 0."""
        if self._random:
            g, n = self._generator, len(env_ids)
            self._push[:, env_ids] = 0.0
            self.rows[:, env_ids] = 0.0
            moves = torch.rand(n, generator=g, device=g.device) < 0.5
            self._moves[env_ids] = moves | (self._options.kind == "langevin")
        else:
            zeros = torch.zeros(len(env_ids), device=self.rows.device)
            self.rows[:, env_ids] = _stacked(self._analytic(zeros))

    def advance(self, time: Tensor) -> None:
        """Move on by one control step; `time` (N,) is each environment's new time in s."""
        if not self._random:
            if self._options.kind != "hold":
                self.rows = _stacked(self._analytic(time))
            return
        o, dt, g = self._options, self._dt, self._generator
        draw = torch.randn(self._push.shape, generator=g, device=g.device)
        pull = (2 * dt) ** 0.5 * o.sigma / o.filter
        self._push = self._moves * (self._push * (1 - dt / o.filter) + pull * draw)
        pos, vel = self.rows[0:3], self.rows[3:6]
        acc = self._push - o.gamma * vel - o.omega**2 * pos
        moved = vel + dt * acc
        self.rows = torch.cat([pos + dt * moved, moved, acc, self.rows[9:10]])

    def _analytic(self, time: Tensor) -> Target:
        o = self._options
        if self._path is not None:
            return self._path.sample(torch, time)
        if o.kind == "figure-eight":
            return figure_eight(torch, time, o.period, o.size, o.ramp)
        if o.kind == "step":
            return step_reference(torch, time, o.step_size, o.step_time)
        zero = torch.zeros(3, len(time), device=time.device)
        return Target(zero, zero, zero, zero[0])

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows.clone(), "push": self._push.clone(), "moves": self._moves.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = self.rows.device
        self.rows, self._push = state["rows"].to(device).clone(), state["push"].to(device).clone()
        self._moves = state["moves"].to(device).clone()


def _stacked(target: Target) -> Tensor:
    return torch.cat([target.pos, target.vel, target.acc, target.yaw[None]])
