"""Any BatchedEnv as rsl_rl's VecEnv: what rsl_rl's runners train on. Import it only where rsl_rl is installed."""

from __future__ import annotations

from typing import Any

import torch
from rsl_rl.env import VecEnv
from tensordict import TensorDict
from torch import Tensor

from robot_rl.protocols import BatchedEnv


class RslRlEnv(VecEnv):
    """Observation groups keep their names (`policy`, `critic`, …); actions are clipped to [−1, 1].

    Args:
        env: environments that reset themselves.
        seed: of the first reset.
    """

    def __init__(self, env: BatchedEnv, seed: int) -> None:
        self.env, self.cfg, self.device = env, {}, env.device
        self.num_envs, self.num_actions = env.num_envs, env.action_dim
        self.max_episode_length = env.max_episode_steps
        self._ages = torch.zeros(env.num_envs, dtype=torch.long, device=env.device)
        self._obs = self._grouped(env.reset(seed))

    @property
    def episode_length_buf(self) -> Tensor:
        """(N,) steps since the last reset; rsl_rl sets it to spread the first resets."""
        return getattr(self.env, "episode_step", self._ages)

    @episode_length_buf.setter
    def episode_length_buf(self, ages: Tensor) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        if hasattr(self.env, "episode_step"):
            self.env.episode_step[:] = ages  # type: ignore[attr-defined]

    def get_observations(self) -> TensorDict:
        """The present observations by group."""
        return self._obs

    def step(self, actions: Tensor) -> tuple[TensorDict, Tensor, Tensor, dict[str, Any]]:
        """One step; `extras["time_outs"]` tells episodes that only ran out of time."""
        step = self.env.step(actions.clamp(-1.0, 1.0))
        self._obs = self._grouped(step.obs)
        extras = {"time_outs": step.truncated & ~step.terminated, "log": dict(step.log)}
        return self._obs, step.reward, (step.terminated | step.truncated).long(), extras

    def _grouped(self, obs: dict[str, Tensor]) -> TensorDict:
        return TensorDict(dict(obs), batch_size=[self.num_envs], device=self.env.device)
