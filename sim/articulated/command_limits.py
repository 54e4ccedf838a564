"""The bounds on commands that the safety filter in front of a robot enforces (`robot_rl/safety.py`), for a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from robot_rl.contract import Command


class CommandLimits:
    """Keeps commands within their limits and, where they have one, within `max_rate` · `control_dt` of the last ones.

    A policy that is trained without it meets another robot when it is deployed: one that follows jumps slowly.
    """

    def __init__(self, commands: Sequence[Command], num_envs: int, control_dt: float, device: torch.device) -> None:
        self._bounds = {
            c.name: (torch.tensor(c.lower, device=device), torch.tensor(c.upper, device=device)) for c in commands
        }
        self._most = {
            c.name: torch.tensor(c.max_rate, device=device) * control_dt for c in commands if c.max_rate is not None
        }
        self._sent = {name: torch.zeros(num_envs, len(most), device=device) for name, most in self._most.items()}

    def start(self, ids: Tensor, commands: Mapping[str, Tensor]) -> None:
        """Episodes `ids` begin with these commands (k, elements) as the last ones sent."""
        for name, sent in self._sent.items():
            self._sent[name] = sent.index_copy(0, ids, commands[name])

    def __call__(self, commands: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The commands (N, elements) that get through; those of other names as they are."""
        out = dict(commands)
        for name, (lower, upper) in self._bounds.items():
            out[name] = torch.minimum(torch.maximum(out[name], lower), upper)
            if name in self._most:
                last, most = self._sent[name], self._most[name]
                out[name] = self._sent[name] = torch.minimum(torch.maximum(out[name], last - most), last + most)
        return out

    def state_dict(self) -> dict[str, Tensor]:
        return {name: sent.clone() for name, sent in self._sent.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._sent = {name: state[name].to(sent.device).clone() for name, sent in self._sent.items()}
