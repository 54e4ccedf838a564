"""An environment that also shows what a frozen policy would do: observation group `base`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.policies.proposals import Proposer
from robot_rl.protocols import Step

BASE = "base"
Array = NDArray[np.float32]


class BaseActionEnv:
    """A `BatchedEnv` around another one; its actions go through unchanged.

    The base is asked once per control step, so a base that plays out plans stays with its plan. Where an episode ended
    it is asked twice: in the last state, for the bootstrap after a time-out, and anew at the start of the next episode.

    The environment needs, besides `BatchedEnv`: `signals()` and `final_signals`, the signals of the step in which
    episodes ended, before they were reset; and what `Proposer` needs.

    Attributes:
        obs_dims: with `base` (A): the base's actions in [−1, 1].
    """

    def __init__(self, env: Any) -> None:
        for name in ("signals", "observer", "action_map"):
            if not hasattr(env, name):
                raise ConfigError(f"this environment has no `{name}`, so no other policy can act in it")
        self.env: Any = env
        self.proposer: Proposer | None = None
        self.num_envs, self.action_dim, self.control_dt = env.num_envs, env.action_dim, env.control_dt
        self.max_episode_steps, self.device = env.max_episode_steps, env.device
        self.obs_dims: Mapping[str, int] = {**env.obs_dims, BASE: env.action_dim}

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # not there yet
            raise AttributeError(name)
        return getattr(self.env, name)  # what the task has besides: `signals`, `task`, `action_map`, …

    def reset(self, seed: int | None = None) -> dict[str, Tensor]:
        obs = self.env.reset(seed)
        proposer = self._proposer()
        proposer.reset()
        self._base = self._asked(self.env.signals())
        return {**obs, BASE: self._base}

    def step(self, action: Tensor) -> Step:
        proposer, step = self._proposer(), self.env.step(action)
        proposer.executed(action.detach().cpu())
        ended = (step.terminated | step.truncated).nonzero()[:, 0]
        final = self._base = self._asked(self.env.final_signals if len(ended) else self.env.signals())
        if len(ended):
            proposer.reset(ended.cpu())
            fresh = self._asked(self.env.signals(), ended)
            self._base = final.index_copy(0, ended, fresh)
        step.obs, step.final_obs = {**step.obs, BASE: self._base}, {**step.final_obs, BASE: final}
        return step

    def state_dict(self) -> dict[str, Any]:
        """What the base remembers; the environment's own state is kept by whoever made it."""
        return self._proposer().state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._proposer().load_state_dict(state)

    def _asked(self, signals: Mapping[str, Tensor], rows: Tensor | None = None) -> Tensor:
        shown = {name: (v if rows is None else v[rows]).cpu().numpy() for name, v in signals.items()}
        return torch.from_numpy(self._proposer().propose(shown, None if rows is None else rows.cpu())).to(self.device)

    def _proposer(self) -> Proposer:
        if self.proposer is None:
            raise ConfigError("the base policy has not been loaded yet")
        return self.proposer
