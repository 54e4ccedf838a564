"""What a policy does, as actions of an environment: what a learner clones or refines, and what `env.step` takes.

Policies give physical commands. Their actions are looked for in this order, and what is found counts only where the
environment's action map makes the very commands of it: what a scripted expert says itself (`action`); what an exported
policy remembers as its last action; what the action map's inverse gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.observer import initial_memory
from robot_rl.policy import Policy
from robot_rl.protocols import BasePolicy

Array = NDArray[np.float32]
SAME = 1e-3
"""Of a command's range: the largest difference between a policy's commands and those of the action found for them."""
SAID, INVERSE = "said", "inverse"
"""Where an action may come from, besides the names of what a policy remembers."""
CHECKED_FIRST = 50  # calls, before only every `check_every`-th is checked


class Proposer:
    """The actions of a policy for N robots; the environment is stepped by whoever asks.

    A policy file sees what the environment's observer remembers, so with the actions that were executed in it, noise
    included. What else it remembers, such as the rest of a plan, is its own.

    Args:
        env: has `observer`, `action_map`, `task`, `control_dt`, `num_envs`, `action_dim`; on the CPU or a GPU.
        policy: a loaded file, or what makes a controller; every robot gets one of its own, for it may remember.
        check_every: calls between looks whether an action still gives the policy's commands, which takes as long as
            the action map; the first 50 are always looked at.
        num_envs: N, if not that of the environment.

    Attributes:
        source: where the last action was found: `SAID`, `INVERSE`, or what of the policy's memory it is.
    """

    def __init__(
        self, env: Any, policy: Policy | Callable[[], BasePolicy], check_every: int = 1, num_envs: int = 0
    ) -> None:
        self._env, self.num_envs, self._check_every = env, num_envs or int(env.num_envs), check_every
        self._file = policy if isinstance(policy, Policy) else None
        self._controllers = [] if isinstance(policy, Policy) else [policy() for _ in range(self.num_envs)]
        self.source, self._calls = "", 0
        self.reset()

    def reset(self, rows: Tensor | None = None) -> None:
        """New episodes of all robots, or of `rows` (k,)."""
        memory = self._env.observer.memory
        if rows is None:
            self._seen = initial_memory(memory, self.num_envs)
            self._looked = {name: value.clone() for name, value in self._seen.items()}
            self._own = self._own_memory(self.num_envs)
            rows = torch.arange(self.num_envs)
        else:
            fresh, own = initial_memory(memory, len(rows)), self._own_memory(len(rows))
            self._seen = {n: v.index_copy(0, rows, fresh[n]) for n, v in self._seen.items()}
            self._own = {n: v.index_copy(0, rows, own[n]) for n, v in self._own.items()}
        for row in rows.tolist() if self._controllers else ():
            self._controllers[row].reset(1)

    def replan(self) -> None:
        """Forget what is the policy's own, so that the next action is its answer to what is seen now."""
        self._own = self._own_memory(self.num_envs)

    def propose(self, signals: Mapping[str, Array], rows: Tensor | None = None) -> Array:
        """The actions (k, A) in [−1, 1] for signals name → (k, …) of the present step of all robots, or of `rows`.

        Raises:
            ConfigError: there is none that gives the policy's commands.
        """
        rows = torch.arange(self.num_envs) if rows is None else rows
        tensors = {name: torch.tensor(value) for name, value in signals.items()}  # a copy: files are read-only
        seen = {name: value[rows] for name, value in self._seen.items()}
        looked = seen
        if self._env.observer.memory:
            _, looked = self._env.observer(tensors, seen)
            self._looked = {n: v.index_copy(0, rows, looked[n]) for n, v in self._looked.items()}
        self._calls += 1
        checked = self._calls <= CHECKED_FIRST or self._calls % self._check_every == 0
        if not checked and self.source == SAID and getattr(self._controllers[0], "memoryless", False):
            return np.clip(self._controllers[0].action(signals), -1.0, 1.0)  # type: ignore[attr-defined]
        commands, remembered = self._commands(signals, seen, rows)
        best = float("inf")
        for source, found in self._candidates(signals, tensors, commands, remembered, rows):
            action = torch.clamp(found, -1.0, 1.0)
            if not checked and source == self.source:
                return action.numpy()
            off = self._difference(action, tensors, looked, commands)
            if off <= SAME:
                self.source = source
                return action.numpy()
            best = min(best, off)
        raise ConfigError(_inexpressible(self._env.task.name, best))

    def executed(self, action: Tensor) -> None:
        """Remember what was done, (N, A): what the environment's observer remembers, too."""
        self._seen = self._env.observer.record(self._looked, action)

    def state_dict(self) -> dict[str, Any]:
        """What is remembered of policy and observer; what controllers remember is not in it."""
        return {"seen": dict(self._seen), "looked": dict(self._looked), "own": dict(self._own), "source": self.source}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._seen, self._looked, self._own = dict(state["seen"]), dict(state["looked"]), dict(state["own"])
        self.source = state["source"]

    def _own_memory(self, count: int) -> dict[str, Tensor]:
        if self._file is None:
            return {}
        shared = {m.name for m in self._env.observer.memory}
        return initial_memory(tuple(m for m in self._file.contract.memory if m.name not in shared), count)

    def _commands(
        self, signals: Mapping[str, Array], seen: Mapping[str, Tensor], rows: Tensor
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The policy's commands, and what it then remembers of what the observer remembers: name → (k, …)."""
        if self._file is None:
            each = [
                self._controllers[row].act({name: value[i : i + 1] for name, value in signals.items()})
                for i, row in enumerate(rows.tolist())
            ]
            return {name: np.concatenate([c[name] for c in each]) for name in each[0]}, {}
        time_step = np.full((len(rows), 1), self._env.control_dt, np.float32)
        memory = {n: v.numpy() for n, v in seen.items()} | {n: v[rows].numpy() for n, v in self._own.items()}
        wanted = [m.name for m in self._file.contract.memory]
        commands, following = self._file.step_from(
            {"time_step": time_step, **signals}, {name: memory[name] for name in wanted}
        )
        self._own = {n: v.index_copy(0, rows, torch.from_numpy(following[n])) for n, v in self._own.items()}
        return commands, {name: value for name, value in following.items() if name in seen}

    def _candidates(
        self, signals: Mapping[str, Array], tensors: Mapping[str, Tensor], commands: Mapping[str, Array],
        remembered: Mapping[str, Array], rows: Tensor,
    ) -> Iterator[tuple[str, Tensor]]:  # fmt: skip
        size = self._env.action_dim
        if self._controllers and hasattr(self._controllers[0], "action"):
            chosen: Sequence[Any] = [self._controllers[row] for row in rows.tolist()]
            said = [c.action({n: v[i : i + 1] for n, v in signals.items()}) for i, c in enumerate(chosen)]
            yield SAID, torch.from_numpy(np.concatenate(said))
        for name, value in remembered.items():
            if value.shape[-1] == size:
                yield name, torch.from_numpy(value.reshape(len(rows), -1, size)[:, -1])
        asked = {name: torch.from_numpy(np.asarray(value)) for name, value in commands.items()}
        inverse = self._env.action_map.action_for(asked, tensors)
        if inverse is not None:
            yield INVERSE, inverse

    def _difference(
        self, action: Tensor, tensors: Mapping[str, Tensor], looked: dict[str, Tensor], commands: Mapping[str, Array]
    ) -> float:
        """Largest difference to the commands that these actions give, relative to each command's range."""
        memory = self._env.observer.record(looked, action)
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
