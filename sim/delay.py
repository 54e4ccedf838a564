"""Delays that are not whole control steps: a ring of past values read at a fractional age."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class DelayLine:
    """The last values of a quantity (C, N), one per control step, each environment with its own delay.

    A delay of d seconds is n whole steps and a rest f·dt. A held quantity (a command) changes at f·dt within the step,
    from the value n + 1 steps old to that n steps old; a continuous one is interpolated between the same two.
    """

    def __init__(self, rows: int, num_envs: int, longest: float, dt: float, device: torch.device) -> None:
        self.dt = dt
        self.capacity = 1 if longest <= 0 else math.ceil(longest / dt - 1e-9) + 2
        self._ring = torch.zeros(self.capacity, rows, num_envs, device=device)
        self._head = 0

    @property
    def needed(self) -> bool:
        """False where no delay can occur: then `newest` is all there is."""
        return self.capacity > 1

    @property
    def newest(self) -> Tensor:
        """(C, N), the last value pushed."""
        return self._ring[self._head]

    def push(self, value: Tensor) -> None:
        """Append the value (C, N) of this control step."""
        self._head = (self._head + 1) % self.capacity
        self._ring[self._head] = value

    def fill(self, env_ids: Tensor, value: Tensor) -> None:
        """Forget the past of some environments: it was always `value` (C, len(env_ids))."""
        self._ring[:, :, env_ids] = value

    def at(self, delay: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Older and newer neighbour (C, N) of the value `delay` (N,) seconds ago, and f·dt (N,) in [0, dt)."""
        steps = torch.clamp(delay / self.dt, 0.0, self.capacity - 2 + 1e-6)
        whole = torch.floor(steps + 1e-5)
        rest = torch.clamp(steps - whole, min=0.0)
        index = self._head - whole.long()
        newer, older = self._gather(index), self._gather(index - 1)
        return older, newer, rest * self.dt

    def during(self, delay: Tensor, times: Tensor) -> Tensor:
        """The held value (K, N, C) at `times` (K,) s within the present control step, `delay` (N,) s late."""
        older, newer, rest = self.at(delay)
        return torch.where(times[:, None, None].to(rest) < rest, older, newer).transpose(1, 2).contiguous()

    def _gather(self, index: Tensor) -> Tensor:
        rows = torch.remainder(index, self.capacity).expand(1, self._ring.shape[1], -1)
        return self._ring.gather(0, rows)[0]

    def state_dict(self) -> dict[str, Any]:
        return {"ring": self._ring.clone(), "head": self._head}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._ring.copy_(state["ring"])
        self._head = int(state["head"])
