"""What is deployed of a refinement: the correction, and the base that it belongs to."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from robot_rl.policies.residual.base import FrozenBase

SMALLEST_REACH = 0.05
"""Of the action range: the half-width that an action gets at least, which the demonstrations hold (nearly) constant."""


class ResidualActor(nn.Module):
    """(observation (N, n), base's action (N, A)) → the action (N, A) to execute; a frozen copy in evaluation mode.

    base + scale · reach · tanh(f(normalised observation, base)), limited as `limited` says.

    Attributes:
        tolerance: that of the base, which everything else builds on.
        base: the policy whose actions these are. source: which of what it gives is its action, see `Proposer.source`.
    """

    middle: Tensor
    reach: Tensor

    def __init__(
        self, network: nn.Module, normalizer: nn.Module | None, base: FrozenBase, source: str, middle: Tensor,
        reach: Tensor, scale: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.base, self.source, self.scale = base, source, scale
        self.tolerance = base.tolerance
        self.normalizer = copy.deepcopy(normalizer) if normalizer is not None else nn.Identity()
        self.network = copy.deepcopy(network)
        self.register_buffer("middle", middle.clone())
        self.register_buffer("reach", reach.clone())
        self.requires_grad_(False).eval()

    def forward(self, obs: Tensor, base: Tensor) -> Tensor:
        correction = torch.tanh(self.network(torch.cat((self.normalizer(obs), base), 1)))
        return limited(base, self.scale * self.reach * correction, self.middle, (1.0 + self.scale) * self.reach)


def limited(base: Tensor, change: Tensor, middle: Tensor, room: Tensor) -> Tensor:
    """base + change, (N, A), in [−1, 1], no farther out of middle ± room (A,) than the base is by itself.

    So a change leads nowhere that was not demonstrated, and no change is the base, wherever that goes.
    """
    low, high = torch.minimum(middle - room, base), torch.maximum(middle + room, base)
    return torch.clamp(torch.minimum(torch.maximum(base + change, low), high), -1.0, 1.0)


def demonstrated(actions: Tensor) -> tuple[Tensor, Tensor]:
    """Middle and half-width (A,) of the range of demonstrated actions (B, A)."""
    low, high = actions.aminmax(dim=0)
    return 0.5 * (low + high).cpu(), (0.5 * (high - low)).clamp(SMALLEST_REACH, 1.0).cpu()
