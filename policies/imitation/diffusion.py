"""Diffusion: the plan is freed of noise in a few large steps of a process that is learnt in many small ones.

Ho et al.: Denoising Diffusion Probabilistic Models (2020), for training; Nichol, Dhariwal: Improved Denoising Diffusion
Probabilistic Models (2021), for the schedule; Song et al.: Denoising Diffusion Implicit Models (2021), for sampling;
Chi et al.: Diffusion Policy (2023), for chunks of robot actions.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from robot_rl.policies.imitation.config import BcConfig
from robot_rl.policies.imitation.denoiser import Denoiser
from robot_rl.policies.imitation.head import CLONE_TOLERANCE, StartingNoise, drawn, mean_within


class DiffusionHead(nn.Module):
    """See `ChunkHead`. Noise levels 0 … T − 1: x_t = √ᾱ_t·plan + √(1 − ᾱ_t)·noise, ᾱ along a squared cosine.

    The network answers with the plan itself, not with the noise: the first step from pure noise would multiply an error
    of the noise by 1/√ᾱ, over a hundred, and two computers would no longer agree to the contract's tolerance.

    Args:
        network: the plan. horizon, action_dim: H, A. levels: T. steps: of DDIM. noise: where plans start.
    """

    tolerance = CLONE_TOLERANCE

    kept: Tensor

    def __init__(
        self, network: Denoiser, horizon: int, action_dim: int, levels: int, steps: int, noise: StartingNoise
    ) -> None:
        super().__init__()
        self.network, self.horizon, self.action_dim, self.levels = network, horizon, action_dim, levels
        self.noise = noise
        self.register_buffer("kept", squared_cosine(levels), persistent=False)
        self.shares: list[float] = self.kept.tolist()
        visited = torch.linspace(levels - 1, 0, min(steps, levels)).round().long().tolist()
        self.visited: list[int] = visited

    def loss(self, features: Tensor, chunk: Tensor, within: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the plan at a random noise level."""
        plan = chunk.flatten(1)
        noise = drawn(tuple(plan.shape), plan, generator)
        t = torch.randint(self.levels, (len(plan),), generator=generator).to(plan.device)
        kept = self.kept[t][:, None]
        x = kept.sqrt() * plan + (1.0 - kept).sqrt() * noise
        answer = self.network(x, t / self.levels, self.network.condition(features))
        return mean_within((answer - plan).square().view_as(chunk), within)

    def plan(self, features: Tensor, start: Tensor | None = None) -> Tensor:
        """(N, H, A) by DDIM without noise from `start` (N, H·A)."""
        x = self.noise(features, None) if start is None else start
        condition = self.network.condition(features)
        for now, following in pairwise(self.visited):
            plan, kept, next_kept = self._clean(x, now, condition), self.shares[now], self.shares[following]
            noise = (x - math.sqrt(kept) * plan) / math.sqrt(1.0 - kept)
            x = math.sqrt(next_kept) * plan + math.sqrt(1.0 - next_kept) * noise
        return self._clean(x, self.visited[-1], condition).unflatten(1, (self.horizon, self.action_dim))

    def _clean(self, x: Tensor, level: int, condition: Tensor) -> Tensor:
        """What the network takes the plan to be, (N, H·A) in [−1, 1]."""
        return self.network(x, x.new_full((1,), level / self.levels), condition).clamp(-1.0, 1.0)


def squared_cosine(levels: int) -> Tensor:
    """ᾱ (levels,): the share of the plan's variance that is kept, from nearly 1 to nearly 0 (Eq. 17, Nichol 2021)."""
    angle = (torch.arange(levels + 1, dtype=torch.float64) / levels + 0.008) / 1.008 * (0.5 * math.pi)
    bar = angle.cos().square()
    step = (bar[1:] / bar[:-1]).clamp(min=1e-3)  # 1 − β with β ≤ 0.999
    return step.cumprod(0).float()


def make(config: BcConfig, features: int, action_dim: int, generator: torch.Generator) -> DiffusionHead:
    """As the settings say."""
    size = config.horizon * action_dim
    noise = StartingNoise(config.noise_rows, size, generator)
    network = Denoiser(features, size, config.width, config.blocks)
    return DiffusionHead(network, config.horizon, action_dim, config.diffusion_levels, config.sampling_steps, noise)
