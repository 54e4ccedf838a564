"""Gymnasium environments one after the other, each with an episode of its own."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np

from .suites import Refused, bounds_of, chosen_parts, expert_of, flattened, limit_of, make_env, timing_of

SUCCESS_KEYS = ("success", "is_success")


def episode_seed(seed: int, index: int, episode: int) -> int:
    """The seed of one episode of environment `index`: whatever worker it lives in, whatever came before."""
    return int(np.random.SeedSequence([seed, index, episode]).generate_state(1)[0])


class Slot:
    """One environment and its present episode.

    Attributes:
        seed, episode: which episode it is. obs: the last observation, as the environment gave it.
        success: None where nothing was said of it.
    """

    def __init__(self, env: Any, index: int, config: dict[str, Any], parts: list[dict[str, Any]], limit: int) -> None:
        self.env, self.index, self.config, self.parts, self.limit = env, index, config, parts, limit
        self.low, self.high = env.action_space.low, env.action_space.high
        self.seed, self.episode, self.steps = 0, -1, 0
        self.success: bool | None = None
        self.obs: Any = None
        self.expert: Any = None
        self.seeder = getattr(env.unwrapped, "seed", None)  # of old: what they do not know is kept out of reset
        own = ("_check_success()",) if config["name"].startswith("robosuite/") else SUCCESS_KEYS
        self.keys = (config["success_key"],) if config["success_key"] else own

    def start(self, row: Any) -> None:
        """Begin the next episode and write its first observation."""
        self.episode, self.steps, self.success, self.expert = self.episode + 1, 0, None, None
        number = episode_seed(self.seed, self.index, self.episode)
        random.seed(number)
        np.random.seed(number)  # what suites draw without a generator of their own
        if callable(self.seeder):
            self.seeder(number)
        own = getattr(self.env.unwrapped, "rng", None)
        if isinstance(own, np.random.Generator):  # robosuite's, which its parts hold, too
            own.bit_generator.state = type(own.bit_generator)(number).state
        self.obs, _ = self.env.reset(seed=number)
        flattened(self.obs, self.parts, row)

    def step(self, action: Any, cut: bool, row: Any) -> tuple[float, bool, bool]:
        """One step: reward, terminated, truncated; a time limit is never a termination."""
        given = action.reshape(self.low.shape).astype(self.low.dtype)  # float32 may lie beyond a limit in float64
        np.minimum(np.maximum(given, self.low, out=given), self.high, out=given)
        self.obs, reward, terminated, truncated, info = self.env.step(given)
        self.steps += 1
        flattened(self.obs, self.parts, row)
        value = float(reward) if np.ndim(reward) == 0 else float(np.asarray(reward).reshape(()))
        if not math.isfinite(value):
            raise ValueError(f"the reward is {value}")
        now, before = self._said(info), self.success
        if now is not None:
            self.success = now or (bool(before) and self.config["success_when"] == "ever")
        if self.config["reward"] == "sparse":
            value = float(bool(now))
        late = bool(truncated) or cut or self.steps >= self.limit
        ended = bool(terminated) and not (late and self.steps >= self.limit and not now)
        ended = ended or bool(now and self.config["end_on_success"])
        if (ended or late) and self.success is None and self.config["end_on_success"]:
            raise ValueError(f"nothing was said of success: info has {sorted(info)}; name the key by `success_key`")
        return value, ended, late and not ended

    def _said(self, info: dict[str, Any]) -> bool | None:
        for key in self.keys:
            if key.endswith("()"):
                return bool(getattr(self.env.unwrapped, key[:-2])())
            if key in info:
                return bool(np.asarray(info[key]).reshape(-1)[0])
        return None

    def propose(self) -> Any:
        """The scripted expert's action, within the limits."""
        if self.expert is None:
            self.expert = expert_of(*(self.config[k] for k in ("expert", "name", "kwargs")))()
        ask = next((getattr(self.expert, n) for n in ("get_action", "act") if hasattr(self.expert, n)), self.expert)
        action = np.asarray(ask(self.obs), np.float64).reshape(-1)
        return np.clip(action, self.low.reshape(-1), self.high.reshape(-1))


class Group:
    """The environments `first` … `first + count` of a batch; the arrays are those of the whole batch.

    Args:
        config: `name`, `kwargs`, `imports`, `attributes`, `signals`, `first`, `count`, `episode_steps` (0: as the
            environment says), `reward`, `end_on_success`, `success_key`, `success_when`, `expert`, `auto_reset`.
    """

    repeatable = True  # an episode's seed and its actions give it again, unless the simulator itself is random

    def __init__(self, config: dict[str, Any]) -> None:
        self.config, self.first = config, config["first"]
        envs = [self._made() for _ in range(config["count"])]
        self.parts = chosen_parts(envs[0].observation_space, config["signals"])
        self.low, self.high = bounds_of(envs[0].action_space)
        self.dt, own = timing_of(envs[0])
        self.limit = limit_of(config["episode_steps"], own)
        self.slots = [Slot(e, self.first + i, config, self.parts, self.limit) for i, e in enumerate(envs)]
        self.arrays: dict[str, Any] = {}

    def _made(self) -> Any:
        random.seed(0)
        np.random.seed(0)  # some draw their goals when they are made: the same ones in each
        return make_env(*(self.config[k] for k in ("name", "kwargs", "imports", "attributes")))

    def describe(self) -> dict[str, Any]:
        """Signals, limits of the actions, seconds between steps and steps in an episode."""
        signals = [{"name": p["name"], "shape": p["shape"]} for p in self.parts]
        limits = {"low": self.low.tolist(), "high": self.high.tolist()}
        return {"signals": signals, **limits, "dt": self.dt, "steps": self.limit, "repeatable": self.repeatable}

    def reset(self, seed: int, episodes: list[int]) -> None:
        """Begin the episodes of these numbers, one for each environment of the batch."""
        for slot in self.slots:
            slot.seed, slot.episode = seed, episodes[slot.index] - 1
            self._within(slot, lambda s: s.start(self.arrays["obs"][s.index]))
            self.arrays["episode"][slot.index] = slot.episode

    def step(self) -> None:
        """One step of those that live; ended episodes are followed by the next one, where that is wanted."""
        for slot in self.slots:
            if self.arrays["live"][slot.index]:
                self._within(slot, self._step)

    def _step(self, slot: Slot) -> None:
        a, i = self.arrays, slot.index
        a["reward"][i], ended, late = slot.step(a["action"][i], bool(a["cut"][i]), a["final"][i])
        a["terminated"][i], a["truncated"][i] = ended, late
        a["success"][i] = -1 if slot.success is None else slot.success
        if (ended or late) and self.config["auto_reset"]:
            slot.start(a["obs"][i])
            a["episode"][i] = slot.episode
        else:
            a["obs"][i] = a["final"][i]

    def propose(self) -> None:
        """The scripted expert's actions."""
        for slot in self.slots:
            self._within(slot, lambda s: self.arrays["action"].__setitem__(s.index, s.propose()))

    def close(self) -> None:
        """Let go of the environments."""
        for slot in self.slots:
            slot.env.close()

    @staticmethod
    def _within(slot: Slot, act: Any) -> None:
        """Run `act(slot)`; whatever is raised says where."""
        try:
            act(slot)
        except Refused:
            raise
        except Exception as error:
            where = f"environment {slot.index}, step {slot.steps} of episode {slot.episode} (seed {slot.seed})"
            raise RuntimeError(f"{where}: {type(error).__name__}: {error}") from error
