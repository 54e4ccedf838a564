"""A batch of one of EnvPool's environments, stepped by its own threads."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from .slots import SUCCESS_KEYS
from .suites import Refused, bounds_of, chosen_parts, flattened, limit_of, timing_of


class Pool:
    """All environments of a batch in one worker; `config` as for `Group`.

    EnvPool takes seeds only when a batch is made, so `reset` makes it anew, and an episode cannot be had again.
    """

    repeatable = False

    def __init__(self, config: dict[str, Any]) -> None:
        self.config, self.count, self.step_of = config, config["count"], np.zeros(config["count"], np.int64)
        unsupported = [k for k in ("expert", "attributes") if config[k]]
        if unsupported:
            raise Refused("config", f"option '{unsupported[0]}' cannot be used with EnvPool")
        self.success: list[bool | None] = [None] * self.count
        self.keys = (config["success_key"],) if config["success_key"] else SUCCESS_KEYS
        self.pool = self._made(0)
        self.parts = chosen_parts(self.pool.observation_space, config["signals"])
        self.low, self.high = bounds_of(self.pool.action_space)
        self.dt = timing_of(self.pool)[0]
        self.limit = limit_of(config["episode_steps"], int(self.pool.config.get("max_episode_steps") or 0) or None)
        self.arrays: dict[str, Any] = {}

    def _made(self, seed: int) -> Any:
        envpool = importlib.import_module("envpool")
        for module in self.config["imports"]:
            importlib.import_module(module)
        name, known = self.config["name"], envpool.list_all_envs()
        if name not in known:
            raise Refused("name", name, what="environment", near=sorted(known))
        given = {"num_envs": self.count, "seed": seed, **self.config["kwargs"]}
        return envpool.make(name, env_type="gymnasium", **given)

    def describe(self) -> dict[str, Any]:
        """As `Group.describe`."""
        signals = [{"name": p["name"], "shape": p["shape"]} for p in self.parts]
        limits = {"low": self.low.tolist(), "high": self.high.tolist()}
        return {"signals": signals, **limits, "dt": self.dt, "steps": self.limit, "repeatable": self.repeatable}

    def reset(self, seed: int, episodes: list[int]) -> None:
        """Make the batch anew; which episodes it plays follows from the seed and the first number."""
        self.pool = self._made(int(np.random.SeedSequence([seed, episodes[0]]).generate_state(1)[0] >> 1))
        self._look(self.pool.reset()[0], np.arange(self.count), "obs")
        self.step_of[:], self.success = 0, [None] * self.count
        self.arrays["episode"][:] = episodes

    def step(self) -> None:
        """One step of those that live."""
        a, c = self.arrays, self.config
        ids = np.flatnonzero(a["live"])
        space = self.pool.action_space
        given = np.clip(a["action"][ids].astype(space.dtype), space.low.reshape(-1), space.high.reshape(-1))
        obs, reward, terminated, truncated, info = self.pool.step(given.reshape(-1, *space.shape), ids.astype(np.int32))
        order = np.asarray(info["env_id"])  # as they became ready
        self.step_of[order] += 1
        self._look(obs, order, "final")
        a["obs"][order] = a["final"][order]
        for row, i in enumerate(order):
            now = self._said(info, row)
            if now is not None:
                self.success[i] = now or (bool(self.success[i]) and c["success_when"] == "ever")
            late = bool(truncated[row]) or bool(a["cut"][i]) or self.step_of[i] >= self.limit
            ended = bool(terminated[row]) and not (self.step_of[i] >= self.limit and not now)
            ended = ended or bool(now and c["end_on_success"])
            a["reward"][i] = float(bool(now)) if c["reward"] == "sparse" else reward[row]
            a["terminated"][i], a["truncated"][i] = ended, late and not ended
            a["success"][i] = -1 if self.success[i] is None else self.success[i]
        if not np.isfinite(a["reward"][order]).all():
            raise ValueError(f"the reward of environment {order[~np.isfinite(a['reward'][order])][0]} is not finite")
        over = order[(a["terminated"][order] | a["truncated"][order]).astype(bool)]
        if len(over) and c["auto_reset"]:
            self._again(over)

    def _again(self, over: Any) -> None:
        obs, info = self.pool.reset(over.astype(np.int32))
        self._look(obs, np.asarray(info["env_id"]), "obs")
        self.step_of[over] = 0
        self.arrays["episode"][over] += 1
        for i in over:
            self.success[i] = None

    def propose(self) -> None:
        """There are no experts."""
        raise Refused("config", "EnvPool has no scripted experts")

    def close(self) -> None:
        """Let go of the batch."""
        self.pool.close()

    def _said(self, info: dict[str, Any], row: int) -> bool | None:
        found = next((info[k] for k in self.keys if k in info), None)
        return None if found is None else bool(found[row])

    def _look(self, obs: Any, ids: Any, name: str) -> None:
        for row, i in enumerate(ids):
            flattened(_row(obs, row), self.parts, self.arrays[name][i])


def _row(obs: Any, row: int) -> Any:
    return {k: _row(v, row) for k, v in obs.items()} if isinstance(obs, dict) else obs[row]
