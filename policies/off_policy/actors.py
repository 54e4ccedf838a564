"""Actors' networks, per-environment exploration and the squashed Gaussian."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_rl.policies.networks import activation, uniform_fan_in_init


def actor_network(
    sizes: Sequence[int], hidden: str, layer_norm: bool, init_scale: float, generator: torch.Generator
) -> nn.Sequential:
    """Linear, (LayerNorm,) hidden, …, Linear; uniform ±1/√in, the last layer multiplied by init_scale."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(fan_in, fan_out))
        if i < len(sizes) - 2:
            layers += [*([nn.LayerNorm(fan_out)] if layer_norm else []), activation(hidden)]
    network = nn.Sequential(*layers)
    uniform_fan_in_init(network, generator)
    with torch.no_grad():
        for parameter in layers[-1].parameters():
            parameter.mul_(init_scale)
    return network


def first_outputs(network: nn.Sequential, count: int) -> nn.Sequential:
    """A copy that gives only the first `count` outputs, through tanh: what is deployed."""
    body = copy.deepcopy(network)
    last = body[-1]
    assert isinstance(last, nn.Linear)
    short = nn.Linear(last.in_features, count)
    short.load_state_dict({"weight": last.weight.detach()[:count], "bias": last.bias.detach()[:count]})
    return nn.Sequential(*list(body)[:-1], short.to(last.weight.device), nn.Tanh())


class ExplorationNoise:
    """Gaussian noise with a standard deviation per environment, uniform in [low, high], drawn anew with each episode.

    Calm and bold environments beside each other cover what one level for all would not (FastTD3).
    """

    def __init__(self, num_envs: int, low: float, high: float, generator: torch.Generator) -> None:
        self.low, self.high, self.generator = low, high, generator
        self.sigma = self._draw(num_envs)

    def sample(self, action_dim: int) -> Tensor:
        """Noise (N, a)."""
        size = (len(self.sigma), action_dim)
        return self.sigma * torch.randn(size, generator=self.generator, device=self.generator.device)

    def renew(self, done: Tensor) -> None:
        """Draw anew where an episode ended, (N,) bool."""
        self.sigma = torch.where(done[:, None], self._draw(len(done)), self.sigma)

    def _draw(self, num_envs: int) -> Tensor:
        draw = torch.rand(num_envs, 1, generator=self.generator, device=self.generator.device)
        return self.low + (self.high - self.low) * draw


def squashed_gaussian(outputs: Tensor, noise: Tensor, log_std: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """tanh(μ + σ·noise) and the logarithm of its density.

    Args:
        outputs: (B, 2a), μ and what becomes log σ (through tanh, into the interval `log_std`).
        noise: (B, a) standard normal.

    Returns:
        action (B, a) in (−1, 1) and log-density (B,); log(1 − tanh²u) = 2 (log 2 − u − softplus(−2u)).
    """
    mean, raw = outputs.float().chunk(2, -1)
    low, high = log_std
    log_sigma = low + 0.5 * (high - low) * (torch.tanh(raw) + 1.0)
    u = mean + log_sigma.exp() * noise
    gaussian = -(0.5 * noise.square() + log_sigma + 0.5 * math.log(2.0 * math.pi))
    squash = 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))
    return torch.tanh(u), (gaussian - squash).sum(-1)
