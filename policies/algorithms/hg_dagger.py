"""HG-DAgger: cloning that goes on with what a human did where the clone was taken over.

Kelly et al., HG-DAgger: Interactive Imitation Learning with Human Experts (2019): the policy acts, the human takes over
when they see fit, and their actions, but not the policy's, join the demonstrations. The cloning is `bc`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.algorithms.bc import Bc
from robot_rl.policies.algorithms.hil import SHOWN
from robot_rl.policies.demonstrations import Demonstrations
from robot_rl.policies.guards import require_finite, require_range
from robot_rl.policies.human.config import HumanConfig
from robot_rl.policies.human.env import InterventionEnv
from robot_rl.policies.imitation.config import BcConfig
from robot_rl.policies.schedules import half_cosine
from robot_rl.policies.training_log import EpisodeMeter
from robot_rl.protocols import BatchedEnv, Step


@dataclass(frozen=True)
class HgDaggerConfig(BcConfig):
    """Cloning's settings (`updates`: before anybody acts), and what follows them.

    Attributes:
        human: who is in the loop.
        total_steps: transitions, summed over the environments.
        steps_per_iteration: steps of all environments per logged iteration.
        round_steps: transitions between two rounds of learning. round_updates: minibatches of each; the learning rate
            falls along half a cosine in every one.
    """

    human: HumanConfig = field(default_factory=HumanConfig)
    total_steps: int = 20_000
    steps_per_iteration: int = 50
    round_steps: int = 1_000
    round_updates: int = 500
    validation: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("total_steps", "steps_per_iteration", "round_steps", "round_updates"):
            require_range(name, getattr(self, name), 1, 10**9)
        if self.horizon > 1 or self.images:
            raise ConfigError("whoever may be taken over at any step plans one action at a time and without pictures "
                              "here; leave horizon=1 and images=[]")  # fmt: skip


class HgDagger(Bc):
    """The learner. `gathered` are the human's transitions so far, as rows of observations and actions."""

    config: HgDaggerConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, env: BatchedEnv, config: HgDaggerConfig, seed: int) -> None:
        super().__init__(env, config, seed)
        self.world = InterventionEnv(env)
        self.meter = EpisodeMeter(env.num_envs)
        self.steps, self.since = 0, 0
        self.obs: dict[str, Tensor] | None = None
        self.gathered: tuple[Tensor, Tensor] = (torch.zeros(0, self.size), torch.zeros(0, self.action_dim))
        self.remembered: Mapping[str, Any] | None = None

    @property
    def progress(self) -> tuple[int, int]:
        return min(self.steps, self.config.total_steps), self.config.total_steps

    @property
    def env_steps(self) -> int:
        return self.steps

    def prepare(self, env: BatchedEnv) -> Demonstrations:
        """Read the demonstrations, add what was gathered before a checkpoint, and let the human watch."""
        demos = super().prepare(env)
        self.demos = joined(demos, *self.gathered)
        self.learnt = torch.arange(len(self.demos))
        if self.world.human is None:
            self.world.attend(self.config.human, self.seed)
        return self.demos

    def step(self, env: BatchedEnv) -> dict[str, float]:
        """Cloning first; then either some control steps of all environments, or a round of learning."""
        c = self.config
        if self.demos is None or self.world.human is None:
            self.prepare(env)
        if self.remembered is not None:
            self.world.load_state_dict(self.remembered)
            self.remembered = None
        if self.updates < c.updates:
            return self._learn(min(c.updates_per_iteration, c.updates - self.updates), (self.updates, c.updates))
        if self.since >= c.round_steps:
            self.since = 0
            return self._learn(c.round_updates, None)
        self._gather()
        return self.meter.metrics() | self.world.metrics() | {"human/transitions": float(len(self.gathered[1]))}

    def _learn(self, count: int, within: tuple[int, int] | None) -> dict[str, float]:
        """Minibatches; `within`: where they stand on the way down of the learning rate, None: from top to bottom."""
        c, losses = self.config, []
        assert self.demos is not None
        for i in range(count):
            at = (i, count) if within is None else (within[0] + i, within[1])
            for group in self.optimizer.param_groups:
                group["lr"] = c.learning_rate * half_cosine(at, 0.0)
            drawn = torch.randint(len(self.learnt), (c.batch_size,), generator=self.generator)
            losses.append(self._update(self.demos, self.learnt[drawn]))
            self.updates += 1
        require_finite("loss/imitation", torch.stack(losses))
        return {"loss/imitation": torch.stack(losses).mean().item()} | self.world.metrics()

    @torch.no_grad()
    def _gather(self) -> None:
        c, kept = self.config, ([], [])
        if self.obs is None:
            self.obs = self.world.reset(self.seed)
        for _ in range(c.steps_per_iteration):
            seen = self.obs[c.group]
            step = self._transition(self.obs)
            which = self._kept()
            kept[0].append(seen[which].cpu())
            kept[1].append(self.world.executed[which].cpu())
            self.meter.add(step.reward, step.terminated, step.truncated)
            self.obs = step.obs
            self.steps += self.world.num_envs
            self.since += self.world.num_envs
            if self.since >= c.round_steps or self.progress[0] >= self.progress[1]:
                break
        obs, action = torch.cat(kept[0]), torch.cat(kept[1])
        self.gathered = torch.cat((self.gathered[0], obs)), torch.cat((self.gathered[1], action))
        assert self.demos is not None
        self.demos = joined(self.demos, obs, action)
        self.learnt = torch.arange(len(self.demos))

    def _transition(self, obs: Mapping[str, Tensor]) -> Step:
        """One control step of all environments under the policy and the human."""
        return self.world.step(self._act(obs[self.config.group]))

    def _kept(self) -> Tensor:
        """(N,) bool: of the last step, what is learnt from."""
        return self.world.intervened

    def _act(self, obs: Tensor) -> Tensor:
        return self.planner(self.perception(obs)).clamp(-1.0, 1.0)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "world": self.remembered if self.world.human is None else self.world.state_dict(),
            "meter": self.meter.state_dict(), "counts": [self.steps, self.since], "gathered": list(self.gathered),
            "obs": None if self.obs is None else dict(self.obs),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.meter.load_state_dict(state["meter"])
        self.steps, self.since = state["counts"]
        self.gathered, self.obs = tuple(state["gathered"]), state["obs"]
        self.remembered, self.demos = state["world"], None


def joined(demos: Demonstrations, obs: Tensor, action: Tensor) -> Demonstrations:
    """Demonstrations and further single transitions, obs (R, n) and action (R, A), each an episode of its own."""
    if len(action) == 0:
        return demos
    (group,), device = demos.obs, demos.action.device
    number = torch.arange(len(action), device=device)
    return Demonstrations(
        {group: torch.cat((demos.obs[group], obs.to(device)))}, torch.cat((demos.action, action.to(device))),
        torch.cat((demos.episode, demos.episodes + number)), torch.cat((demos.last, len(demos) + number)),
    )  # fmt: skip


ALGORITHM = AlgorithmSpec(
    name="hg-dagger",
    config_class=HgDaggerConfig,
    create=HgDagger,
    shown=(*SHOWN[:4], "loss/imitation"),
    summary="HG-DAgger: cloning that learns on from interventions; --human keyboard --set demos=FILE",
)
