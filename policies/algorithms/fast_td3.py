"""FastTD3: TD3 with many environments, large batches, a distributional critic and exploration of mixed boldness.

Seo et al., FastTD3: Simple, Fast, and Capable Reinforcement Learning for Humanoid Control (2025); Fujimoto et al.,
Addressing Function Approximation Error in Actor-Critic Methods (2018); Bellemare et al. (2017) for the critic.
As in its authors' program the target uses the current actor; only the critics have targets. The loop is `off_policy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.guards import require_range
from robot_rl.policies.networks import DeterministicActor
from robot_rl.policies.off_policy.actors import ExplorationNoise, actor_network, first_outputs
from robot_rl.policies.off_policy.config import OffPolicyConfig
from robot_rl.policies.off_policy.learner import OffPolicyLearner
from robot_rl.protocols import BatchedEnv

UNSATURATED = 2.0  # |u| up to which tanh(u) costs nothing


@dataclass(frozen=True)
class FastTd3Config(OffPolicyConfig):
    """What FastTD3 adds to the common settings (see OffPolicyConfig).

    Attributes:
        noise_min, noise_max: interval of the environments' exploration σ.
        target_noise, target_noise_clip: σ and clip of target policy smoothing.
        saturation_cost: of (|u| − 2)² where tanh's argument u is beyond ±2 (tanh 2 = 0.96). Without it an actor that
            ran into a corner while the critics were young has no gradient left to come back.
    """

    noise_min: float = 0.001
    noise_max: float = 0.2
    target_noise: float = 0.001
    target_noise_clip: float = 0.5
    saturation_cost: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("noise_max", self.noise_max, 0.0, 2.0)
        require_range("noise_min", self.noise_min, 0.0, self.noise_max)
        for name in ("target_noise", "target_noise_clip", "saturation_cost"):
            require_range(name, getattr(self, name), 0.0, 10.0)


class FastTd3(OffPolicyLearner[FastTd3Config]):
    """The learner with a deterministic actor π(s) = tanh(network(s))."""

    def __init__(self, env: BatchedEnv, config: FastTd3Config, seed: int) -> None:
        super().__init__(env, config, seed)
        self.exploration = ExplorationNoise(config.num_envs, config.noise_min, config.noise_max, self.generator)

    def _make_actor(self, generator: torch.Generator) -> nn.Sequential:
        c = self.config
        sizes = (self.dims["policy"], *c.actor_hidden, self.action_dim)
        return actor_network(sizes, c.activation, c.actor_layer_norm, c.init_scale, generator, c.actor_network)

    def _explore(self, obs: Tensor) -> Tensor:
        """clip(π(s) + σ_i·ε), σ_i of environment i's own."""
        return (torch.tanh(self.actor(obs)) + self.exploration.sample(self.action_dim)).clamp_(-1.0, 1.0)

    def _episodes_ended(self, done: Tensor) -> None:
        self.exploration.renew(done)

    def _next_action(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """clip(π(s') + clip(ε)), target policy smoothing; nothing is added to the value."""
        c = self.config
        smoothing = (noise * c.target_noise).clamp_(-c.target_noise_clip, c.target_noise_clip)
        action = (torch.tanh(self.actor(obs).float()) + smoothing).clamp_(-1.0, 1.0)
        return action, torch.zeros_like(action[:, 0])

    def _actor_loss(self, policy_obs: Tensor, critic_obs: Tensor, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """−Q(s, π(s)) and the cost of saturation; critics see the privileged state, the actor its own observation."""
        del noise  # deterministic
        with self._autocast():
            u = self.actor(policy_obs).float()
            action = torch.tanh(u)
            value = self._value_of(critic_obs, action)
        beyond = (u.abs() - UNSATURATED).clamp_min(0.0)
        return self.config.saturation_cost * beyond.square().mean() - value.mean(), {
            "policy/saturated": (action.detach().abs() > 0.99).float().mean()
        }

    def policy(self) -> nn.Module:
        """obs (N, n) → π(normalised obs) (N, a) in [−1, 1]."""
        normalizer = self.normalizers["policy"] if self.config.normalise_obs else None
        return DeterministicActor(first_outputs(self.actor, self.action_dim), normalizer).cpu()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"sigma": self.exploration.sigma.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.exploration.sigma = state["sigma"].to(self.device)


ALGORITHM = AlgorithmSpec(
    name="fast-td3",
    config_class=FastTd3Config,
    create=FastTd3,
    shown=("episode/return", "episode/length", "episode/terminated", "loss/critic", "value/mean"),
    summary="FastTD3: off-policy on many environments, distributional critics; few samples, CPU or GPU",
)
