"""How likely the policy is to succeed from here: critics of success, learnt from all that was seen."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from robot_rl.policies.networks import FlatParameters
from robot_rl.policies.normalizer import RunningNormalizer
from robot_rl.policies.off_policy.ensemble import CriticEnsemble

HEADS = 2


class SuccessCritic:
    """Q(s, a) in (0, 1): the smaller of two heads, with success as the only reward, which ends the episode.

    Hoque et al., ThriftyDAgger (2021). An end by failure is worth 0; a time-out too, for the episode did not succeed.

    Args:
        obs_dim, action_dim: sizes. learning_rate, gamma, polyak: as everywhere. seed: of the weights.
    """

    def __init__(
        self, obs_dim: int, action_dim: int, learning_rate: float, gamma: float, polyak: float, seed: int
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.gamma, self.polyak = gamma, polyak
        self.norm = RunningNormalizer(obs_dim, eps=1e-2)
        self.q = CriticEnsemble(HEADS, (obs_dim + action_dim, 128, 128, 1), "relu", True, generator)
        self.target = copy.deepcopy(self.q).requires_grad_(False)
        self.flat, self.flat_target = FlatParameters(self.q), FlatParameters(self.target)
        self.optimizer = torch.optim.Adam([self.flat.vector], lr=learning_rate)

    @torch.no_grad()
    def value(self, obs: Tensor, action: Tensor) -> Tensor:
        """(N,) for observations (N, n) and actions (N, A)."""
        return self._logits(self.q, obs, action).sigmoid().amin(0)

    def update(
        self, obs: Tensor, action: Tensor, success: Tensor, going: Tensor, after: Tensor, following: Tensor
    ) -> Tensor:
        """One step on transitions (B, …); `success`, `going`: 1 where it ended so, and where it went on. The loss."""
        with torch.no_grad():
            later = self._logits(self.target, after, following).sigmoid().amin(0)
            wanted = success + going * self.gamma * later
        logits = self._logits(self.q, obs, action)
        loss = F.binary_cross_entropy_with_logits(logits, wanted.expand_as(logits))
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        self.optimizer.step()
        self.flat_target.average_towards(self.flat, self.polyak)
        return loss.detach()

    def _logits(self, network: CriticEnsemble, obs: Tensor, action: Tensor) -> Tensor:
        return network(torch.cat((self.norm(obs), action), 1))[:, :, 0]

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).state_dict() for name in ("norm", "q", "target", "optimizer")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("norm", "q", "target", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
