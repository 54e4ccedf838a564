"""Shoves of the base: a horizontal force for a short while, at random times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from robot_rl.sim.articulated.jointed_robot import JointedRobot
from robot_rl.sim.articulated.options import Push

if TYPE_CHECKING:
    from robot_rl.sim.articulated.physics import Physics


class Pushes:
    """Times and forces of N robots; without a moving base, or with `every` = 0, nothing ever happens."""

    def __init__(
        self, options: Push, robot: JointedRobot, physics: Physics, control_dt: float, generator: torch.Generator
    ) -> None:
        self.options, self.physics, self.control_dt, self._generator = options, physics, control_dt, generator
        self.needed = options.every > 0 and bool(robot.base)
        n, device = physics.num_envs, physics.device
        self.wait = torch.zeros(n, device=device)  # s until the next push begins; negative while it lasts
        self.force = torch.zeros(n, 3, device=device)
        if robot.base:
            self.body = physics.model.body(robot.base).id
            self.mass = float(physics.model.body_subtreemass[self.body])

    def reset(self, ids: Tensor) -> None:
        """Draw the first push of new episodes."""
        if self.needed:
            self.force[ids] = 0.0
            self._draw(ids)

    def advance(self) -> None:
        """Once per control step, before the physics."""
        if not self.needed:
            return
        duration = max(self.options.duration, self.control_dt)
        self.wait -= self.control_dt
        over = self.wait <= -duration
        if over.any():
            self._draw(over.nonzero()[:, 0])
        active = (self.wait <= 0).to(self.force)[:, None]
        applied = self.force * active
        self.physics.apply(self.body, applied, torch.zeros_like(applied))

    def shove(self, velocity: Tensor) -> None:
        """Push every robot now, as if this velocity (N, 2) m/s, world, had been drawn; needs a moving base."""
        self.needed = True
        self.force[:, :2] = velocity * (self.mass / max(self.options.duration, self.control_dt))
        self.wait.fill_(self.control_dt)

    def _draw(self, ids: Tensor) -> None:
        low, high = self.options.speed
        draw = torch.rand(3, len(ids), generator=self._generator, device=self._generator.device)
        speed, angle = low + (high - low) * draw[0], 2 * math.pi * draw[1]
        newton = self.mass * speed / max(self.options.duration, self.control_dt)
        self.force[ids] = torch.stack([newton * torch.cos(angle), newton * torch.sin(angle), 0 * newton], dim=1)
        every = self.options.every if self.options.every > 0 else math.inf
        self.wait[ids] = every * (0.5 + draw[2])

    def state_dict(self) -> dict[str, Any]:
        return {"wait": self.wait.clone(), "force": self.force.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.wait.copy_(state["wait"])
        self.force.copy_(state["force"])
