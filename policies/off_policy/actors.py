"""Actors' networks, per-environment exploration and the squashed Gaussian."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from robot_rl.policies.networks import uniform_fan_in_init
from robot_rl.policies.off_policy.architecture import architecture, sequential


def actor_network(
    sizes: Sequence[int], hidden: str, layer_norm: bool, init_scale: float, generator: torch.Generator,
    kind: str = "mlp",
) -> nn.Sequential:  # fmt: skip
    """A network of that `architecture`; uniform ±1/√in, the last layer multiplied by init_scale."""
    network = sequential(architecture(kind, sizes, layer_norm), hidden)
    uniform_fan_in_init(network, generator)
    with torch.no_grad():
        for parameter in network[-1].parameters():
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
    return _SquashedGaussian.apply(outputs.float(), noise, *log_std)  # type: ignore[no-any-return]


class _SquashedGaussian(torch.autograd.Function):
    """With its derivative by hand, a third of autograd's operations: d log(1 − tanh²u)/du = −2 tanh u."""

    @staticmethod
    def forward(ctx: FunctionCtx, outputs: Tensor, noise: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
        mean, raw = outputs.chunk(2, -1)
        share, half = torch.tanh(raw), 0.5 * (high - low)
        log_sigma = (share + 1.0).mul_(half).add_(low)
        spread = log_sigma.exp().mul_(noise)
        u = mean + spread
        action = torch.tanh(u)
        # −½ε² − log σ − ½ log 2π − 2 (log 2 − u − softplus(−2u))
        density = F.softplus(-2.0 * u).add_(u).mul_(2.0).sub_(log_sigma).addcmul_(noise, noise, value=-0.5)
        ctx.save_for_backward(share, spread, action)
        ctx.half = half  # type: ignore[attr-defined]
        constant = 0.5 * math.log(2.0 * math.pi) + 2.0 * math.log(2.0)
        return action, density.sum(-1).sub_(constant * noise.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        share, spread, action = ctx.saved_tensors  # type: ignore[attr-defined]
        of_action, of_density = grads[0], grads[1][:, None]
        of_mean = torch.addcmul(of_action, of_action, action.square(), value=-1.0)  # through tanh
        of_mean.addcmul_(action, of_density, value=2.0)
        of_log_sigma = (of_mean * spread).sub_(of_density)
        of_raw = torch.addcmul(of_log_sigma, of_log_sigma, share.square(), value=-1.0)
        return torch.cat((of_mean, of_raw.mul_(ctx.half)), 1), None, None, None  # type: ignore[attr-defined]
