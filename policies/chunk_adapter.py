"""A base policy from anything that proposes several actions at once: a function, a policy file, a remote server.

How a chunk is played out is `chunks.Playback`, the same arithmetic as in exported policies.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from robot_rl.errors import ConfigError, NonFiniteSignal, SignalError
from robot_rl.observer import initial_memory
from robot_rl.policies.chunks import Playback
from robot_rl.policy import Policy
from robot_rl.protocols import Array

Propose = Callable[[Mapping[str, Array], str | None], ArrayLike]
"""Signals (k, …) of k environments and an instruction → chunks (k, H or more, A)."""

ToCommands = Callable[[Array, Mapping[str, Array]], dict[str, Array]]
"""Actions (N, A) and the signals (N, …) of this step → command name → (N, …)."""


class ChunkAdapter:
    """A `BasePolicy` for N environments, each with a plan of its own.

    The black box is asked only for environments that need a new plan, with their rows of the signals; so it must not
    remember anything between calls. Nothing is kept of a proposal that is refused.

    Args:
        policy: what proposes. horizon: H, actions of a proposal that are used, the first.
        execute: how many are played before the next plan; 0: half, at least one. ensemble: m, or None; see `Playback`.
        to_commands: what becomes of an action; default: {"action": action}.

    Raises:
        ConfigError: a horizon, execute or ensemble out of range.
    """

    def __init__(
        self,
        policy: Propose,
        horizon: int,
        execute: int = 0,
        ensemble: float | None = None,
        to_commands: ToCommands | None = None,
    ) -> None:
        if horizon < 1:
            raise ConfigError(f"horizon = {horizon}; a plan has at least 1 action")
        self.policy, self.horizon, self.ensemble = policy, horizon, ensemble
        self.execute = execute or max(1, horizon // 2)
        Playback(horizon, 1, self.execute, ensemble)  # refuses what is out of range now, not at the first step
        self._to_commands = to_commands
        self.reset()

    def reset(self, num_envs: int = 1) -> None:
        """New episodes for that many environments; all plans are dropped."""
        if num_envs < 1:
            raise SignalError(f"num_envs = {num_envs}; it must be at least 1")
        self.num_envs = num_envs
        self._playback: Playback | None = None
        self._memory: dict[str, Tensor] = {}

    def forget(self, env_ids: ArrayLike) -> None:
        """New episodes for these environments, indices or a mask (N,): their plans are dropped, no others."""
        rows = np.asarray(env_ids)
        if rows.dtype == bool and rows.shape != (self.num_envs,):
            raise SignalError(f"the mask has shape {rows.shape}; expected ({self.num_envs},)")
        if rows.dtype != bool and rows.size and not (rows.min() >= 0 and rows.max() < self.num_envs):
            raise SignalError(f"env_ids {rows.tolist()}; there are environments 0 to {self.num_envs - 1}")
        if self._playback is not None and rows.size:
            fresh = initial_memory(self._playback.memory, self.num_envs)
            which = torch.from_numpy(np.atleast_1d(rows).astype(bool if rows.dtype == bool else np.int64))
            for name, value in self._memory.items():
                value[which] = fresh[name][which]

    def act(self, signals: Mapping[str, Array], instruction: str | None = None) -> dict[str, Array]:
        """See `BasePolicy`."""
        action = self.action(signals, instruction)
        return {"action": action} if self._to_commands is None else self._to_commands(action, signals)

    def action(self, signals: Mapping[str, Array], instruction: str | None = None) -> Array:
        """The next action of every environment, (N, A) float32.

        Raises:
            SignalError: signals of another number of environments, or proposals of the wrong shape.
            NonFiniteSignal: a proposal holds NaN or infinity.
        """
        wrong = {name: np.shape(value) for name, value in signals.items() if np.shape(value)[:1] != (self.num_envs,)}
        if wrong:
            raise SignalError(f"signals {wrong}; the first dimension must be num_envs = {self.num_envs}")
        rows = np.arange(self.num_envs)
        if self._playback is not None:
            rows = rows[self._playback.due(self._memory)[:, 0].numpy()]
        plans = self._proposed(signals, rows, instruction) if len(rows) else None
        if self._playback is None:
            assert plans is not None
            self._playback = Playback(self.horizon, plans.shape[2], self.execute, self.ensemble)
            self._memory = initial_memory(self._playback.memory, self.num_envs)
        fresh = torch.zeros(self.num_envs, self.horizon * self._playback.action_dim)
        if plans is not None:
            if plans.shape[2] != self._playback.action_dim:
                raise SignalError(f"actions of {plans.shape[2]} numbers; they had {self._playback.action_dim} before")
            fresh[torch.from_numpy(rows)] = torch.from_numpy(plans).flatten(1)
        action, self._memory = self._playback.step(fresh, self._memory)
        return action.numpy().copy()

    def _proposed(self, signals: Mapping[str, Array], rows: NDArray[Any], instruction: str | None) -> Array:
        """(k, H, A) for environments `rows`."""
        given = {name: np.asarray(value)[rows] for name, value in signals.items()}
        chunk = np.asarray(self.policy(given, instruction), np.float32)
        if chunk.ndim != 3 or chunk.shape[0] != len(rows) or chunk.shape[1] < self.horizon:
            raise SignalError(f"a proposal of shape {chunk.shape}; expected ({len(rows)}, {self.horizon} or more, A)")
        if not np.isfinite(chunk).all():
            raise NonFiniteSignal("chunk", "output")
        return np.ascontiguousarray(chunk[:, : self.horizon])


def proposals_of_file(path: str | os.PathLike[str], horizon: int) -> Propose:
    """What a policy file proposes whose only command is a chunk, H·A elements, action after action.

    Raises:
        ConfigError: it remembers something, has several commands, or its command is no multiple of H.
        ContractError: the file is refused.
    """
    policy = Policy.load(path)
    contract, sizes = policy.contract, {c.name: len(c.elements) for c in policy.contract.commands}
    if contract.memory:
        names = ", ".join(m.name for m in contract.memory)
        raise ConfigError(f"'{path}' remembers {names}; a chunk must be a pure function of the signals")
    if len(sizes) != 1 or next(iter(sizes.values())) % horizon:
        raise ConfigError(f"'{path}' gives {sizes}; expected one command of {horizon} times A elements")
    name = next(iter(sizes))

    def propose(signals: Mapping[str, Array], instruction: str | None) -> Array:
        del instruction  # A policy file reads none.
        count = len(next(iter(signals.values())))
        step = np.full((count, 1), contract.rate.control_dt, np.float32)
        commands, _ = policy.step_from({"time_step": step, **signals}, {})
        return commands[name].reshape(count, horizon, -1)

    return propose
