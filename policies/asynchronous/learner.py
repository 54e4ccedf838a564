"""An off-policy learner whose steps come from an actor in another process.

Luo et al., SERL (2024) and HIL-SERL (2025): acting at the control rate, updates as fast as they go, and weights to the
actor every so many updates.
"""

from __future__ import annotations

import dataclasses
import queue
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.errors import ConfigError
from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.asynchronous.options import AsyncOptions
from robot_rl.policies.asynchronous.server import Fit, Server
from robot_rl.policies.asynchronous.transitions import from_message
from robot_rl.policies.asynchronous.wire import Message
from robot_rl.policies.off_policy.learner import OffPolicyLearner
from robot_rl.protocols import BatchedEnv

LONGEST = 2.0  # s of an iteration: no longer until something is logged, or a request to stop is heard


def asynchronous(spec: AlgorithmSpec, options: AsyncOptions, server: Server) -> AlgorithmSpec:
    """The same algorithm, with the steps of the actor that `server` talks to."""

    def create(env: BatchedEnv, config: Any, seed: int) -> AsyncLearner:
        return AsyncLearner(off_policy(spec, env, config, seed), options, server)

    return dataclasses.replace(spec, create=create)


def off_policy(spec: AlgorithmSpec, env: BatchedEnv, config: Any, seed: int) -> OffPolicyLearner[Any]:
    """The learner; ConfigError where it is of a kind that cannot learn from the steps of an older policy."""
    learner = spec.create(env, config, seed)
    if not isinstance(learner, OffPolicyLearner):
        raise ConfigError(f"{spec.name} cannot learn asynchronously; off-policy algorithms can, such as rlpd or resfit")
    if not learner.apart:
        raise ConfigError(f"{spec.name} needs whoever takes over in its own process; leave out --async and --listen")
    return learner


class AsyncLearner:
    """An `Algorithm`. Updates are made while an actor is connected and there are steps enough to learn from.

    The environment that the runner passes is not stepped; it says how large things are, and what a base policy needs.
    """

    def __init__(self, learner: OffPolicyLearner[Any], options: AsyncOptions, server: Server) -> None:
        self.learner, self.options, self.server = learner, options, server
        self.actor, self.number, self.lost = "", 0, 0  # whose step was recorded last, and which; steps that never came
        self._saved = ("", 0)  # what the newest checkpoint holds
        self._started = False
        self._since: tuple[int, int] | None = None  # steps and updates when this process made its first update

    @property
    def progress(self) -> tuple[int, int]:
        return self.learner.progress

    @property
    def env_steps(self) -> int:
        return self.learner.env_steps

    def prepare(self, env: BatchedEnv) -> None:
        """Read what the learner needs, and look at the environment once as the actor will."""
        self.learner.prepare(env)
        with torch.no_grad():
            self.learner.acting_env(env).reset(self.learner.seed)

    def step(self, env: BatchedEnv) -> dict[str, float]:
        """Take in steps and update, until `steps_per_iteration` have come or `LONGEST` s have passed."""
        del env
        if not self._started:
            self._start()
        self.server.keep(*self._saved)  # the checkpoint was written, or this would not be running
        learner, began, updates = self.learner, time.monotonic(), self.learner.updates
        end = min(learner.steps + learner.config.steps_per_iteration * learner.config.num_envs, self.progress[1])
        seen: dict[str, list[Tensor]] = {}
        while learner.steps < end and time.monotonic() - began < LONGEST:
            self._take_in()
            if self._may_update():
                for name, value in learner.update().items():
                    seen.setdefault(name, []).append(value)
                if learner.updates % self.options.push_every == 0:
                    self._push()
        self.server.finished = self.progress[0] >= self.progress[1]
        metrics = learner.report(seen)
        seconds = time.monotonic() - began
        metrics |= {f"actor/{name}": value for name, value in self.server.figures.items()}
        return metrics | {
            "actor/connected": float(self.server.connected), "actor/lost": float(self.lost),
            "learner/updates": float(learner.updates),
            "learner/updates_per_second": (learner.updates - updates) / max(seconds, 1e-9),
        }  # fmt: skip

    def _start(self) -> None:
        learner = self.learner
        self.server.go_on_after(self.actor, self.number)
        self.server.steps = learner.steps
        self._push()
        self.server.start(Fit(learner.dims, learner.action_dim, learner.config.num_envs))
        self._started = True

    def _take_in(self) -> None:
        """Record all that has come; where no update may be made, wait a moment for something."""
        idle = not self._may_update()
        while self.progress[0] < self.progress[1]:
            try:
                message = self.server.inbox.get(timeout=0.05) if idle else self.server.inbox.get_nowait()
            except queue.Empty:
                return
            idle = False
            self._record(message)

    def _record(self, message: Message) -> None:
        learner, fields = self.learner, message.fields
        obs, action, step = from_message(
            message, learner.dims, learner.action_dim, learner.config.num_envs, learner.device
        )
        actor, number = str(fields["actor"]), int(fields["number"])
        missing = number - self.number - 1 if actor == self.actor else number - 1
        self.lost += max(missing, 0)
        if learner.obs is None or actor != self.actor or missing or not fields["follows"]:
            learner.begin(obs)
        learner.record(action, step)
        self.actor, self.number = actor, number
        self.server.steps = learner.steps

    def _may_update(self) -> bool:
        learner, cap = self.learner, self.options.utd
        if not self.server.connected or learner.steps < learner.updates_from or len(learner.replay) == 0:
            return False
        if self._since is None:
            self._since = learner.steps - learner.config.num_envs, learner.updates
        steps = (learner.steps - self._since[0]) / learner.config.num_envs
        return cap == 0.0 or learner.updates - self._since[1] < cap * steps

    def _push(self) -> None:
        arrays = {name: value.detach().cpu().numpy() for name, value in self.learner.acting_state().items()}
        self.server.publish(Message("weights", {"updates": self.learner.updates}, arrays))

    def policy(self) -> nn.Module:
        return self.learner.policy()

    def state_dict(self) -> dict[str, Any]:
        """The learner's own, so that it may also go on without an actor, and the last step that is in it."""
        self._saved = self.actor, self.number
        return self.learner.state_dict() | {"last_step": [self.actor, self.number, self.lost]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.learner.load_state_dict(state)
        self.actor, self.number, self.lost = state.get("last_step", ("", 0, 0))
