"""Any BatchedEnv as a Stable-Baselines3 VecEnv: what SB3 algorithms train on. Import it only where SB3 is installed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from robot_rl.policies.guards import require_finite
from robot_rl.policies.training_log import EpisodeMeter
from robot_rl.protocols import BatchedEnv


class BatchedVecEnv(VecEnv):
    """SB3's view of the observation group `policy`; numbers that are not finite are named and refused.

    Args:
        env: environments that reset themselves.
        seed: of the first reset.
    """

    def __init__(self, env: BatchedEnv, seed: int) -> None:
        self.env, self.first_seed = env, seed
        self.meter = EpisodeMeter(env.num_envs)
        self.started = False
        self.action = torch.zeros(env.num_envs, env.action_dim)
        obs = spaces.Box(-np.inf, np.inf, (env.obs_dims["policy"],), np.float32)
        super().__init__(env.num_envs, obs, spaces.Box(-1.0, 1.0, (env.action_dim,), np.float32))

    def reset(self) -> np.ndarray:
        """First observations (N, n); seeded the first time only."""
        obs = self.env.reset(None if self.started else self.first_seed)
        self.started = True
        return _array(obs["policy"])

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions (N, m)."""
        self.action = torch.as_tensor(actions, dtype=torch.float32)
        require_finite("action", self.action)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step; `infos` hold `terminal_observation` and `TimeLimit.truncated` where an episode ended."""
        step = self.env.step(self.action.to(self.env.device))
        require_finite("obs['policy']", step.obs["policy"])
        require_finite("reward", step.reward)
        self.meter.add(step.reward, step.terminated, step.truncated)
        done = step.terminated | step.truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in done.nonzero().reshape(-1).tolist():
            final = step.final_obs["policy"][i]
            require_finite("final_obs['policy']", final)
            cut = bool(step.truncated[i]) and not bool(step.terminated[i])
            infos[i] = {"terminal_observation": _array(final), "TimeLimit.truncated": cut}
        return _array(step.obs["policy"]), _array(step.reward), done.cpu().numpy().copy(), infos

    def close(self) -> None:
        """Nothing to close: the environment belongs to the caller."""

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """The batch's attribute, repeated for each index."""
        value = None if attr_name == "render_mode" else getattr(self.env, attr_name)
        return [value] * len(self._range(indices))

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """Set the attribute of the whole batch."""
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: int | Iterable[int] | None = None, **kwargs: Any
    ) -> list[Any]:
        """Call the batch's method once and repeat the result for each index."""
        return [getattr(self.env, method_name)(*args, **kwargs)] * len(self._range(indices))

    def env_is_wrapped(self, wrapper_class: type, indices: int | Iterable[int] | None = None) -> list[bool]:
        """No Gymnasium wrapper is ever around one environment of a batch."""
        return [False] * len(self._range(indices))

    def _range(self, indices: int | Iterable[int] | None) -> Sequence[int]:
        return list(self._get_indices(indices))


def _array(tensor: torch.Tensor) -> np.ndarray:
    """A float32 copy: SB3 keeps what it is given, environments may reuse their buffers."""
    return tensor.detach().cpu().numpy().astype(np.float32, copy=True)
