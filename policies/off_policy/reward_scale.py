"""A factor on rewards that makes returns fit the support of a distributional critic, whatever the task's units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

HEADROOM = 0.8
"""Share of the support that the largest return seen may fill; returns grow while the policy improves."""


class RewardScale:
    """headroom · bound / max |G|, where G ← γ·G + r runs along each environment and restarts only on termination.

    It does not restart on time-outs: values there are bootstrapped, so they belong to an endless episode.
    (After the reward scaling of Lee et al., SimbaV2, 2025, without its variance term.)

    Args:
        num_envs: N.
        gamma: discount γ.
        bound: |return| that the critic can represent.
        fixed: use this factor instead; 0: automatic.
        device: of the rewards.
    """

    def __init__(self, num_envs: int, gamma: float, bound: float, fixed: float, device: torch.device) -> None:
        self.gamma, self.bound, self.fixed = gamma, bound, fixed
        self.running = torch.zeros(num_envs, device=device)
        self.largest = torch.zeros((), device=device)

    @property
    def factor(self) -> Tensor:
        """The factor as a scalar tensor."""
        if self.fixed > 0.0:
            return torch.full_like(self.largest, self.fixed)
        return HEADROOM * self.bound / self.largest.clamp_min(1e-8)

    def update(self, reward: Tensor, terminated: Tensor) -> None:
        """One step of every environment: reward, terminated (N,)."""
        self.running.mul_(self.gamma).add_(reward)
        self.largest = torch.maximum(self.largest, self.running.abs().amax())
        self.running.masked_fill_(terminated, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Running returns and the largest."""
        return {"running": self.running.clone(), "largest": self.largest.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what state_dict gave."""
        self.running.copy_(state["running"])
        self.largest = state["largest"].to(self.running.device)
