"""Rollouts of many environments on their device, and minibatches of them with little copying."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

Pieces = Iterator[tuple[dict[str, Tensor], float]]

CPU_ROWS = 4096
"""Rows that pass through the networks at once on a CPU: what is between the layers then stays in its cache, which
makes learning a third faster than with whole minibatches. On a GPU a minibatch stays in one piece."""


class Rollout:
    """T steps of N environments, preallocated; fields are (T, N, …) on the environments' device.

    Attributes:
        policy, critic: observations before the step; final: the critic's after it, before any reset.
        action, mean, logp: drawn action, mean of its distribution, logarithm of its likelihood.
        reward, terminated, done: what the step gave; done: terminated or truncated.
        value, next_value: V before and after the step; advantage, returns: what they and the rewards amount to.
        actor_state, critic_state: (N, gru) of recurrent networks before the first step.
    """

    def __init__(
        self, horizon: int, num_envs: int, policy: int, critic: int, action: int, device: torch.device
    ) -> None:
        def zeros(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(horizon, num_envs, *size, device=device, dtype=dtype)

        self.policy, self.critic, self.final = zeros(policy), zeros(critic), zeros(critic)
        self.action, self.mean = zeros(action), zeros(action)
        self.reward, self.logp, self.value, self.next_value = (zeros() for _ in range(4))
        self.advantage, self.returns = zeros(), zeros()
        self.terminated, self.done = zeros(dtype=torch.bool), zeros(dtype=torch.bool)
        self.actor_state = self.critic_state = torch.zeros(num_envs, 0, device=device)


def kept(done: Tensor) -> Tensor:
    """(T, N) of `PolicyNetwork.sequence` from done (T, N); the state before the first step is reset already."""
    keep = torch.ones(done.shape, device=done.device)
    keep[1:] = (~done[:-1]).float()
    return keep


class Minibatches:
    """Fields (T, N, …) side by side in one table, so that a minibatch is gathered by one operation.

    Without recurrence a minibatch is a random set of the T·N rows; with recurrence it is whole sequences of a random
    set of environments, (T, B, …).

    Args:
        fields: name → (T, N) or (T, N, size).
        states: name → (N, gru), for recurrent networks; empty: no recurrence.
    """

    def __init__(self, fields: Mapping[str, Tensor], states: Mapping[str, Tensor] | None = None) -> None:
        self.states = dict(states or {})
        self.columns: dict[str, slice | int] = {}
        offset, parts = 0, list[Tensor]()
        for name, field in fields.items():
            parts.append(field.float().unsqueeze(-1) if field.dim() == 2 else field)
            size = parts[-1].shape[-1]
            self.columns[name] = offset if field.dim() == 2 else slice(offset, offset + size)
            offset += size
        table = torch.cat(parts, -1)
        self.horizon = table.shape[0]
        self.table = table if self.states else table.flatten(0, 1)

    def epoch(self, count: int, generator: torch.Generator) -> Iterator[Pieces]:
        """A pass in random order: `count` minibatches, each in pieces (fields by name, share of the minibatch).

        A piece is gathered when it is asked for; the gradients of a minibatch are those of its pieces, added up.
        """
        axis = 1 if self.states else 0
        order = torch.randperm(self.table.shape[axis], generator=generator, device=self.table.device)
        piece = CPU_ROWS if self.table.device.type == "cpu" else len(order) * self.horizon
        if self.states:
            piece = max(1, piece // self.horizon)
        for chosen in order.tensor_split(count):
            yield self._pieces(chosen.split(piece), len(chosen), axis)

    def _pieces(self, parts: Iterable[Tensor], total: int, axis: int) -> Pieces:
        for part in parts:
            yield self._gathered(part, axis), len(part) / total

    def _gathered(self, chosen: Tensor, axis: int) -> dict[str, Tensor]:
        rows = self.table.index_select(axis, chosen)
        batch = {name: rows[..., columns] for name, columns in self.columns.items()}
        return batch | {name: state.index_select(0, chosen) for name, state in self.states.items()}
