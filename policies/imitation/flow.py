"""Flow matching: the plan flows from noise along a learnt velocity, in a few Euler steps.

Lipman et al.: Flow Matching for Generative Modeling (2023); Liu et al.: Flow Straight and Fast (rectified flow, 2023);
Black et al.: π0 (2024), for chunks of robot actions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robot_rl.policies.imitation.config import BcConfig
from robot_rl.policies.imitation.denoiser import Denoiser
from robot_rl.policies.imitation.head import CLONE_TOLERANCE, StartingNoise, drawn, mean_within


class FlowHead(nn.Module):
    """See `ChunkHead`. Plans lie on straight lines x_t = (1 − t)·noise + t·plan, and v(x_t, t) is their direction.

    Args:
        network: the velocity. horizon, action_dim: H, A. steps: Euler steps. noise: where plans start.
    """

    tolerance = CLONE_TOLERANCE

    def __init__(self, network: Denoiser, horizon: int, action_dim: int, steps: int, noise: StartingNoise) -> None:
        super().__init__()
        self.network, self.horizon, self.action_dim, self.steps = network, horizon, action_dim, steps
        self.noise = noise

    def loss(self, features: Tensor, chunk: Tensor, within: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity at a random point of a random line; t is uniform in [0, 1]."""
        plan = chunk.flatten(1)
        noise = drawn(tuple(plan.shape), plan, generator)
        t = torch.rand(len(plan), generator=generator).to(plan)
        x = torch.lerp(noise, plan, t[:, None])
        error = self.network(x, t, self.network.condition(features)) - (plan - noise)
        return mean_within(error.square().view_as(chunk), within)

    def plan(self, features: Tensor, start: Tensor | None = None) -> Tensor:
        """(N, H, A) after `steps` Euler steps from `start` (N, H·A)."""
        x = self.noise(features, None) if start is None else start
        condition = self.network.condition(features)
        for k in range(self.steps):
            t = features.new_full((1,), k / self.steps)
            x = x + self.network(x, t, condition) / self.steps
        return x.unflatten(1, (self.horizon, self.action_dim))


def make(config: BcConfig, features: int, action_dim: int, generator: torch.Generator) -> FlowHead:
    """As the settings say."""
    size = config.horizon * action_dim
    noise = StartingNoise(config.noise_rows, size, generator)
    network = Denoiser(features, size, config.width, config.blocks)
    return FlowHead(network, config.horizon, action_dim, config.sampling_steps, noise)
