"""Policies that plan several actions ahead: how a chunk is played out, as part of the exported file.

Zhao et al.: Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware (2023), for action chunks and their
temporal ensemble.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from robot_rl.contract import Memory
from robot_rl.errors import ConfigError

PLAN, LEFT, NUMBER = "plan", "plan_left", "plan_number"


class Playback:
    """From plans of H actions to the next action, as a pure function of what is remembered.

    Without an ensemble `execute` actions of a plan are played before a new one is made: until then the policy does not
    look. With it a plan is made at every step, and what all plans said about a step is averaged with weights
    exp(−m·i), i = 0 for the oldest: m = 0 averages evenly, larger m trusts what was planned first.

    Args:
        horizon: H. action_dim: A. execute: 1 … H. ensemble: m, or None.

    Attributes:
        memory: rows of H·A (what remains of the plan, or weighted sums), and steps left or plans so far.
    """

    def __init__(self, horizon: int, action_dim: int, execute: int, ensemble: float | None = None) -> None:
        if not 1 <= execute <= horizon:
            raise ConfigError(f"execute = {execute}; of a plan of {horizon} actions 1 to {horizon} can be played")
        if ensemble is not None and not 0.0 <= ensemble <= 100.0:
            raise ConfigError(f"ensemble = {ensemble:g}; it must be from 0 to 100, or None")
        self.horizon, self.action_dim, self.execute, self.ensemble = horizon, action_dim, execute, ensemble
        counters = 1 if ensemble is None else horizon
        self.memory = (
            Memory(PLAN, (horizon * action_dim,), (0.0,) * (horizon * action_dim)),
            Memory(LEFT, (counters,), (0.0,) * counters),
        )

    def due(self, memory: dict[str, Tensor]) -> Tensor:
        """(N, 1) bool: who needs a new plan at this step; what the others plan is not looked at."""
        left = memory[LEFT][:, :1]
        return left < 0.5 if self.ensemble is None else torch.ones_like(left, dtype=torch.bool)

    def step(self, fresh: Tensor, memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """New plans (N, H·A) and the memory → the action (N, A) and the following memory, name → (N, …)."""
        if self.ensemble is None:
            return self._played(fresh, self.due(memory), memory[PLAN], memory[LEFT])
        return self._averaged(fresh, memory[PLAN], memory[LEFT], self.ensemble)

    def _played(self, fresh: Tensor, new: Tensor, plan: Tensor, left: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        plan = torch.where(new, fresh, plan)
        left = torch.where(new, torch.full_like(left, float(self.execute)), left) - 1.0
        a = self.action_dim
        return plan[:, :a], {PLAN: torch.cat([plan[:, a:], plan[:, :a]], 1), LEFT: left}

    def _averaged(self, fresh: Tensor, sums: Tensor, plans: Tensor, m: float) -> tuple[Tensor, dict[str, Tensor]]:
        """`plans` (N, H): how many plans have spoken about the coming steps; their weights add up in closed form."""
        a = self.action_dim
        weight = torch.exp(-m * plans)
        sums = sums + weight.repeat_interleave(a, dim=1) * fresh
        plans = plans + 1.0
        first = plans[:, :1]
        total = first if m == 0.0 else (1.0 - torch.exp(-m * first)) / (1.0 - math.exp(-m))
        action = sums[:, :a] / total
        nothing = torch.zeros_like(sums[:, :a])
        return action, {PLAN: torch.cat([sums[:, a:], nothing], 1), LEFT: torch.cat([plans[:, 1:], 0.0 * first], 1)}


class ChunkedActor(nn.Module):
    """obs (N, n) → the next of H planned actions (N, A) in [−1, 1]; frozen, on the CPU. See `Playback`.

    Args:
        network: normalised obs (N, n) → (N, H·A).
        normalizer: of the observation, or None.
        horizon: H. execute: 1 … H. ensemble: m, or None.
        numbered: above 0 the network is called as network(obs, number), (N, 1): which plan since the reset this is,
            from 0 to `numbered` − 1 and then again; one more memory counts. See `imitation.head.StartingNoise`.

    Attributes:
        memory: what `Playback` remembers, and the number of the next plan.
    """

    def __init__(
        self, network: nn.Module, normalizer: nn.Module | None, horizon: int, action_dim: int, execute: int,
        ensemble: float | None = None, numbered: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.normalizer = copy.deepcopy(normalizer) if normalizer is not None else nn.Identity()
        self.network = copy.deepcopy(network)
        self.playback, self.numbered = Playback(horizon, action_dim, execute, ensemble), numbered
        self.memory = (*self.playback.memory, *([Memory(NUMBER, (1,), (0.0,))] if numbered else []))
        self.requires_grad_(False).eval()

    def forward(self, obs: Tensor, memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The action (N, A) in [−1, 1] and the following memory, name → (N, …)."""
        seen = self.normalizer(obs)
        number = memory[NUMBER] if self.numbered else None
        fresh = self.network(seen) if number is None else self.network(seen, number)
        action, following = self.playback.step(fresh.clamp(-1.0, 1.0), memory)
        if number is not None:
            next_one = torch.where(number + 1.5 > self.numbered, torch.zeros_like(number), number + 1.0)
            following[NUMBER] = torch.where(self.playback.due(memory), next_one, number)
        return action.clamp(-1.0, 1.0), following
