"""The actor's loop: at the control rate, with the newest weights there are, and never waiting for the learner."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.policies.asynchronous.backlog import Backlog
from robot_rl.policies.asynchronous.link import Link
from robot_rl.policies.asynchronous.transitions import to_message
from robot_rl.policies.asynchronous.wire import Arrays, encode
from robot_rl.policies.off_policy.learner import OffPolicyLearner
from robot_rl.protocols import BatchedEnv

COLLECT_EVERY = 1.0  # s between collections of young garbage, in a pause between two ticks
PAUSE = 2e-3  # s that such a pause must be long


class LoopMeter(Protocol):
    """What is measured of the loop: `hardware.loop_stats.LoopStats`."""

    ticks: int
    missed: int

    def add_period(self, period: float) -> None: ...

    def summary(self) -> dict[str, float]: ...


@dataclasses.dataclass(frozen=True)
class ActorOptions:
    """How an actor lives.

    Attributes:
        period: s from tick to tick; 0: as fast as it can.
        queue: see `AsyncOptions`. pending: file for the steps that the learner has not got when the actor ends; those
            that lie there already are sent first.
        give_up: s without a learner after which the actor ends; 0: it acts for ever.
    """

    period: float
    queue: int = 10_000
    pending: Path | None = None
    give_up: float = 0.0


@dataclasses.dataclass(frozen=True)
class Acted:
    """How it ended.

    Attributes:
        reason: why. ticks: steps of all environments. dropped: of these, lost unsent. taken, refused: sets of weights.
        pending: steps left in the file.
    """

    reason: str
    ticks: int
    dropped: int
    taken: int
    refused: int
    pending: int


def for_acting(config: Any) -> Any:
    """The learner's config as far as acting needs it: no demonstrations, and hardly any replay."""
    return dataclasses.replace(config, demos="", replay_steps=1)


def refusal(own: Mapping[str, Tensor], arrays: Arrays) -> str:
    """Why these arrays cannot take the place of `own`, or ""."""
    if set(own) != set(arrays):
        return f"they are other ones: {', '.join(sorted(set(own) ^ set(arrays)))}"
    for name, value in own.items():
        new = torch.from_numpy(arrays[name].copy())
        if new.shape != value.shape or new.dtype != value.dtype:
            return f"{name} is {new.dtype} {tuple(new.shape)}, needed is {value.dtype} {tuple(value.shape)}"
        if not bool(torch.isfinite(new).all()):
            return f"{name} is not finite"
    return ""


class Actor:
    """Acts in `env` as `learner` would, which is one of the same algorithm and settings that never updates.

    Args:
        learner: `prepare` was called. env: N environments, or one robot.
        address: of the learner. name: of this actor, unlike any other's.
        meter: fresh. say: told what happens.
    """

    def __init__(
        self, learner: OffPolicyLearner[Any], env: BatchedEnv, address: tuple[str, int], name: str,
        options: ActorOptions, meter: LoopMeter, say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.learner, self.options, self.meter, self.say = learner, options, meter, say
        self.env = learner.acting_env(env)
        self.groups = tuple(learner.dims)
        self.backlog = Backlog(name, options.queue)
        taken_over = 0 if options.pending is None else self.backlog.take_over(options.pending)
        if taken_over:
            say(f"{taken_over} steps of an earlier actor are sent first")
        self.taken, self.refused = 0, 0
        hello = {"dims": dict(learner.dims), "action_dim": learner.action_dim, "num_envs": learner.config.num_envs}
        self.link = Link(address, self.backlog, hello, self.figures, say)

    def figures(self) -> dict[str, float]:
        """What the learner writes into its log."""
        own = {"ticks": self.meter.ticks, "missed": self.meter.missed, "dropped": self.backlog.dropped}
        own |= {"kept": len(self.backlog), "weights_taken": self.taken, "weights_refused": self.refused}
        return {k: v for k, v in self.meter.summary().items() if k.startswith("period")} | own

    def run(self, stop: Callable[[], bool]) -> Acted:
        """Act until `stop()`, until training is done, or until the learner is given up.

        Raises:
            ConfigError: the learner does not want this actor.
            NonFinite: an observation, an action or a reward is not finite.
        """
        reason = "stopped before the learner was there"
        try:
            while not (stop() or self._over()):
                if self.link.wait_for_weights(0.1):
                    reason = self._act(stop)
                    break
        finally:
            self.link.close()
            left = 0
            if self.options.pending is not None and not self.link.done.is_set():
                left = self.backlog.write(self.options.pending)
            elif self.options.pending is not None:
                self.options.pending.unlink(missing_ok=True)
        if self.link.refusal:
            raise ConfigError(self.link.refusal)
        return Acted(reason, self.meter.ticks, self.backlog.dropped, self.taken, self.refused, left)

    def _over(self) -> str:
        """Why to end, or ""."""
        if self.link.done.is_set():
            return "training is done"
        gone = 0.0 if self.link.connected else time.monotonic() - self.link.gone_since
        if self.options.give_up and gone > self.options.give_up:
            return f"no learner for {gone:.0f} s"
        return "refused" if self.link.refusal else ""

    def _act(self, stop: Callable[[], bool]) -> str:
        learner = self.learner
        self._take_weights()
        obs, follows = self.env.reset(learner.seed), False
        began = deadline = time.monotonic()
        collected = began
        while not stop():
            if reason := self._over():
                return reason
            self._take_weights()
            action, step = learner.act(self.env, obs)
            learner.steps += learner.config.num_envs
            number = self.backlog.last + 1
            message = to_message(self.backlog.actor, number, follows, obs, action, step, self.groups)
            self.backlog.add(encode(message))
            obs, follows = step.obs, True
            self.meter.ticks += 1
            deadline = self._next_deadline(deadline)
            if (now := time.monotonic()) - collected > COLLECT_EVERY and deadline - now > PAUSE:
                gc.collect(0)
                collected = now
            time.sleep(max(deadline - time.monotonic(), 0.0))
            self.meter.add_period((now := time.monotonic()) - began)
            began = now
        return "stopped"

    def _next_deadline(self, deadline: float) -> float:
        """One period on, or, where that has passed, the first multiple that has not: those between are missed."""
        period, now = self.options.period, time.monotonic()
        if period == 0.0:
            return now
        missed = int((now - deadline) / period)
        self.meter.missed += missed
        return deadline + period * (1 + missed)

    def _take_weights(self) -> None:
        message = self.link.take_weights()
        if message is None:
            return
        own = self.learner.acting_state()
        if reason := refusal(own, message.arrays):
            self.refused += 1
            self.say(f"weights refused, the old ones stay: {reason}")
            self.link.refused(reason)
            return
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(torch.from_numpy(message.arrays[name].copy()))
        self.taken += 1
