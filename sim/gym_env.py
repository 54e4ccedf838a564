"""Gymnasium faces of the registered tasks; importing this module registers them.

`gymnasium.make("robot_rl/QuadrotorHover-v0")` is one environment in numpy, `make_vec(..., num_envs=N)` the whole batch;
both take the task's options, for example `options={"delay.max": 0.02}`. Gymnasium knows the tasks once robot_rl is
imported after it; in any order of imports by `gymnasium.make("robot_rl.sim.gym_env:robot_rl/QuadrotorHover-v0")`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from robot_rl.errors import ConfigError, NumericalError
from robot_rl.protocols import BatchedEnv
from robot_rl.sim.gym_registration import gym_id, register_all
from robot_rl.sim.task_spec import make_env

__all__ = ["GymTask", "GymVectorTask", "gym_id", "register_all"]

Array = NDArray[Any]
OBS_LIMIT = 1e3  # observations are clipped to ± this, far outside what an episode reaches, so that the space is bounded


def _spaces(env: BatchedEnv) -> tuple[Box, Box]:
    obs = Box(-OBS_LIMIT, OBS_LIMIT, (env.obs_dims["policy"],), np.float32)
    return obs, Box(-1.0, 1.0, (env.action_dim,), np.float32)


def _numpy(tensor: torch.Tensor) -> Array:
    """A copy on the host: the environment may write to its own memory later."""
    return np.array(tensor.detach().cpu().numpy())


def _obs(tensor: torch.Tensor) -> Array:
    return np.clip(np.nan_to_num(_numpy(tensor), nan=0.0), -OBS_LIMIT, OBS_LIMIT).astype(np.float32)


def _actions(given: Array) -> torch.Tensor:
    """Raises NumericalError where a number is not finite: a vehicle would carry it on into every later reward."""
    actions = torch.as_tensor(np.asarray(given, dtype=np.float32))
    if not bool(torch.isfinite(actions).all()):
        raise NumericalError(f"action {np.array2string(actions.numpy(), threshold=8)} is not finite; check the policy")
    return actions


def _flight_pictures(env: Any) -> Callable[[], Array]:
    """Draws the first vehicle with the trail it leaves."""
    from robot_rl.sim.quadrotor.render import FlightRenderer

    renderer = FlightRenderer()

    def picture() -> Array:
        seen = {k: v[0].cpu().numpy() for k, v in env.true_signals().items()}
        pose = seen["base_pos_w"], seen["base_quat_wxyz"]
        speed = float(np.linalg.norm(seen["base_lin_vel_w"]))
        return renderer.frame(*pose, seen["target_pos_w"], seen["rotor_speed"], speed)

    return picture


def _scene_pictures(env: Any) -> Callable[[], Array]:
    """Draws the first simulation of an environment with joints and contacts."""
    from robot_rl.sim.articulated.render import SceneRenderer

    renderer = SceneRenderer(env.model, follow=env.robot.base)

    def picture() -> Array:
        placed = {name: pose[0].cpu().numpy() for name, pose in env.placed().items()}
        return renderer.frame(env.physics.qpos[0].cpu().numpy(), placed=placed)

    return picture


class GymTask(gymnasium.Env[Array, Array]):
    """One environment of a task. `info` has the costs, and `critic_obs`, the privileged observation."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        render_mode: str | None = None,
        device: str = "cpu",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(f"render_mode '{render_mode}'; allowed: None, {', '.join(self.metadata['render_modes'])}")
        self.render_mode = render_mode
        self.env = make_env(task, 1, 0, device, options)
        self.observation_space, self.action_space = _spaces(self.env)
        self._fresh = True
        self._renderer: Callable[[], Array] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        first = int(self.np_random.integers(2**31)) if seed is not None or self._fresh else None
        self._fresh = False
        if not hasattr(self.env, "model"):  # a flight begins a new trail
            self._renderer = None
        obs = self.env.reset(first)
        return _obs(obs["policy"][0]), {"critic_obs": _numpy(obs["critic"][0])}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        step = self.env.step(_actions(action)[None])
        info: dict[str, Any] = {f"cost/{k}": float(v[0]) for k, v in step.cost.items()}
        info["critic_obs"] = _numpy(step.final_obs["critic"][0])
        done = bool(step.terminated[0]), bool(step.truncated[0])
        return _obs(step.final_obs["policy"][0]), float(step.reward[0]), *done, info

    def render(self) -> Array | None:
        """A picture (480, 640, 3) uint8 where `render_mode` is `rgb_array`."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            self._renderer = (_scene_pictures if hasattr(self.env, "model") else _flight_pictures)(self.env)
        return self._renderer()


class GymVectorTask(VectorEnv[Array, Array, Array]):
    """The whole batch as a Gymnasium vector environment that resets in the same step."""

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        render_mode: str | None = None,
        device: str = "cpu",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if render_mode is not None:
            raise ConfigError(
                f"render_mode '{render_mode}': a batch is not rendered; use gymnasium.make or render_flight"
            )
        self.num_envs, self.render_mode = num_envs, None
        self.env = make_env(task, num_envs, 0, device, options)
        self.single_observation_space, self.single_action_space = _spaces(self.env)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._fresh = True

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """`seed`: one number for the batch; of a list the first, for the batch has one random stream."""
        chosen = next((s for s in seed if s is not None), None) if isinstance(seed, (list, tuple)) else seed
        super().reset(seed=chosen)
        first = int(self.np_random.integers(2**31)) if chosen is not None or self._fresh else None
        self._fresh = False
        obs = self.env.reset(first)
        return _obs(obs["policy"]), {"critic_obs": _numpy(obs["critic"])}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        step = self.env.step(_actions(actions))
        terminated, truncated = _numpy(step.terminated), _numpy(step.truncated)
        info: dict[str, Any] = {f"cost/{k}": _numpy(v) for k, v in step.cost.items()}
        info["critic_obs"] = _numpy(step.obs["critic"])
        done = terminated | truncated
        if done.any():
            final = np.full(self.num_envs, None, dtype=object)
            last = _obs(step.final_obs["policy"])
            for i in np.flatnonzero(done):
                final[i] = last[i]
            info |= {"final_obs": final, "_final_obs": done, "final_info": {}, "_final_info": done}
        return _obs(step.obs["policy"]), _numpy(step.reward), terminated, truncated, info


register_all()
