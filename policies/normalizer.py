"""Running mean and variance of observations, kept inside the policy so that an exported graph takes raw values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robot_rl.policies.distributed import Ranks


class RunningNormalizer(nn.Module):
    """(x − mean) / sqrt(var + eps), clipped; statistics from all samples seen (Chan et al. 1979, parallel variance).

    Args:
        dim: size of the last dimension.
        clip: bound on the normalised values, so that one outlier on the robot cannot saturate the network.
        eps: added to the variance; a constant input gives 0, not a division by 0.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, dim: int, clip: float = 10.0, eps: float = 1e-4) -> None:
        super().__init__()
        self.clip, self.eps = clip, eps
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("var", torch.ones(dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (…, dim) with the statistics as they are; does not update them."""
        return ((x - self.mean) * torch.rsqrt(self.var + self.eps)).clamp(-self.clip, self.clip)

    @torch.no_grad()
    def update(self, x: Tensor, ranks: Ranks | None = None) -> None:
        """Take in samples x (…, dim), those of all processes that train together."""
        x = x.reshape(-1, x.shape[-1]).double()
        n, mean, var = (ranks or Ranks()).moments(x)
        total = self.count + n
        delta = mean - self.mean
        m2 = self.var * self.count + var * n + delta.square() * (self.count * n / total)
        self.mean += (delta * (n / total)).to(self.mean)
        self.var.copy_(m2 / total)
        self.count.copy_(total)
