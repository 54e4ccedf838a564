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

PLAN, LEFT = "plan", "plan_left"


class ChunkedActor(nn.Module):
    """obs (N, n) → the next of H planned actions (N, A); frozen, on the CPU.

    Without an ensemble `execute` actions of a plan are played before a new one is made: until then the policy does not
    look. With it a plan is made at every step, and what all plans said about a step is averaged with weights
    exp(−m·i), i = 0 for the oldest: m = 0 averages evenly, larger m trusts what was planned first.

    Args:
        network: normalised obs (N, n) → (N, H·A).
        normalizer: of the observation, or None.
        horizon: H. execute: 1 … H. ensemble: m, or None.

    Attributes:
        memory: rows of H·A (what remains of the plan, or weighted sums), and steps left or plans so far.
    """

    def __init__(
        self, network: nn.Module, normalizer: nn.Module | None, horizon: int, action_dim: int, execute: int,
        ensemble: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.normalizer = copy.deepcopy(normalizer) if normalizer is not None else nn.Identity()
        self.network = copy.deepcopy(network)
        self.horizon, self.action_dim, self.execute, self.ensemble = horizon, action_dim, execute, ensemble
        counters = 1 if ensemble is None else horizon
        self.memory = (
            Memory(PLAN, (horizon * action_dim,), (0.0,) * (horizon * action_dim)),
            Memory(LEFT, (counters,), (0.0,) * counters),
        )
        self.requires_grad_(False).eval()

    def forward(self, obs: Tensor, memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The action (N, A) in [−1, 1] and the following memory, name → (N, …)."""
        fresh = self.network(self.normalizer(obs)).clamp(-1.0, 1.0)
        if self.ensemble is None:
            return self._played(fresh, memory[PLAN], memory[LEFT])
        return self._averaged(fresh, memory[PLAN], memory[LEFT], self.ensemble)

    def _played(self, fresh: Tensor, plan: Tensor, left: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        new = left < 0.5
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
        action = (sums[:, :a] / total).clamp(-1.0, 1.0)
        nothing = torch.zeros_like(sums[:, :a])
        return action, {PLAN: torch.cat([sums[:, a:], nothing], 1), LEFT: torch.cat([plans[:, 1:], 0.0 * first], 1)}
