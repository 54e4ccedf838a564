"""An environment with somebody at its side who may act instead of the policy."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.policies.human.config import SCRIPTED, HumanConfig
from robot_rl.policies.human.recorder import Recorder
from robot_rl.protocols import Human, Step

WINDOW = 100  # ended episodes that the metrics look back on


class InterventionEnv:
    """A `BatchedEnv` around another one: what the human does is executed, where the human acts.

    The environment needs, besides `BatchedEnv`: `signals()`, as `BaseActionEnv` does.

    Attributes:
        human: who watches; None until `attend`.
        intervened: (N,) bool, the human acted in the last step. began: and did not in the step before of this episode.
        executed: (N, A), what was done in it.
        later: (N,) bool, it was not its episode's first. success: (N,) bool, it ended an episode with success.
    """

    def __init__(self, env: Any) -> None:
        if not hasattr(env, "signals"):
            raise ConfigError("this environment has no `signals`, so nobody can watch it")
        self.env: Any = env
        self.human: Human | None = None
        self.recorder: Recorder | None = None
        self.num_envs, self.action_dim, self.control_dt = env.num_envs, env.action_dim, env.control_dt
        self.max_episode_steps, self.device = env.max_episode_steps, env.device
        self.obs_dims: Mapping[str, int] = env.obs_dims
        n = self.num_envs
        self.intervened, self.began, self.later = (torch.zeros(n, dtype=torch.bool) for _ in range(3))
        self.success = torch.zeros(n, dtype=torch.bool, device=self.device)
        self.executed = torch.zeros(n, self.action_dim)
        self._obs: dict[str, Tensor] = {}
        self._running = np.zeros((2, n), np.int64)  # steps of this episode, and those of the human
        self._ended: deque[list[float]] = deque(maxlen=WINDOW)

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # not there yet
            raise AttributeError(name)
        return getattr(self.env, name)  # what the task has besides: `task`, `observer`, `episode_step`, …

    def attend(self, config: HumanConfig, seed: int) -> None:
        """Let the human watch that `config` names, and record where it says so.

        Raises:
            ConfigError: nobody is named, or who is does not fit. DataError: the file cannot be appended to.
        """
        self.human = make_human(config, self.env, seed)
        if config.record:
            self.recorder = Recorder.open(config.record, self)  # pyright: ignore[reportArgumentType]

    def reset(self, seed: int | None = None) -> dict[str, Tensor]:
        obs = self.env.reset(seed)
        self._watcher().reset(np.arange(self.num_envs))
        self._running[:] = 0
        self.intervened = torch.zeros_like(self.intervened)
        self._obs = obs
        if self.recorder is not None:
            self.recorder.begin(range(self.num_envs), self._seen())
        return obs

    def step(self, action: Tensor, asked: Tensor | None = None) -> Step:
        """One control step; `asked` (N,) bool: where the policy wants to be taken over."""
        seen, proposed = self._seen(), action.detach().cpu().numpy()
        help_wanted = np.zeros(self.num_envs, np.bool_) if asked is None else asked.cpu().numpy()
        rows, theirs = self._watcher().act(seen, proposed, help_wanted)
        self.later = torch.from_numpy(self._running[0] > 0)
        self.began = torch.from_numpy(rows) & ~(self.intervened & self.later)
        self.intervened = torch.from_numpy(rows.copy())
        chosen = torch.from_numpy(np.asarray(theirs, np.float32)).to(action)
        self.executed = torch.where(self.intervened.to(action.device)[:, None], chosen, action)
        step = self.env.step(self.executed)
        self._running += np.stack((np.ones_like(rows), rows))
        done = (step.terminated | step.truncated).cpu().numpy()
        ended = np.flatnonzero(done)
        self.success = self._succeeded(step)
        success = self.success.cpu().numpy()
        if self.recorder is not None:
            self.recorder.add(self, seen, proposed, step, success)  # pyright: ignore[reportArgumentType]
        self._obs = step.obs
        if len(ended):
            self._count(ended, success)
            self._watcher().reset(ended)
            if self.recorder is not None:
                self.recorder.begin(ended, self._seen())
        return step

    def metrics(self) -> dict[str, float]:
        """Over the last 100 ended episodes; empty before there is one.

        `human/share` of their steps the human's, `human/episodes` of them with help, `episode/success`,
        `episode/unaided` successes without help, `episode/cycle` steps of the successful ones.
        """
        if not self._ended:
            return {}
        steps, theirs, success = np.array(self._ended).T
        found = {
            "human/share": theirs.sum() / steps.sum(), "human/episodes": (theirs > 0).mean(),
            "episode/success": success.mean(), "episode/unaided": (success * (theirs == 0)).mean(),
        }  # fmt: skip
        if success.any():
            found["episode/cycle"] = (steps * success).sum() / success.sum()
        return {name: float(value) for name, value in found.items()}

    def state_dict(self) -> dict[str, Any]:
        """What belongs to the human; the environment's own state is kept by whoever made it."""
        flags = {name: getattr(self, name).clone() for name in ("intervened", "began", "later", "executed")}
        obs = {name: value.clone() for name, value in self._obs.items()}
        state = {} if self.human is None else self.human.state_dict()
        return {
            "human": state, "flags": flags, "obs": obs, "running": torch.from_numpy(self._running.copy()),
            "ended": list(self._ended),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._watcher().load_state_dict(state["human"])
        for name, value in state["flags"].items():
            setattr(self, name, value)
        self._obs = {name: value.to(self.device) for name, value in state["obs"].items()}
        self._running = state["running"].numpy().copy()
        self._ended = deque(state["ended"], maxlen=WINDOW)

    def _count(self, ended: Any, success: Any) -> None:
        for row in ended.tolist():
            self._ended.append([float(self._running[0, row]), float(self._running[1, row]), float(success[row])])
        self._running[:, ended] = 0

    def _succeeded(self, step: Step) -> Tensor:
        """(N,) bool: by the task's word, or where it has none, ended with a reward."""
        word = getattr(self.env, "final_success", None)
        done = step.terminated | step.truncated
        return (step.terminated & (step.reward > 0)) if word is None else (word & done)

    def _seen(self) -> dict[str, Any]:
        signals = {name: value.cpu().numpy() for name, value in self.env.signals().items()}
        return signals | {f"obs/{name}": value.cpu().numpy() for name, value in self._obs.items()}

    def _watcher(self) -> Human:
        if self.human is None:
            raise ConfigError("nobody is watching yet")
        return self.human


def make_human(config: HumanConfig, env: Any, seed: int) -> Human:
    """Whoever `config` names, for this environment.

    Raises:
        ConfigError: nobody is named; a device watches one environment only; what is named does not fit the task.
    """
    if not config.who:
        raise ConfigError("nobody is in the loop; give --human keyboard, gamepad, spacemouse or scripted:base:<name>")
    if config.who.startswith(SCRIPTED):
        from robot_rl.policies.human.scripted import scripted_human

        return scripted_human(config, env, seed)
    from robot_rl.teleop.human import person_at

    return person_at(config.who, config.mapping, env)
