"""HIL-SERL: RLPD with a human who may act instead of the policy, whose actions are demonstrations too.

Luo et al., Precise and Dexterous Robotic Manipulation via Human-in-the-Loop Reinforcement Learning (2024): what the
human does is executed and enters the online and the demonstration buffer, what the policy does the online one only; no
entropy in the targets. Ball et al. (2023) for the learner, see `rlpd`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.algorithms.bc import SMALLEST_VARIANCE
from robot_rl.policies.algorithms.fast_sac import FastSac
from robot_rl.policies.algorithms.rlpd import RlpdConfig
from robot_rl.policies.guards import require_range
from robot_rl.policies.human.config import HumanConfig
from robot_rl.policies.human.env import InterventionEnv
from robot_rl.policies.human.replay import InterventionReplay
from robot_rl.policies.normalizer import RunningNormalizer
from robot_rl.policies.off_policy.replay import Batch, RingReplay
from robot_rl.policies.schedules import half_cosine
from robot_rl.protocols import BatchedEnv, Step


@dataclass(frozen=True)
class HilConfig(RlpdConfig):
    """RLPD's settings with a human, and where defaults differ; see OffPolicyConfig and HumanConfig.

    Attributes:
        human: who is in the loop.
        imitation: weight of the squared difference to demonstrated and human actions in the actor's loss, which falls
            to 0 over `imitation_steps` transitions: what the human rescues gives critics little to go by at first
            (Rajeswaran et al., DAPG, 2018, for a weight that falls; HIL-SERL has none).
        clone_updates: minibatches of demonstrations that the actor copies before anything else; HIL-SERL has none.
    """

    human: HumanConfig = field(default_factory=HumanConfig)
    imitation: float = 0.0
    imitation_steps: int = 5_000
    clone_updates: int = 0
    critic_group: str = "policy"
    num_envs: int = 1
    total_steps: int = 20_000
    warmup_steps: int = 500
    gamma: float = 0.97
    updates_per_step: int = 2
    policy_delay: int = 2
    heads: int = 2
    temperature: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("imitation", self.imitation, 0.0, 1e6)
        require_range("imitation_steps", self.imitation_steps, 1, 10**9)
        require_range("clone_updates", self.clone_updates, 0, 10**9)


class Hil(FastSac):
    """The learner; it trains in an `InterventionEnv` of its own around the environment."""

    apart = False
    config: HilConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    replay: InterventionReplay  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, env: BatchedEnv, config: HilConfig, seed: int) -> None:
        self.world = InterventionEnv(env)
        super().__init__(self.world, config, seed)
        c = self.config
        self.replay = InterventionReplay(c.replay_steps, c.num_envs, self.dims, self.action_dim, self.device)
        for name, dim in self.dims.items():
            self.normalizers[name] = RunningNormalizer(dim, eps=SMALLEST_VARIANCE).to(self.device)
        self.remembered: Mapping[str, Any] | None = None
        self.shown, self.taught = 0, torch.zeros(0, self.action_dim, device=self.device)

    def prepare(self, env: BatchedEnv) -> None:
        """Besides the demonstrations, whoever is in the loop."""
        super().prepare(env)
        if self.world.human is None:
            self.world.attend(self.config.human, self.seed)

    def step(self, env: BatchedEnv) -> dict[str, float]:
        if self.world.human is None:
            self.prepare(env)
        if self.remembered is not None:
            self.world.load_state_dict(self.remembered)
            self.remembered = None
        return super().step(self.world) | self.world.metrics()

    def _begin(self, env: BatchedEnv) -> None:
        super()._begin(env)
        if self.config.clone_updates and self.demos is not None:
            self._clone(self.demos)

    def _clone(self, demos: RingReplay) -> None:
        """Before the first step: the actor's mean becomes a clone, by the absolute error."""
        c = self.config
        for i in range(c.clone_updates):
            for group in self.optimizers["actor"].param_groups:
                group["lr"] = c.actor_learning_rate * half_cosine((i, c.clone_updates), 0.1)
            batch = demos.sample(c.batch_size, 1, c.gamma, self.generator)
            mean = torch.tanh(self.actor(self._actor_input(batch.obs))[:, : self.action_dim])
            self._descend("actor", "loss/clone", (mean - batch.action).abs().mean())

    def _store(self, action: Tensor, step: Step) -> None:
        """What was executed, by whomever."""
        del action
        self.replay.add_executed(self.world.executed.to(self.device), step, self.world.intervened)

    def _draw_batch(self) -> Batch:
        """A share of demonstrations and interventions, each as likely as the other; the rest of all experience."""
        c, helped = self.config, self.replay.helped()
        demos = 0 if self.demos is None else len(self.demos)
        shown = self.shown = round(c.demo_share * c.batch_size) if demos + len(helped) else 0
        draw = torch.randint(max(demos + len(helped), 1), (shown,), generator=self.generator, device=self.device)
        batch = self.replay.sample(c.batch_size - shown, c.n_step, c.gamma, self.generator)
        if self.demos is not None and shown:
            batch = batch.joined(self.demos.windows(draw[draw < demos], c.n_step, c.gamma))
        if len(helped) and shown:
            batch = batch.joined(self.replay.windows(helped[draw[draw >= demos] - demos], c.n_step, c.gamma))
        return batch

    def _update_actor(self, batch: Batch) -> dict[str, Tensor]:
        self.taught = batch.action[self.config.batch_size - self.shown :]
        return super()._update_actor(batch)

    def _actor_loss(self, policy_obs: Tensor, critic_obs: Tensor, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """SAC's, and the difference to what was taught: the last rows of the batch."""
        loss, metrics = super()._actor_loss(policy_obs, critic_obs, noise)
        weight = self.config.imitation * max(0.0, 1.0 - self.steps / self.config.imitation_steps)
        if weight == 0.0 or len(self.taught) == 0:
            return loss, metrics
        rows = slice(len(policy_obs) - len(self.taught), None)
        own = torch.tanh(self.actor(policy_obs[rows])[:, : self.action_dim])
        difference = (own - self.taught).square().sum(1).mean()
        return loss + weight * difference, metrics | {"loss/imitation": difference.detach()}

    def state_dict(self) -> dict[str, Any]:
        world = self.remembered if self.world.human is None else self.world.state_dict()
        return super().state_dict() | {"world": world}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.remembered = state["world"]


SHOWN = ("episode/success", "episode/unaided", "human/share", "episode/cycle", "loss/critic")

ALGORITHM = AlgorithmSpec(
    name="hil",
    config_class=HilConfig,
    create=Hil,
    shown=SHOWN,
    summary="HIL-SERL: RLPD with interventions of a human; --human keyboard --set demos=FILE",
)
