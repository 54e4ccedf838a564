"""ACT: a transformer that turns tokens of the observation and one query per planned action into the chunk.

Zhao et al.: Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware (2023).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_rl.policies.imitation.config import BcConfig
from robot_rl.policies.imitation.head import CLONE_TOLERANCE, drawn, mean_within

TOKENS = 4
"""Tokens that the features become; the latent style is one more."""


class ActHead(nn.Module):
    """See `ChunkHead`.

    In training a second encoder sees the chunk that was done and describes its style by a latent z, kept near N(0, 1)
    by the KL divergence; acting, z is 0. So what differs between demonstrations need not be averaged while learning,
    but one plan stays one plan: ACT does not sample.

    Deviations from the paper: layers are normalised before attention, not after; one learnt projection makes the tokens
    of all features; sizes are those of a CPU.

    Args:
        features, horizon, action_dim: F, H, A. width: of a token. heads, layers: of encoder and decoder each.
        latent: size of z. kl_weight: of the divergence, summed over z; 0: no second encoder and no z.
        squared: the loss, else absolute error.
    """

    noise, tolerance = None, CLONE_TOLERANCE

    def __init__(
        self, features: int, horizon: int, action_dim: int, width: int, heads: int, layers: int, latent: int,
        kl_weight: float, squared: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.horizon, self.action_dim, self.kl_weight, self.squared = horizon, action_dim, kl_weight, squared
        self.latent = latent
        self.tokens = nn.Linear(features, TOKENS * width)
        self.of_latent = nn.Linear(latent, width) if kl_weight > 0 else None
        self.place = nn.Parameter(0.02 * torch.randn(TOKENS + (kl_weight > 0), width))
        self.encoder = nn.ModuleList(Layer(width, heads, crossed=False) for _ in range(layers))
        self.seen = nn.LayerNorm(width)
        self.queries = nn.Parameter(0.02 * torch.randn(horizon, width))
        self.decoder = nn.ModuleList(Layer(width, heads, crossed=True) for _ in range(layers))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, action_dim))
        self.style = Style(features, horizon, action_dim, width, heads, latent) if kl_weight > 0 else None

    def loss(self, features: Tensor, chunk: Tensor, within: Tensor, generator: torch.Generator) -> Tensor:
        """Error per planned action, and the weighted KL divergence of the style."""
        z, divergence = None, torch.zeros((), device=features.device)
        if self.style is not None:
            mean, log_var = self.style(features, chunk, within)
            z = mean + torch.exp(0.5 * log_var) * drawn(tuple(mean.shape), mean, generator)
            divergence = 0.5 * (mean.square() + log_var.exp() - 1.0 - log_var).sum(1).mean()
        error = self._decoded(features, z) - chunk
        size = error.square() if self.squared else error.abs()
        return mean_within(size, within) + self.kl_weight * divergence

    def plan(self, features: Tensor, start: Tensor | None = None) -> Tensor:
        """(N, H, A) with the style 0, the middle of what was learnt."""
        del start  # It does not sample.
        z = None if self.of_latent is None else torch.zeros_like(features[:, :1]).expand(-1, self.latent)
        return self._decoded(features, z)

    def _decoded(self, features: Tensor, z: Tensor | None) -> Tensor:
        x = self.tokens(features).unflatten(1, (TOKENS, -1))
        if self.of_latent is not None and z is not None:
            x = torch.cat([self.of_latent(z)[:, None], x], 1)
        x = x + self.place
        for layer in self.encoder:
            x = layer(x)
        x = self.seen(x)
        plan = self.queries.expand(features.shape[0], -1, -1)
        for layer in self.decoder:
            plan = layer(plan, x)
        return self.out(plan)


class Style(nn.Module):
    """Features (B, F) and the chunk that was done (B, H, A) → mean and log variance of z, (B, latent) each."""

    def __init__(self, features: int, horizon: int, action_dim: int, width: int, heads: int, latent: int) -> None:
        super().__init__()
        self.of_features, self.of_action = nn.Linear(features, width), nn.Linear(action_dim, width)
        self.place = nn.Parameter(0.02 * torch.randn(horizon + 2, width))
        self.summary = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.layer = Layer(width, heads, crossed=False)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * latent))

    def forward(self, features: Tensor, chunk: Tensor, within: Tensor) -> tuple[Tensor, Tensor]:
        """`within` (B, H) bool: actions behind the episode's end are not looked at."""
        first = torch.cat([self.summary.expand(chunk.shape[0], -1, -1), self.of_features(features)[:, None]], 1)
        x = torch.cat([first, self.of_action(chunk)], 1) + self.place
        visible = torch.cat([torch.ones_like(within[:, :1]).expand(-1, 2), within], 1)
        mean, log_var = self.out(self.layer(x, visible=visible)[:, 0]).chunk(2, -1)
        return mean, log_var.clamp(-10.0, 10.0)


class Layer(nn.Module):
    """Attention among x (N, T, D), with `crossed` then to what was seen (N, S, D), then a perceptron."""

    def __init__(self, width: int, heads: int, crossed: bool) -> None:
        super().__init__()
        self.own = Attention(width, heads)
        self.other = Attention(width, heads) if crossed else None
        count = 3 if crossed else 2
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(count))
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, seen: Tensor | None = None, visible: Tensor | None = None) -> Tensor:
        """`visible` (N, T) bool: what of x may be attended to; None: all."""
        h = self.norms[0](x)
        x = x + self.own(h, h, visible)
        if self.other is not None and seen is not None:
            x = x + self.other(self.norms[1](x), seen)
        return x + self.outer(F.relu(self.inner(self.norms[-1](x))))


class Attention(nn.Module):
    """Multi-head attention of x (N, T, D) to y (N, S, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.pair, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, y: Tensor, visible: Tensor | None = None) -> Tensor:
        """`visible` (N, S) bool: what of y may be attended to; None: all."""
        q, (k, v) = self._split(self.query(x)), (self._split(part) for part in self.pair(y).chunk(2, -1))
        mask = None if visible is None else visible[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def make(config: BcConfig, features: int, action_dim: int, generator: torch.Generator) -> ActHead:
    """As the settings say."""
    del generator  # Weights come from the global one, which is seeded alike.
    return ActHead(
        features, config.horizon, action_dim, config.token, config.attention_heads, config.layers, config.latent,
        config.kl_weight, config.loss == "l2",
    )  # fmt: skip
