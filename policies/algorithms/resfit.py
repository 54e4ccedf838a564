"""Residual off-policy refinement: a frozen base acts, a small learnt correction is added at every step.

Ankile et al., Residual Off-Policy RL for Finetuning Behavior Cloning Policies (2025), for what is learnt and how: the
base is a black box that may play out plans, the correction starts at exactly zero, the critics see the action that is
executed, half of each batch are demonstrations, the first steps are the base's with noise, and critics are fitted
before the actor moves. Yuan et al., Policy Decorator (2024), for `progressive_steps`. The loop is `off_policy`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.errors import ConfigError
from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.algorithms.bc import SMALLEST_VARIANCE
from robot_rl.policies.guards import require_range
from robot_rl.policies.normalizer import RunningNormalizer
from robot_rl.policies.off_policy.actors import actor_network
from robot_rl.policies.off_policy.config import OffPolicyConfig
from robot_rl.policies.off_policy.demos import demo_replay, read_demos
from robot_rl.policies.off_policy.learner import OffPolicyLearner
from robot_rl.policies.off_policy.replay import Batch
from robot_rl.policies.residual.actor import ResidualActor, demonstrated, limited
from robot_rl.policies.residual.base import FrozenBase, label
from robot_rl.policies.residual.base_env import BASE, BaseActionEnv
from robot_rl.protocols import BatchedEnv

CALMEST = 0.05
"""Share of the noise in the calmest episodes; the boldest have all of it."""
MOST_CHANGE = 3.0
"""Bounds, up to which critics see differences to the base: demonstrations may be farther from it than corrections."""


@dataclass(frozen=True)
class ResFitConfig(OffPolicyConfig):
    """What refining adds to the common settings (see OffPolicyConfig), and where its defaults differ.

    Attributes:
        base: the policy to refine: an exported file, or base:<name>.
        scale: the correction's bound, as a share of half the range of each action in the demonstrations: how far the
            refined policy may ever be from its base.
        exploration: standard deviation of the noise on executed actions, in the same unit; each episode has a share of
            it, between `CALMEST` and all: calm episodes succeed, bold ones show what corrections do.
        warmup_noise: ±, in the same unit and with the same shares, of the first `warmup_steps`; held for `warmup_hold`
            steps at a time. Where it is much smaller than `scale`, critics guess what corrections are worth.
        critic_updates: updates of the critics alone after these.
        correction_cost: weight of the mean squared correction (in units of its bound) in the actor's loss.
        progressive_steps: environment steps over which the share of steps that are corrected at all rises from 0 to 1;
            0: all from the beginning.
        target_noise, target_noise_clip: standard deviation and bound of the noise on the action in the target, in the
            same unit. Values are those of a policy that shakes so much: it must be small beside what the task needs.
    """

    base: str = ""
    scale: float = 0.25
    exploration: float = 0.05
    warmup_noise: float = 0.25
    warmup_hold: int = 4
    critic_updates: int = 6_000
    correction_cost: float = 0.003
    progressive_steps: int = 0
    target_noise: float = 0.01
    target_noise_clip: float = 0.03
    num_envs: int = 4
    total_steps: int = 60_000
    steps_per_iteration: int = 50
    replay_steps: int = 50_000
    warmup_steps: int = 12_000
    batch_size: int = 128
    updates_per_step: int = 8
    n_step: int = 3
    polyak: float = 0.005
    actor_learning_rate: float = 2e-5
    critic_learning_rate: float = 3e-4
    weight_decay: float = 0.01
    max_grad_norm: float = 0.0
    policy_delay: int = 4
    heads: int = 5
    target: str = "min"
    target_subset: int = 2
    actor_value: str = "mean"
    value_head: str = "scalar"
    critic_group: str = "policy"
    demo_share: float = 0.25
    reward_scale: float = 1.0
    actor_hidden: tuple[int, ...] = (128, 128)
    critic_hidden: tuple[int, ...] = (128, 128)
    critic_layer_norm: bool = True
    actor_layer_norm: bool = True
    init_scale: float = 0.0
    desynchronise: bool = False
    precision: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("scale", "exploration", "warmup_noise", "target_noise", "target_noise_clip"):
            require_range(name, getattr(self, name), 0.0, 2.0)
        require_range("correction_cost", self.correction_cost, 0.0, 1e6)
        require_range("warmup_hold", self.warmup_hold, 1, 10**6)
        for name in ("critic_updates", "progressive_steps"):
            require_range(name, getattr(self, name), 0, 10**9)


class ResFit(OffPolicyLearner[ResFitConfig]):
    """The learner. Observations have the base's action as group `base`; the replay holds what was executed.

    Attributes:
        base: the frozen policy; None until training or a checkpoint brings it.
        middle, reach: (A,) of the range of actions in the demonstrations: no correction leads out of
            middle ± (1 + scale) · reach, nor out of [−1, 1].
        remembered: what the base remembered when the checkpoint was written; None in a new run.
    """

    groups = ("policy", "critic", BASE)

    def __init__(self, env: BatchedEnv, config: ResFitConfig, seed: int) -> None:
        self.world = BaseActionEnv(env)
        super().__init__(self.world, config, seed)
        for name, size in self.dims.items():
            self.normalizers[name] = RunningNormalizer(size, eps=SMALLEST_VARIANCE).to(self.device)
        self.base: FrozenBase | None = None
        self.remembered: Mapping[str, Any] | None = None
        self.middle, self.reach = torch.zeros(env.action_dim), torch.ones(env.action_dim)
        self.held = torch.zeros(env.num_envs, env.action_dim, device=self.device)
        self.boldness = self._draw_boldness(env.num_envs)
        self.corrected = torch.ones(env.num_envs, 1, dtype=torch.bool, device=self.device)

    # The base, and what was demonstrated.

    def prepare(self, env: BatchedEnv) -> None:
        """Load the base and label the demonstrations with its actions."""
        c = self.config
        if self.base is None:
            self.base = FrozenBase.read(c.base)
        self.world.proposer = self.base.proposer(env)
        if not c.demos:
            return
        own = {name: size for name, size in self.dims.items() if name != BASE}
        signals = self.base.signals(env)
        episodes = label(read_demos(c, own, self.action_dim, signals), self.base.proposer(env, 1), signals)
        self.demos = demo_replay(episodes, self.dims, self.device)
        if self.steps == 0:
            self.middle, self.reach = demonstrated(self.demos.action[: len(self.demos)])

    def step(self, env: BatchedEnv) -> dict[str, float]:
        if self.world.proposer is None:
            self.prepare(env)
            self._go_on()
        if self.steps >= self.updates_from and self.updates < self.config.critic_updates:
            return self._fit_critics()
        return super().step(self.world)

    def _go_on(self) -> None:
        """After a checkpoint was loaded: the base remembers what it did."""
        if self.remembered is not None:
            self.world.load_state_dict(self.remembered)

    def _fit_critics(self) -> dict[str, float]:
        """Some updates of the critics alone, on what the base did and what was demonstrated."""
        seen: list[dict[str, Tensor]] = []
        for _ in range(min(200, self.config.critic_updates - self.updates)):
            seen.append(self._update_critics(self._draw_batch()))
            self.updates += 1
        self.losses.check()
        return {name: torch.stack([s[name] for s in seen]).mean().item() for name in seen[0]}

    # The actor and what is executed.

    def _make_actor(self, generator: torch.Generator) -> nn.Sequential:
        c = self.config
        sizes = (self.dims["policy"] + self.action_dim, *c.actor_hidden, self.action_dim)
        return actor_network(sizes, c.activation, c.actor_layer_norm, c.init_scale, generator, c.actor_network)

    def _actor_input(self, obs: Mapping[str, Tensor]) -> Tensor:
        """The normalised observation, and the base's action as it is."""
        return torch.cat((self._normalised("policy", obs["policy"]), obs[BASE]), 1)

    def _critic_input(self, obs: Mapping[str, Tensor]) -> Tensor:
        return torch.cat((super()._critic_input(obs), obs[BASE]), 1)

    def _judged(self, critic_obs: Tensor, action: Tensor) -> Tensor:
        """State, action, and how far that is from the base's in units of the bound.

        Where precision counts, corrections are hundredths of an action's range. Critics that only see the sum are all
        but blind to them.
        """
        change = (action - critic_obs[:, -self.action_dim :]) / (self.config.scale * self.reach.to(self.device))
        return torch.cat((critic_obs[:, : -self.action_dim], action, change.clamp(-MOST_CHANGE, MOST_CHANGE)), 1)

    def _judged_width(self) -> int:
        return super()._judged_width() + self.action_dim

    def _correction(self, obs: Tensor) -> Tensor:
        """(B, A) in [−1, 1], in units of the bound."""
        return torch.tanh(self.actor(obs).float())

    def _combined(self, obs: Tensor, correction: Tensor, noise: Tensor | float = 0.0) -> Tensor:
        """The action that is executed, (B, A): base, correction in units of its bound, noise in units of `reach`."""
        c, reach, middle = self.config, self.reach.to(self.device), self.middle.to(self.device)
        change = reach * (c.scale * correction + noise)
        return limited(obs[:, -self.action_dim :], change, middle, (1.0 + c.scale) * reach)

    def _explore(self, obs: Tensor) -> Tensor:
        c, shape = self.config, (len(obs), self.action_dim)
        if self.steps < self.updates_from:
            if (self.steps // c.num_envs) % c.warmup_hold == 0:
                draw = torch.rand(shape, generator=self.generator, device=self.device)
                self.held = c.warmup_noise * (2.0 * draw - 1.0)
            return self._combined(obs, torch.zeros_like(self.held), self.boldness * self.held)
        noise = c.exploration * self.boldness * torch.randn(shape, generator=self.generator, device=self.device)
        refined = self._combined(obs, self._correction(obs), noise)
        return torch.where(self.corrected, refined, self._combined(obs, torch.zeros_like(noise)))

    def _episodes_ended(self, done: Tensor) -> None:
        """Episodes that begin during `progressive_steps` are the base's alone, with a share that falls to 0."""
        c = self.config
        self.boldness = torch.where(done[:, None], self._draw_boldness(len(done)), self.boldness)
        if c.progressive_steps > 0:
            share = (self.steps - c.warmup_steps) / c.progressive_steps
            draw = torch.rand(len(done), 1, generator=self.generator, device=self.device) < share
            self.corrected = torch.where(done[:, None], draw, self.corrected)

    def _draw_boldness(self, count: int) -> Tensor:
        """(count, 1) shares of the noise, log-uniform: some episodes try what is coarse, others what is fine."""
        draw = torch.rand(count, 1, generator=self.generator, device=self.device)
        return torch.exp(draw * math.log(CALMEST))

    def _next_action(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        c = self.config
        smoothing = (noise * c.target_noise).clamp(-c.target_noise_clip, c.target_noise_clip)
        action = self._combined(obs, self._correction(obs), smoothing)
        return action, torch.zeros_like(action[:, 0])

    def _actor_loss(self, policy_obs: Tensor, critic_obs: Tensor, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """−Q(s, base + correction), and what corrections cost."""
        del noise  # deterministic
        correction = self._correction(policy_obs)
        value = self._value_of(critic_obs, self._combined(policy_obs, correction))
        size = correction.detach().abs()
        return self.config.correction_cost * correction.square().mean() - value.mean(), {
            "policy/correction": size.mean(), "policy/saturated": (size > 0.95).float().mean(),
        }  # fmt: skip

    def _update_actor(self, batch: Batch) -> dict[str, Tensor]:
        return super()._update_actor(batch) if self.updates > self.config.critic_updates else {}

    def acting_env(self, env: BatchedEnv) -> BatchedEnv:
        """The environment that shows the base's action; `prepare` was called."""
        del env
        return self.world

    def acting_state(self) -> dict[str, Tensor]:
        return super().acting_state() | {"middle": self.middle, "reach": self.reach}

    def policy(self) -> nn.Module:
        """What is exported together with the base: (observation, base's action) → action."""
        remembered = self.remembered if self.world.proposer is None else self.world.state_dict()
        if self.base is None or remembered is None:
            raise ConfigError("the run has no base policy yet; train it first")
        normalizer = self.normalizers["policy"] if self.config.normalise_obs else None
        return ResidualActor(
            self.actor, normalizer, self.base, remembered["source"], self.middle, self.reach, self.config.scale
        ).cpu()

    def state_dict(self) -> dict[str, Any]:
        base = None if self.base is None else self.base.state_dict()
        remembered = self.remembered if self.world.proposer is None else self.world.state_dict()
        return super().state_dict() | {
            "base": base, "remembered": remembered, "middle": self.middle.clone(), "reach": self.reach.clone(),
            "held": self.held.clone(), "corrected": self.corrected.clone(), "boldness": self.boldness.clone(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.base = None if state["base"] is None else FrozenBase.from_state(state["base"])
        self.remembered, self.world.proposer = state["remembered"], None
        self.middle, self.reach = state["middle"], state["reach"]
        for name in ("held", "corrected", "boldness"):
            setattr(self, name, state[name].to(self.device))


ALGORITHM = AlgorithmSpec(
    name="resfit",
    config_class=ResFitConfig,
    create=ResFit,
    shown=("episode/return", "episode/length", "policy/correction", "loss/critic", "value/mean"),
    summary="ResFiT: refine a frozen policy by off-policy RL on a small correction; --set base=FILE demos=FILE",
)
