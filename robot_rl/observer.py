"""What stands between signals and network, and between network and commands, as torch modules that export traces.

The only module of the core that imports torch: `sim` builds these, `policies` exports them, and neither may import the
other. Nothing that runs on a robot imports it; on a robot all of this is inside the ONNX file.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor, nn

from robot_rl.contract import Command, Memory
from robot_rl.signals import Signal


class Observer(nn.Module):
    """Builds the observation from signals in SI units; N environments at once.

    A subclass sets the three attributes and defines `forward`, and `record` where it remembers actions. Both must be
    pure functions made of tensor operations: no state on `self`, no branches on values.

    Attributes:
        signals: what it reads; the contract's signals.
        memory: what it remembers between calls (history, filters, previous action); empty when nothing.
        obs_dim: length of the observation.
    """

    signals: tuple[Signal, ...] = ()
    memory: tuple[Memory, ...] = ()
    obs_dim: int = 0

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """One observation.

        Args:
            signals: name → (N, *shape), those of `self.signals`.
            memory: name → (N, *shape), those of `self.memory`.

        Returns:
            The observation (N, obs_dim) and the memory after looking (all names, new tensors where changed).
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(signals, memory)")

    def record(self, memory: dict[str, Tensor], action: Tensor) -> dict[str, Tensor]:
        """The memory after the action (N, A), the network's own output, was chosen. Default: it is not remembered."""
        del action  # Unused.
        return memory


class WithPictures(Observer):
    """Another observer's observation and behind it pictures, flat: what a policy with eyes is exported with.

    Args:
        base: what observes the rest, and remembers. pictures: signals (H, W, 3), from 0 to 255.
    """

    def __init__(self, base: Observer, pictures: tuple[Signal, ...]) -> None:
        super().__init__()
        self.base, self.pictures = base, pictures
        self.signals, self.memory = (*base.signals, *pictures), base.memory
        self.obs_dim = base.obs_dim + sum(prod(s.shape) for s in pictures)

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        seen, memory = self.base({s.name: signals[s.name] for s in self.base.signals}, memory)
        return torch.cat([seen, *(signals[s.name].flatten(1).to(seen) for s in self.pictures)], 1), memory

    def record(self, memory: dict[str, Tensor], action: Tensor) -> dict[str, Tensor]:
        return self.base.record(memory, action)


class ActionMap(nn.Module):
    """Turns the network's output into physical commands.

    A subclass defines `forward(action)`, or `forward(action, given)` where its commands depend on where the robot is,
    as those of an end effector do, or on what the observer remembers, as targets that actions move on do; a pure
    function of tensor operations like the observer. Action (N, A), nominally in [−1, 1] → command name →
    (N, elements) in the command's unit. `given` holds signals and memory by name.

    Attributes:
        commands: what it produces; the contract's commands.
        signals: what it reads besides the action, as measured; empty for most.
        memory: names in the observer's memory that it reads, as `Observer.record` has left them; empty for most.
    """

    commands: tuple[Command, ...] = ()
    signals: tuple[Signal, ...] = ()
    memory: tuple[str, ...] = ()

    @property
    def action_dim(self) -> int:
        """A; one action for each element of the commands, unless a subclass says otherwise."""
        return sum(len(c.elements) for c in self.commands)

    def commands_for(
        self, action: Tensor, signals: Mapping[str, Tensor], memory: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """What environments and exported policies call: the commands, with what this map reads besides the action.

        Args:
            memory: the observer's, after it has recorded this action; may be left out where `self.memory` is empty.
        """
        given = {s.name: signals[s.name] for s in self.signals} | {name: (memory or {})[name] for name in self.memory}
        return self(action, given) if given else self(action)

    @property
    def action_names(self) -> tuple[str, ...]:
        """What each action stands for, A names; empty where nobody says. Default: the commands' elements."""
        names = tuple(element for command in self.commands for element in command.elements)
        return names if len(names) == self.action_dim else ()

    def action_for(self, commands: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Tensor | None:
        """The action (N, A) whose commands these are, not clipped; None where this map has no inverse (the default).

        Commands at a limit have many; whoever asks puts the answer through `commands_for` to see what it is worth.
        """
        del commands, signals
        return None


def initial_memory(
    memory: tuple[Memory, ...], num_envs: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """The memory after a reset: name → (num_envs, *shape), fresh tensors that may be written to."""
    result: dict[str, Tensor] = {}
    for item in memory:
        row = torch.tensor(item.initial, device=device, dtype=dtype).reshape(item.shape)
        result[item.name] = row.expand(num_envs, *item.shape).clone()
    return result
