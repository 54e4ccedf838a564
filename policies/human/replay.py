"""A replay that knows in which of its steps a human acted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robot_rl.policies.off_policy.replay import RUNNING, RingReplay
from robot_rl.protocols import Step


class InterventionReplay(RingReplay):
    """A `RingReplay` in which the human's transitions can be drawn by themselves: one memory is both buffers.

    So an intervention is online experience and demonstration without being stored twice, and leaves both when the ring
    is full. Windows of several steps may begin with the human's action and go on with the policy's, as everywhere.
    """

    def __init__(
        self, steps: int, num_envs: int, dims: Mapping[str, int], action_dim: int, device: torch.device
    ) -> None:
        super().__init__(steps, num_envs, dims, action_dim, device)
        self.intervened = torch.zeros(len(self.reward), dtype=torch.bool, device=device)
        self._index: Tensor | None = None

    def add_executed(self, action: Tensor, step: Step, intervened: Tensor) -> None:
        """`add`, with (N,) bool: where the human acted."""
        self.intervened[self._rows(self.head)] = intervened.to(self.device)
        self.add(action, step)
        self._index = None

    def set_last_reward(self, which: Tensor, reward: float) -> None:
        """Give the newest transition of the environments `which` (N,) bool another reward."""
        if self.filled == 0:
            return
        rows = self._rows((self.head - 1) % self.slots)
        which = which.to(self.device) & (self.ended[rows] == RUNNING)
        self.reward[rows] = torch.where(which, reward, self.reward[rows])

    def helped(self) -> Tensor:
        """(K,) the human's transitions, as `windows` counts."""
        if self._index is None:
            self._index = self._found()
        return self._index

    def _found(self) -> Tensor:
        oldest = (self.head - self.filled) * self.num_envs
        index = (self.intervened.nonzero()[:, 0] - oldest) % len(self.reward)
        return index[index < len(self)]

    def state_dict(self) -> dict[str, Any]:
        used = (self.filled + 1) * self.num_envs
        return super().state_dict() | {"intervened": self.intervened[:used].clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.intervened[: len(state["intervened"])] = state["intervened"].to(self.device)
        self._index = None
