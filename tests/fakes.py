"""A dummy BatchedEnv for the tests of learning: a 1-D point mass that should come to rest at the origin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robot_rl.protocols import Step


class PointMass:
    """State (position, velocity); action = force; reward 1 − wp·x² − wv·v²; fails at |x| > 2, ends after 50 steps."""

    control_dt, action_dim = 0.1, 1
    device = torch.device("cpu")

    def __init__(self, num_envs: int = 1, max_episode_steps: int = 50) -> None:
        self.num_envs, self.max_episode_steps = num_envs, max_episode_steps
        self.obs_dims = {"policy": 3, "critic": 2}
        self.reward_weights: Mapping[str, float] = {"position": 0.5, "velocity": 0.1}
        self.generator = torch.Generator()
        self.state, self.previous = torch.zeros(num_envs, 2), torch.zeros(num_envs, 1)
        self.episode_step = torch.zeros(num_envs, dtype=torch.long)

    def _draw(self) -> Tensor:
        return torch.rand(self.num_envs, 2, generator=self.generator) * 2 - 1

    def _obs(self) -> dict[str, Tensor]:
        noise = 0.001 * torch.randn(self.num_envs, 2, generator=self.generator)
        return {"policy": torch.cat((self.state + noise, self.previous), 1), "critic": self.state.clone()}

    def reset(self, seed: int | None = None) -> dict[str, Tensor]:
        if seed is not None:
            self.generator.manual_seed(seed)
        self.state, self.previous = self._draw(), torch.zeros(self.num_envs, 1)
        self.episode_step.zero_()
        return self._obs()

    def recalculate_reward(self, critic_obs: Tensor, action: Tensor, terminated: Tensor, weights: Mapping) -> Tensor:
        x2, v2 = critic_obs.square().unbind(1)
        return torch.where(terminated, 0.0, 1.0 - weights["position"] * x2 - weights["velocity"] * v2)

    def step(self, action: Tensor) -> Step:
        before = self.state
        velocity = 0.95 * before[:, 1:] + 0.3 * action
        self.state, self.previous = torch.cat((before[:, :1] + 0.1 * velocity, velocity), 1), action.clone()
        self.episode_step += 1
        terminated = self.state[:, 0].abs() > 2.0
        truncated = (self.episode_step >= self.max_episode_steps) & ~terminated
        reward = self.recalculate_reward(before, action, terminated, self.reward_weights)
        done, final_obs = terminated | truncated, self._obs()
        fresh = self._draw()
        self.state = torch.where(done[:, None], fresh, self.state)
        self.previous = torch.where(done[:, None], 0.0, self.previous)
        self.episode_step[done] = 0
        obs = {k: torch.where(done[:, None], v, final_obs[k]) for k, v in self._obs().items()}
        return Step(obs, reward, {}, terminated, truncated, final_obs)

    def state_dict(self) -> dict[str, Any]:
        tensors = {k: getattr(self, k).clone() for k in ("state", "previous", "episode_step")}
        return tensors | {"generator": self.generator.get_state(), "reward_weights": dict(self.reward_weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.state, self.previous, self.episode_step = state["state"], state["previous"], state["episode_step"]
        self.generator.set_state(state["generator"])
        self.reward_weights = dict(state["reward_weights"])
