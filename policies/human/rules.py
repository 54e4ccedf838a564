"""When a script takes over: rules that look at one control step of N robots and say where.

Kelly et al., HG-DAgger (2019), for people who act when they see fit; Luo et al., RLIF (2023), for the two models of
people by value and at random. RLIF compares Q(s, a) with κ·Q(s, a_expert), which turns round where values are below
zero; a difference does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from robot_rl.errors import ConfigError
from robot_rl.policies.human.config import RANDOM, STALLED, VALUE, HumanConfig
from robot_rl.protocols import Array, Bools


class Rule(Protocol):
    """Whether somebody would take over now; asked at every step of every robot."""

    def reset(self, rows: NDArray[np.int64]) -> None:
        """New episodes, or control given back, in `rows` (k,)."""
        ...

    def wanted(self, seen: Mapping[str, Array], proposed: Array, own: Array) -> Bools:
        """(N,) bool for what is seen, the policy's action and the script's own, (N, A)."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def missing(seen: Mapping[str, Array]) -> Array:
    """(N,) m that are missing: object to target, and gripper to object; where there is no object, gripper to target.

    Raises:
        ConfigError: the task has no such signals.
    """
    places = [n for n in ("ee_pos_w", "object_pos_w", "target_pos_w") if n in seen]
    if places[-1:] != ["target_pos_w"] or len(places) < 2:
        raise ConfigError("nobody can see progress here: the task has no target_pos_w with ee_pos_w or object_pos_w; "
                          "choose another rule with human.when")  # fmt: skip
    ways = [np.linalg.norm(seen[a] - seen[b], axis=1) for a, b in pairwise(places)]
    return np.sum(ways, axis=0)


class Stalled:
    """Where the least that was missing has not become less for `after` steps."""

    def __init__(self, num_envs: int, after: int, progress: float) -> None:
        self.after, self.progress = after, progress
        self.least = np.full(num_envs, np.inf)
        self.since = np.zeros(num_envs, np.int64)

    def reset(self, rows: NDArray[np.int64]) -> None:
        self.least[rows], self.since[rows] = np.inf, 0

    def wanted(self, seen: Mapping[str, Array], proposed: Array, own: Array) -> Bools:
        del proposed, own
        now = missing(seen)
        better = now < self.least - self.progress
        self.least = np.where(better, now, self.least)
        self.since = np.where(better, 0, self.since + 1)
        return self.since >= self.after

    def state_dict(self) -> dict[str, Any]:
        return {"least": torch.from_numpy(self.least.copy()), "since": torch.from_numpy(self.since.copy())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.least, self.since = state["least"].numpy().copy(), state["since"].numpy().copy()


class Drawn:
    """With a fixed chance in every step, and what rules that draw share."""

    def __init__(self, num_envs: int, chance: float, seed: int) -> None:
        self.num_envs, self.chance = num_envs, chance
        self.generator = torch.Generator().manual_seed(seed)

    def reset(self, rows: NDArray[np.int64]) -> None:
        del rows

    def happens(self, chance: float) -> Bools:
        """(N,) bool, each with this chance."""
        return (torch.rand(self.num_envs, generator=self.generator) < chance).numpy()

    def wanted(self, seen: Mapping[str, Array], proposed: Array, own: Array) -> Bools:
        del seen, proposed, own
        return self.happens(self.chance)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.generator.set_state(state["generator"])


class WorthLess(Drawn):
    """Where critics find the policy's action worse than the script's by more than `gap`; now and then the opposite."""

    def __init__(self, critic: Any, num_envs: int, gap: float, flips: float, seed: int) -> None:
        super().__init__(num_envs, flips, seed)
        self.critic, self.gap = critic, gap

    def wanted(self, seen: Mapping[str, Array], proposed: Array, own: Array) -> Bools:
        better = self.critic(seen, own) - self.critic(seen, proposed)
        return (better > self.gap) ^ self.happens(self.chance)


class Never(Drawn):
    """Only where the policy asks."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs, 0.0, 0)


def make_rule(config: HumanConfig, env: Any, seed: int) -> Rule:
    """The rule that `config.when` names.

    Raises:
        ConfigError, CheckpointError: there is no run with critics where `config.critic` says.
    """
    n = env.num_envs
    if config.when == STALLED:
        return Stalled(n, config.after, config.progress)
    if config.when == VALUE:
        if not config.critic:
            raise ConfigError("human.when = 'value' needs critics that judge; give a run: human.critic=runs/…")
        from robot_rl.policies.human.critic import read_critic

        return WorthLess(read_critic(config.critic, env), n, config.gap, config.flips, seed)
    return Drawn(n, config.chance, seed) if config.when == RANDOM else Never(n)
