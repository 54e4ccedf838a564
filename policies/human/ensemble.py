"""Several clones of the same demonstrations: their mean acts, and where they differ nobody has shown what to do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ClonedEnsemble(nn.Module):
    """K planners of one action; called like `Planner`: features (N, F) → their mean (N, A)."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def head(self) -> nn.Module:
        """The first member's, for what all have in common."""
        return self.members[0].head  # type: ignore[return-value]

    def forward(self, features: Tensor, number: Tensor | None = None) -> Tensor:
        del number  # nothing is sampled
        return self.answers(features).mean(0)

    def answers(self, features: Tensor) -> Tensor:
        """(K, N, A) in [−1, 1]."""
        return torch.stack([member(features) for member in self.members]).clamp(-1.0, 1.0)

    def judged(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean action (N, A), and novelty (N,): the members' variance, averaged over the entries of the action."""
        answers = self.answers(features)
        return answers.mean(0), answers.var(0).mean(1)
