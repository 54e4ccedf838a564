"""What a policy does, as actions of its task's environment: what a learner clones, and what `env.step` takes.

Policies give physical commands. Their actions are looked for in this order, and what is found counts only where the
task's action map makes the very commands of it: what a scripted expert says itself (`action`); what an exported policy
remembers as its last action; what the action map's inverse gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from robot_rl.evaluation.jointed.rollout import Player

Array = NDArray[np.float32]
SAME = 1e-3
"""Of a command's range: the largest difference between a policy's commands and those of the action found for them."""


class Proposer:
    """The actions of a player's policy, for one robot; the environment is stepped by whoever asks.

    A policy file sees what the environment's observer remembers, so with the actions that were executed in it, noise
    included.
    """

    def __init__(self, player: Player) -> None:
        self._env, self._policy = player.env, player.policy
        self._expert: Any = None if hasattr(self._policy, "contract") else self._policy.policy
        self.reset()

    def reset(self) -> None:
        """A new episode."""
        from robot_rl.observer import initial_memory

        self._policy.reset()
        self._seen = initial_memory(self._env.observer.memory, 1)
        self._own = {} if self._expert else {n: v for n, v in self._policy.memory.items() if n not in self._seen}
        self._looked = self._seen

    def propose(self, signals: Mapping[str, Array]) -> Array:
        """The action (A,) in [−1, 1] for signals name → (1, …) of the present step.

        Raises:
            ConfigError: there is none that gives the policy's commands.
        """
        import torch

        commands, remembered = self._commands(signals)
        tensors = {name: torch.from_numpy(value) for name, value in signals.items()}
        if self._env.observer.memory:
            _, self._looked = self._env.observer(tensors, self._seen)
        best = float("inf")
        for found in self._candidates(signals, tensors, commands, remembered):
            action = torch.clamp(found, -1.0, 1.0)
            off = self._difference(action, tensors, commands)
            if off <= SAME:
                return action[0].numpy()
            best = min(best, off)
        raise ConfigError(_inexpressible(self._env.task.name, best))

    def executed(self, action: Array) -> None:
        """Remember what was done, (A,): what the environment's observer remembers, too."""
        import torch

        self._seen = self._env.observer.record(self._looked, torch.from_numpy(action)[None])

    def _commands(self, signals: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """The policy's commands, and what it then remembers of what the observer remembers: name → (1, …)."""
        if self._expert is not None:
            return self._policy.act(signals, self._env.control_dt), {}
        time_step = np.full((1, 1), self._env.control_dt, np.float32)
        memory = {name: value.numpy() for name, value in self._seen.items()} | self._own
        own = {m.name for m in self._policy.contract.memory}
        commands, following = self._policy.step_from(
            {"time_step": time_step, **signals}, {n: v for n, v in memory.items() if n in own}
        )
        self._own = {name: following[name] for name in self._own}
        return commands, {name: value for name, value in following.items() if name in self._seen}

    def _candidates(
        self, signals: Any, tensors: Mapping[str, Tensor], commands: Any, remembered: Mapping[str, Array]
    ) -> Iterator[Tensor]:
        import torch

        size = self._env.action_dim
        if hasattr(self._expert, "action"):
            yield torch.from_numpy(self._expert.action(signals))
        for value in remembered.values():
            if value.shape[-1] == size:
                yield torch.from_numpy(value.reshape(-1, size)[-1:])
        asked = {name: torch.from_numpy(value) for name, value in commands.items()}
        inverse = self._env.action_map.action_for(asked, tensors)
        if inverse is not None:
            yield inverse

    def _difference(self, action: Tensor, tensors: Mapping[str, Tensor], commands: Mapping[str, Array]) -> float:
        """Largest difference to the commands that this action gives, relative to each one's range."""
        memory = self._env.observer.record(self._looked, action)
        given = self._env.action_map.commands_for(action, tensors, memory)
        return max(
            float(np.max(np.abs(given[c.name].numpy() - commands[c.name]) / np.subtract(c.upper, c.lower)))
            for c in self._env.task.commands
        )


def _inexpressible(task: str, off: float) -> str:
    head = f"the policy's commands cannot be expressed as actions of '{task}'"
    if off == float("inf"):
        return f"{head}: it does not say its actions, and the task's action map has no inverse"
    return (
        f"{head}: the nearest action found gives commands that are {100 * off:.2g} % of their range away "
        f"({100 * SAME:g} % is allowed); is it made for other options, such as another step_size?"
    )
