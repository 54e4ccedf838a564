"""The shapes of networks as data, so that an actor and an ensemble of critics can be built from the same description.

Sources: Lee et al., SimBa: Simplicity Bias for Scaling Up Parameters in Deep Reinforcement Learning (2024), figure 4;
Nauman et al., Bigger, Regularized, Optimistic (2024), figure 3. Both start from other weights (orthogonal, He); here
all are uniform in ±1/√in.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from robot_rl.errors import ConfigError
from robot_rl.policies.networks import activation

NETWORKS = ("mlp", "simba", "bro")
EXPANSION = 4
"""Width inside a block of SimBa, relative to the one between blocks."""


class Dense(NamedTuple):
    """x·W + b."""

    fan_in: int
    fan_out: int


class Norm(NamedTuple):
    """LayerNorm with scale and shift."""

    width: int


class Hidden(NamedTuple):
    """The activation."""


class Residual(NamedTuple):
    """x + inside(x)."""

    inside: tuple[Part, ...]


Part = Dense | Norm | Hidden | Residual


def architecture(kind: str, sizes: Sequence[int], layer_norm: bool) -> tuple[Part, ...]:
    """The parts of a network in their order; the last is the linear output.

    Args:
        kind: mlp: layers; simba: residual blocks with LayerNorm before them, and one at the end; bro: residual blocks
            with two LayerNorms each.
        sizes: input, hidden …, outputs. Of simba and bro the hidden ones are one block each, all of one width.
        layer_norm: of mlp, before each activation; the others have theirs anyway.

    Raises:
        ConfigError: blocks of different widths.
    """
    if kind == "mlp":
        parts: list[Part] = []
        for dense in map(Dense._make, pairwise(sizes[:-1])):
            parts += [dense, *([Norm(dense.fan_out)] if layer_norm else []), Hidden()]
        return (*parts, Dense(*sizes[-2:]))
    width, blocks = sizes[1], len(sizes) - 2
    if set(sizes[1:-1]) != {width}:
        raise ConfigError(f"blocks of a {kind} network have one width, got {list(sizes[1:-1])}; repeat the first")
    if kind == "simba":
        wide = EXPANSION * width
        block = Residual((Norm(width), Dense(width, wide), Hidden(), Dense(wide, width)))
        return (Dense(sizes[0], width), *[block] * blocks, Norm(width), Dense(width, sizes[-1]))
    block = Residual((Dense(width, width), Norm(width), Hidden(), Dense(width, width), Norm(width)))
    return (Dense(sizes[0], width), Norm(width), Hidden(), *[block] * blocks, Dense(width, sizes[-1]))


class ResidualBlock(nn.Module):
    """x + inside(x)."""

    def __init__(self, inside: nn.Sequential) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.inside(x)
        return out


def sequential(parts: Sequence[Part], hidden: str) -> nn.Sequential:
    """One network of these parts, with torch's initial weights."""
    layers: list[nn.Module] = []
    for part in parts:
        if isinstance(part, Dense):
            layers.append(nn.Linear(part.fan_in, part.fan_out))
        elif isinstance(part, Norm):
            layers.append(nn.LayerNorm(part.width))
        elif isinstance(part, Hidden):
            layers.append(activation(hidden))
        else:
            layers.append(ResidualBlock(sequential(part.inside, hidden)))
    return nn.Sequential(*layers)
