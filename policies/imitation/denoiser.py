"""The network of flow and diffusion: from a noisy plan, its noise level and what is observed to a plan-sized answer.

Residual blocks whose scale and shift come from the condition: Perez et al.: FiLM (2018); Peebles, Xie: Scalable
Diffusion Models with Transformers (2023), for blocks that begin as the identity.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FREQUENCIES = 32


class Denoiser(nn.Module):
    """Noisy plan (N, P), level (N,), features (N, F) → (N, P).

    Args:
        features: F. size: P = H·A. width, blocks: of the residual network.
    """

    frequencies: Tensor

    def __init__(self, features: int, size: int, width: int, blocks: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.exp(torch.linspace(0.0, math.log(1000.0), FREQUENCIES)))
        self.of_level = nn.Linear(2 * FREQUENCIES, width)
        self.of_features = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))
        self.into = nn.Linear(size, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, size))
        nn.init.zeros_(self.out[1].weight)  # pyright: ignore[reportArgumentType]

    def condition(self, features: Tensor) -> Tensor:
        """What does not change from one sampling step to the next: features (N, F) → (N, width)."""
        return self.of_features(features)

    def forward(self, noisy: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """`level` (N,) in [0, 1], or (1,) for all; `condition` from the method of that name."""
        angle = level[:, None] * self.frequencies
        condition = F.silu(condition + self.of_level(torch.cat([angle.sin(), angle.cos()], 1)))
        x = self.into(noisy)
        for block in self.blocks:
            x = block(x, condition)
        return self.out(x)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 3 * width)
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift, gate = self.modulation(condition).chunk(3, -1)
        h = self.norm(x) * (1.0 + scale) + shift
        return x + gate * self.outer(F.silu(self.inner(h)))
