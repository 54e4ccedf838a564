"""What cloning asks of a head: a loss over chunks of actions to learn from, and a plan to act by."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from robot_rl.policies.imitation.config import BcConfig

HEADS = ("mlp", "act", "flow", "diffusion")
"""Each is the file of that name here and its function `make`."""

CLONE_TOLERANCE = 1e-5
"""Relative difference between computers that clones are exported with: roundings add up over attention layers and
sampling steps (2.2e-6 was seen with ACT), and a normaliser fitted to few demonstrations enlarges them (2.7e-6 with an
MLP), where `export.TOLERANCE` is 2e-6; of a joint's range it is 6e-5 rad."""


class StartingNoise(nn.Module):
    """The noise that a sampling head starts from, as a table in the file: nothing random is left when it runs.

    `number` counts the plans since the reset and picks the row, so an episode goes through the table in order; without
    it every plan starts from row 0. Either way the graph stays a pure function and golden vectors reproduce.

    One row is the default: it needs no memory, and was not worse by more than chance. The same flow head on panda-pick
    (20 demonstrations, 100 episodes) succeeded in 71 % [61.5, 79.0] with one row, 75 % [65.7, 82.5] with 64. What is
    given up is that a plan made again at the same place could go another way.

    Args:
        rows: of the table. size: H·A, numbers in a plan. generator: what the table is drawn from, N(0, 1).
    """

    table: Tensor

    def __init__(self, rows: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(rows, size, generator=generator))

    def forward(self, features: Tensor, number: Tensor | None) -> Tensor:
        """(N, H·A) for as many rows as `features` has; `number` (N, 1) in [0, rows), or None."""
        if number is None:
            return self.table[:1].expand(features.shape[0], -1)
        return self.table[number[:, 0].long()]


class ChunkHead(Protocol):
    """From features (N, F) of what is observed to H actions (N, H, A) in [−1, 1]; also an `nn.Module`.

    Attributes:
        horizon, action_dim: H, A.
        noise: where its plans start from; None for a head that does not sample.
        tolerance: what it is exported with, see `contract.Golden`.
    """

    tolerance: float
    horizon: int
    action_dim: int
    noise: StartingNoise | None

    def loss(self, features: Tensor, chunk: Tensor, within: Tensor, generator: torch.Generator) -> Tensor:
        """What training descends, a scalar.

        Args:
            features: (B, F). chunk: (B, H, A) what was done. within: (B, H) bool, those that the episode still has.
            generator: for whatever is drawn; on the CPU.
        """
        ...

    def plan(self, features: Tensor, start: Tensor | None = None) -> Tensor:
        """(N, H, A), a pure function; `start` (N, H·A) is the noise to begin with, where the head samples.

        Default: row 0 of its table.
        """
        ...


class Planner(nn.Module):
    """A head as `ChunkedActor` and `DeterministicActor` call it: features (N, F) → (N, H·A)."""

    def __init__(self, head: ChunkHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor, number: Tensor | None = None) -> Tensor:
        """`number` (N, 1): which row of the head's noise to start from."""
        start = None if self.head.noise is None else self.head.noise(features, number)
        return self.head.plan(features, start).flatten(1)


def make_head(config: BcConfig, features: int, action_dim: int, seed: int) -> ChunkHead:
    """The head that `config.head` names, with weights drawn from `seed`."""
    module = importlib.import_module(f"robot_rl.policies.imitation.{config.head}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return module.make(config, features, action_dim, torch.Generator().manual_seed(seed))


def mean_within(error: Tensor, within: Tensor) -> Tensor:
    """Mean of error (B, H, A) over the actions that the episode still has, within (B, H)."""
    return (error.mean(-1) * within).sum() / within.sum()


def drawn(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """N(0, 1) of that shape from a generator on the CPU, where `like` lies."""
    return torch.randn(shape, generator=generator).to(like)
