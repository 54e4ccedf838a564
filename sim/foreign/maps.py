"""What a policy of a third-party task sees and does: its signals one behind the other, its actions between limits."""

from __future__ import annotations

import torch
from torch import Tensor

from robot_rl.contract import Command
from robot_rl.observer import ActionMap, Observer
from robot_rl.signals import Signal


class PlainObserver(Observer):
    """The signals as they are, flattened and one behind the other."""

    def __init__(self, signals: tuple[Signal, ...], sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.signals, self.obs_dim = signals, sum(sizes)

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.cat([signals[s.name].flatten(1) for s in self.signals], dim=1), memory


class BoxActionMap(ActionMap):
    """Actions −1 … 1, clipped, to the limits of one command."""

    middle: Tensor
    span: Tensor

    def __init__(self, command: Command) -> None:
        super().__init__()
        self.commands = (command,)
        lower, upper = (torch.tensor(x, dtype=torch.float64) for x in (command.lower, command.upper))
        self.register_buffer("middle", (0.5 * (lower + upper)).float())
        self.register_buffer("span", (0.5 * (upper - lower)).float())

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        return {self.commands[0].name: self.middle + self.span * torch.clamp(action, -1.0, 1.0)}

    def action_for(self, commands: dict[str, Tensor], signals: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """The action (N, A) of these commands, not clipped."""
        del signals
        return (commands[self.commands[0].name] - self.middle) / self.span
