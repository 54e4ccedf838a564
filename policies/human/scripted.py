"""A script that stands for a person: a policy, a rule of when to take over, and what people do worse than it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robot_rl.policies.human.config import SCRIPTED, HumanConfig
from robot_rl.policies.human.rules import Rule, make_rule
from robot_rl.policies.proposals import Proposer
from robot_rl.policies.residual.base import FrozenBase
from robot_rl.protocols import Array, Bools, Takeover


class ScriptedHuman:
    """A `Human` for all environments; takes over for a number of steps at a time.

    Args:
        proposer: the policy that acts. rule: when. action_dim: A. config: the rest. seed: of everything drawn.
    """

    def __init__(self, proposer: Proposer, rule: Rule, action_dim: int, config: HumanConfig, seed: int = 0) -> None:
        n = proposer.num_envs
        self.proposer, self.rule, self.config = proposer, rule, config
        self.generator = torch.Generator().manual_seed(seed)
        self.pace = np.full(action_dim, config.pace, np.float32)
        if config.gripper:
            self.pace[-1] = 1.0
        self.left = np.zeros(n, np.int64)
        self.wishes = np.zeros((config.delay + 1, n, action_dim), np.float32)  # the newest first
        self.fresh = np.ones(n, np.bool_)
        self.bias = np.zeros((n, action_dim), np.float32)
        self.taken = np.zeros(n, np.bool_)

    def reset(self, rows: NDArray[np.int64]) -> None:
        which = torch.from_numpy(rows)
        self.proposer.reset(which)
        self.rule.reset(rows)
        self.left[rows], self.fresh[rows], self.taken[rows] = 0, True, False
        draw = 2.0 * torch.rand(len(rows), self.bias.shape[1], generator=self.generator) - 1.0
        self.bias[rows] = self.config.bias + self.config.wander * draw.numpy()

    def act(self, seen: Mapping[str, Array], proposed: Array, asked: Bools) -> Takeover:
        own = self._own(seen)
        wanted = self.rule.wanted(seen, proposed, own)
        begins = (self.left == 0) & wanted
        self.left = np.where(begins, self.config.steps, self.left)
        rows = (self.left > 0) | asked
        self.left = np.maximum(self.left - 1, 0)
        ended = np.flatnonzero(self.taken & ~rows)
        if len(ended):
            self.rule.reset(ended)
        self.taken = rows
        action = np.where(rows[:, None], own, proposed).astype(np.float32)
        self.proposer.executed(torch.from_numpy(action))
        return Takeover(rows, action)

    def _own(self, seen: Mapping[str, Array]) -> Array:
        """What it would do, (N, A)."""
        signals = {name: value for name, value in seen.items() if not name.startswith("obs/")}
        wish = self.proposer.propose(signals)
        self.wishes = np.concatenate((wish[None], self.wishes[:-1]))
        self.wishes = np.where(self.fresh[:, None], wish, self.wishes)
        self.fresh = np.zeros_like(self.fresh)
        noise = self.config.noise * torch.randn(wish.shape, generator=self.generator).numpy()
        return np.clip(self.pace * self.wishes[-1] + self.bias + noise, -1.0, 1.0)

    def close(self) -> None:
        """Nothing is held."""

    def state_dict(self) -> dict[str, Any]:
        arrays = {name: torch.from_numpy(getattr(self, name).copy()) for name in _ARRAYS}
        return arrays | {
            "proposer": self.proposer.state_dict(), "rule": self.rule.state_dict(),
            "generator": self.generator.get_state(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in _ARRAYS:
            setattr(self, name, state[name].numpy().copy())
        self.proposer.load_state_dict(state["proposer"])
        self.rule.load_state_dict(state["rule"])
        self.generator.set_state(state["generator"])


_ARRAYS = ("left", "wishes", "fresh", "bias", "taken")


def scripted_human(config: HumanConfig, env: Any, seed: int) -> ScriptedHuman:
    """The script that `config` describes, for all robots of `env`.

    Raises:
        ConfigError, UnknownName, ContractError: a policy that is not there or does not fit the task; no critic.
    """
    proposer = FrozenBase.read(config.who.removeprefix(SCRIPTED)).proposer(env)
    rule = make_rule(config, env, seed + 1)
    human = ScriptedHuman(proposer, rule, env.action_dim, config, seed + 2)
    human.reset(np.arange(env.num_envs))
    return human
