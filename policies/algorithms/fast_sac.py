"""FastSAC: SAC on many environments with FastTD3's replay, distributional critics and normalisers.

Haarnoja et al., Soft Actor-Critic Algorithms and Applications (2018), for entropy and automatic temperature; Seo et
al., FastTD3 (2025), and the practice of its successor FastSAC: average of the heads instead of the minimum, a bounded
standard deviation, LayerNorm in the critics. The loop is `off_policy`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.guards import require_range
from robot_rl.policies.networks import DeterministicActor, FlatAdamW
from robot_rl.policies.off_policy.actors import actor_network, first_outputs, squashed_gaussian
from robot_rl.policies.off_policy.config import OffPolicyConfig
from robot_rl.policies.off_policy.learner import OffPolicyLearner
from robot_rl.policies.off_policy.replay import Batch
from robot_rl.protocols import BatchedEnv


@dataclass(frozen=True)
class FastSacConfig(OffPolicyConfig):
    """What FastSAC adds to the common settings (see OffPolicyConfig), and where its defaults differ.

    Attributes:
        temperature: initial α; with temperature_learning_rate = 0 it stays.
        temperature_learning_rate: of log α.
        entropy_in_target: whether values count the entropy that follows; without it they stay within what rewards give.
        entropy_per_dim: target entropy divided by the number of actions (a uniform action has log 2 = 0.69).
        log_std_min, log_std_max: interval of log σ before squashing.
    """

    target: str = "mean"
    actor_value: str = "mean"
    critic_layer_norm: bool = True
    temperature: float = 0.01
    temperature_learning_rate: float = 3e-3
    entropy_in_target: bool = True
    entropy_per_dim: float = -0.5
    log_std_min: float = -5.0
    log_std_max: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("temperature", self.temperature, 1e-8, 1e3)
        require_range("temperature_learning_rate", self.temperature_learning_rate, 0.0, 1.0)
        require_range("entropy_per_dim", self.entropy_per_dim, -20.0, math.log(2.0))
        require_range("log_std_max", self.log_std_max, -20.0, 2.0)
        require_range("log_std_min", self.log_std_min, -20.0, self.log_std_max)


class FastSac(OffPolicyLearner[FastSacConfig]):
    """The learner with a squashed Gaussian actor a = tanh(μ(s) + σ(s)·ε)."""

    def __init__(self, env: BatchedEnv, config: FastSacConfig, seed: int) -> None:
        super().__init__(env, config, seed)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(config.temperature), device=self.device))
        self.optimizers["alpha"] = FlatAdamW(self.log_alpha, config.temperature_learning_rate)

    def _make_actor(self, generator: torch.Generator) -> nn.Sequential:
        c = self.config
        sizes = (self.dims["policy"], *c.actor_hidden, 2 * self.action_dim)
        return actor_network(sizes, c.activation, c.actor_layer_norm, c.init_scale, generator, c.actor_network)

    def _sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return squashed_gaussian(self.actor(obs), noise, (self.config.log_std_min, self.config.log_std_max))

    def _explore(self, obs: Tensor) -> Tensor:
        noise = torch.randn(len(obs), self.action_dim, generator=self.generator, device=self.device)
        return self._sample(obs, noise)[0]

    def _next_action(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """a' ~ π(s'), and the entropy term −α·log π(a'|s') of the soft value, or 0."""
        action, log_density = self._sample(obs, noise)
        weight = -self.log_alpha.exp() if self.config.entropy_in_target else torch.zeros_like(self.log_alpha)
        return action, weight * log_density

    def _actor_loss(self, policy_obs: Tensor, critic_obs: Tensor, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """α·log π(a|s) − Q(s, a)."""
        with self._autocast():
            action, log_density = self._sample(policy_obs, noise)
            value = self._value_of(critic_obs, action)
        loss = (self.log_alpha.detach().exp() * log_density - value).mean()
        return loss, {"policy/entropy": -log_density.detach().mean()}

    def _update_actor(self, batch: Batch) -> dict[str, Tensor]:
        """The actor, then log α towards the target entropy: it rises while the entropy is too small."""
        metrics = super()._update_actor(batch)
        surplus = metrics["policy/entropy"] - self.config.entropy_per_dim * self.action_dim
        self.log_alpha.grad = surplus
        self.optimizers["alpha"].step()
        return metrics | {"policy/temperature": self.log_alpha.detach().exp()}

    def _reset(self, generator: torch.Generator) -> None:
        super()._reset(generator)
        with torch.no_grad():
            self.log_alpha.fill_(math.log(self.config.temperature))

    def policy(self) -> nn.Module:
        """The deterministic part: obs (N, n) → tanh(μ(normalised obs)) (N, a)."""
        normalizer = self.normalizers["policy"] if self.config.normalise_obs else None
        return DeterministicActor(first_outputs(self.actor, self.action_dim), normalizer).cpu()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"log_alpha": self.log_alpha.detach().clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        with torch.no_grad():
            self.log_alpha.copy_(state["log_alpha"])


ALGORITHM = AlgorithmSpec(
    name="fast-sac",
    config_class=FastSacConfig,
    create=FastSac,
    shown=("episode/return", "episode/length", "episode/terminated", "loss/critic", "policy/temperature"),
    summary="FastSAC: FastTD3's machinery with a stochastic actor and automatic temperature",
)
