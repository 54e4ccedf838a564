"""Any BatchedEnv as skrl's environment: what skrl's trainers train on. Import it only where skrl is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from skrl.envs.wrappers.torch import Wrapper
from torch import Tensor

from robot_rl.protocols import BatchedEnv


class SkrlEnv(Wrapper):
    """skrl's observations are the group `policy`, its states the group `critic`; actions are clipped to [−1, 1].

    Args:
        env: environments that reset themselves.
        seed: of the first reset.
    """

    def __init__(self, env: BatchedEnv, seed: int) -> None:
        super().__init__(env)
        self.batch, self.seed = env, seed
        self._obs: dict[str, Tensor] | None = None
        self._spaces = {n: spaces.Box(-np.inf, np.inf, (size,), np.float32) for n, size in env.obs_dims.items()}

    @property
    def observation_space(self) -> spaces.Box:
        return self._spaces["policy"]

    @property
    def state_space(self) -> spaces.Box:
        return self._spaces["critic"]

    @property
    def action_space(self) -> spaces.Box:
        return spaces.Box(-1.0, 1.0, (self.batch.action_dim,), np.float32)

    def reset(self) -> tuple[Tensor, dict[str, Any]]:
        """Observations (N, n). Resets the first time only: afterwards environments reset themselves."""
        if self._obs is None:
            self._obs = self.batch.reset(self.seed)
        return self._obs["policy"], {}

    @torch.no_grad()
    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """One step; reward, terminated and truncated are (N, 1)."""
        step = self.batch.step(actions.clamp(-1.0, 1.0))
        self._obs = step.obs
        ends = (step.terminated.unsqueeze(1), (step.truncated & ~step.terminated).unsqueeze(1))
        return self._obs["policy"], step.reward.unsqueeze(1), *ends, {}

    def state(self) -> Tensor | None:
        """The critic's observations (N, m) at the present step."""
        return None if self._obs is None else self._obs["critic"]

    def render(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is drawn."""

    def close(self) -> None:
        """Nothing to close: the environment belongs to the caller."""
