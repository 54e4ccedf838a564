"""A perceptron that plans the whole chunk at once; where the demonstrations differ, it takes the middle."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robot_rl.policies.imitation.config import BcConfig
from robot_rl.policies.imitation.head import CLONE_TOLERANCE, mean_within
from robot_rl.policies.off_policy.actors import actor_network


class MlpHead(nn.Module):
    """See `ChunkHead`.

    Args:
        network: features (N, F) → (N, H·A). horizon, action_dim: H, A. squared: the loss, else absolute error.
    """

    noise, tolerance = None, CLONE_TOLERANCE

    def __init__(self, network: nn.Module, horizon: int, action_dim: int, squared: bool) -> None:
        super().__init__()
        self.network, self.horizon, self.action_dim, self.squared = network, horizon, action_dim, squared

    def loss(self, features: Tensor, chunk: Tensor, within: Tensor, generator: torch.Generator) -> Tensor:
        """Mean error per planned action."""
        del generator  # Nothing is drawn.
        error = self.plan(features) - chunk
        return mean_within(error.square() if self.squared else error.abs(), within)

    def plan(self, features: Tensor, start: Tensor | None = None) -> Tensor:
        """(N, H, A)."""
        del start  # It does not sample.
        return self.network(features).unflatten(1, (self.horizon, self.action_dim))


def make(config: BcConfig, features: int, action_dim: int, generator: torch.Generator) -> MlpHead:
    """As the settings say."""
    sizes = (features, *config.hidden, config.horizon * action_dim)
    network = actor_network(sizes, config.activation, config.layer_norm, 0.1, generator)
    return MlpHead(network, config.horizon, action_dim, config.loss == "l2")
