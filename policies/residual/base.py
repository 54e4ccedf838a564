"""The frozen policy that is refined, and what it would have done in demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robot_rl import registry
from robot_rl.data.episode import Episode
from robot_rl.errors import ConfigError
from robot_rl.policies.imitation.head import CLONE_TOLERANCE
from robot_rl.policies.proposals import Proposer
from robot_rl.policies.residual.base_env import BASE
from robot_rl.policy import Policy
from robot_rl.policy_file import PolicyFile, parse_policy_file
from robot_rl.protocols import BasePolicy
from robot_rl.signals import Signal

CONTROLLER = "base:"
CHECK_EVERY = 100


@dataclass(frozen=True)
class FrozenBase:
    """A policy file's bytes, or the name of a controller; a checkpoint holds it, so a run needs no other file.

    Attributes:
        name: as it was given. data: of the policy file; empty for a controller.
    """

    name: str
    data: bytes

    @classmethod
    def read(cls, name: str) -> FrozenBase:
        """From a path, or base:<name>.

        Raises:
            ConfigError: nothing was named, or there is no such file. UnknownName: no such controller.
            ContractError: the file is refused.
        """
        if not name:
            raise ConfigError("which policy is to be refined? Give --set base=policy.onnx, or base=base:<name>")
        if name.startswith(CONTROLLER):
            registry.load("base", name.removeprefix(CONTROLLER))
            return cls(name, b"")
        if not Path(name).is_file():
            raise ConfigError(f"there is no policy file '{name}' to refine; `robot-rl export` makes one")
        base = cls(name, Path(name).read_bytes())
        base.file()
        return base

    def file(self) -> PolicyFile | None:
        """The policy file; None for a controller."""
        return parse_policy_file(self.data, self.name) if self.data else None

    @property
    def tolerance(self) -> float:
        """What a refinement of it is exported with, see `contract.Golden`: the base's own, or that of clones."""
        file = self.file()
        return max(CLONE_TOLERANCE, 0.0 if file is None else file.contract.golden.tolerance)

    def signals(self, env: Any) -> tuple[Signal, ...]:
        """What it reads in this environment; a controller may read all there is."""
        file = self.file()
        signals = env.task.signals if file is None else file.contract.signals
        return tuple(s for s in signals if s.name != "time_step")

    def proposer(self, env: Any, num_envs: int = 0) -> Proposer:
        """Its actions in this environment, or for another number of robots.

        Raises:
            ConfigError: it needs signals that the task does not have, or works at another rate.
        """
        file = self.file()
        policy: Policy | Callable[[], BasePolicy]
        if file is None:
            policy = registry.load("base", self.name.removeprefix(CONTROLLER))
        else:
            policy = Policy(file)
            self._check(file, env)
        return Proposer(env, policy, CHECK_EVERY, num_envs)

    def _check(self, file: PolicyFile, env: Any) -> None:
        rate, have = file.contract.rate, {s.name for s in env.task.signals} | {"time_step"}
        missing = [s.name for s in file.contract.signals if s.name not in have]
        if missing:
            raise ConfigError(
                f"the base '{self.name}' needs {', '.join(missing)}; task '{env.task.name}' gives "
                f"{', '.join(sorted(have - {'time_step'}))}"
            )
        if not rate.min_dt - 1e-9 <= env.control_dt <= rate.max_dt + 1e-9:
            raise ConfigError(
                f"the base '{self.name}' may be called every {rate.min_dt:g} to {rate.max_dt:g} s; "
                f"task '{env.task.name}' has control_dt = {env.control_dt:g} s"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"name": self.name, "data": torch.frombuffer(bytearray(self.data or b"\0"), dtype=torch.uint8)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> FrozenBase:
        controller = state["name"].startswith(CONTROLLER)
        return cls(state["name"], b"" if controller else state["data"].numpy().tobytes())


def label(episodes: Sequence[Episode], proposer: Proposer, signals: Sequence[Signal]) -> list[Episode]:
    """The same episodes with `obs/base` (T + 1, A): the base's fresh answer to each state that was demonstrated.

    It is asked anew at every step, without a plan from before; the observer remembers the demonstrated actions.

    Args:
        episodes: with `action` and `obs/<signal>` for each of `signals`. proposer: for one robot.
    """
    labelled = []
    for episode in episodes:
        proposer.reset()
        answers: list[NDArray[Any]] = []
        for t in range(len(episode) + 1):
            proposer.replan()
            answers.append(proposer.propose({s.name: episode.arrays[f"obs/{s.name}"][t : t + 1] for s in signals})[0])
            if t < len(episode):
                proposer.executed(torch.from_numpy(episode.arrays["action"][t : t + 1].astype(np.float32)))
        labelled.append(replace(episode, arrays={**episode.arrays, f"obs/{BASE}": np.stack(answers)}))
    return labelled
