"""Small Gymnasium environments that behave well or badly; workers import this file by its name."""

from __future__ import annotations

import os
import sys
import time

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete


def box(size: int, low: float = -np.inf, high: float = np.inf, dtype: type = np.float64) -> Box:
    return Box(low, high, (size,), dtype)


class Walk(gym.Env):
    """Position += action/10 from a random start; success within 0.1 of 1; float64, limits −2 … 4, no registration."""

    metadata = {"render_fps": 20}  # noqa: RUF012
    observation_space = box(3)
    action_space = Box(np.array([-2.0, 0.0]), np.array([2.0, 4.0]), dtype=np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.steps = self.np_random.uniform(-0.5, 0.5), 0
        return self.obs(), {}

    def obs(self):
        return np.array([self.x, self.steps, 0.25])

    def step(self, action):
        assert action.dtype == np.float64 and action.shape == (2,) and self.action_space.contains(action)
        self.x += 0.1 * action[0]
        self.steps += 1
        return self.obs(), -abs(1.0 - self.x), False, False, {"success": abs(1.0 - self.x) < 0.1, "given": action}


class Strict(Walk):
    """Says the time limit as a termination, and raises when it is stepped once more; never ends on success."""

    horizon = 12

    def step(self, action):
        if self.steps >= self.horizon:
            raise ValueError("reset me first")
        obs, reward, _, _, info = super().step(action)
        return obs, reward, self.steps == self.horizon, False, info


class Falls(Walk):
    """Fails beyond −1; says nothing of success."""

    def step(self, action):
        obs, reward, _, late, _ = super().step(action)
        return obs, reward, self.x < -1.0, late, {}


class Goal(Walk):
    """Observations as a Dict with another inside, in an order that is not the alphabet's; is_success."""

    observation_space = Dict({"observation": Box(-9, 9, (2, 2)), "desired_goal": box(1), "a": Dict({"Z z": box(1)})})

    def obs(self):
        here = np.array([[1.0, 2.0], [3.0, self.x]], np.float32)
        return {"observation": here, "desired_goal": np.array([5.0]), "a": {"Z z": np.array([7.0])}}

    def step(self, action):
        obs, reward, ended, late, info = super().step(action)
        return obs, reward, ended, late, {"is_success": np.float32(info["success"])}


class Unseeded(Walk):
    """Ignores the seed of reset, as Meta-World does, but has the old method; draws from NumPy's own generator, too."""

    def seed(self, seed):
        self.own = np.random.RandomState(seed)

    def reset(self, *, seed=None, options=None):
        _obs, info = super().reset()
        self.x = self.own.uniform(-0.5, 0.5) + np.random.uniform(-0.1, 0.1)
        return self.obs(), info


class OwnGenerator(Walk):
    """Draws from a generator `rng` that reset does not seed, as robosuite does."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng()

    def reset(self, *, seed=None, options=None):
        _obs, info = super().reset()
        self.x = self.rng.uniform(-0.5, 0.5)
        return self.obs(), info


class Drifts(Walk):
    """Random in every step, beyond any seed."""

    def step(self, action):
        self.x += 1e-3 * int.from_bytes(os.urandom(2), "big") / 2**16
        return super().step(action)


class Bad(Walk):
    """Does `what` in its third step."""

    def __init__(self, what: str) -> None:
        self.what = what

    def step(self, action):
        obs, reward, ended, late, info = super().step(action)
        if self.steps == 3:
            if self.what == "raise":
                raise KeyError("the arm fell off")
            if self.what == "die":
                sys.stderr.write("a last word\n")
                sys.stderr.flush()
                os._exit(7)
            if self.what == "hang":
                time.sleep(600)
            obs = {"nan": np.array([0.0, np.nan, 1.0]), "shape": np.zeros(4), "huge": obs * 1e300}.get(self.what, obs)
            reward = {"reward": np.nan, "rewards": np.zeros(2)}.get(self.what, reward)
        return obs, reward, ended, late, info


class Prints(Walk):
    """Talks on standard output, which is not the channel of the worker."""

    def step(self, action):
        sys.stdout.write("\x00\x01 hello {}\n")
        return super().step(action)


def walk(kind: str = "Walk", **kwargs):
    """Any of these."""
    return globals()[kind](**kwargs)


def odd_space(which: str):
    """An environment whose spaces cannot be learnt on."""
    env = Walk()
    if which == "discrete":
        env.action_space = Discrete(3)
    elif which == "unlimited":
        env.action_space = box(2)
    elif which == "integers":
        env.action_space = Box(0, 5, (2,), np.int64)
    elif which == "picture":
        env.observation_space = Dict({"camera": Box(0, 255, (96, 96, 3), np.uint8), "state": box(3)})
    else:
        env.observation_space = Discrete(4)
    return env


def expert(obs):
    """Straight to 1, beyond the limits of the action."""
    return np.array([10.0 * (1.0 - obs[0]), 1.0])


gym.register("Own/Walk-v0", entry_point="foreign_envs:Walk", max_episode_steps=5)
gym.register("Own/Run-v3", entry_point="foreign_envs:Walk", max_episode_steps=5)
