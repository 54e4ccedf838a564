"""PPO for many environments, in the manner of rsl_rl: adaptive learning rate, asymmetric critic, running normaliser.

Schulman et al.: Proximal Policy Optimization Algorithms (2017); Rudin et al.: Learning to Walk in Minutes (2021).
Feed-forward actors only.

Optional in the environment besides `BatchedEnv`:
    episode_step: (N,) integer tensor, settable: steps since the last reset. Where it is present, the first episodes
        get random ages, so that time-outs of different environments do not fall together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.errors import ConfigError
from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.guards import require_finite, require_finite_rollout, require_range
from robot_rl.policies.networks import DeterministicActor, activation, mlp, orthogonal_init
from robot_rl.policies.normalizer import RunningNormalizer
from robot_rl.policies.training_log import EpisodeMeter
from robot_rl.protocols import BatchedEnv, Step


@dataclass(frozen=True)
class PpoConfig:
    """Hyper-parameters; defaults follow rsl_rl except for smaller networks and batches.

    Attributes:
        num_envs, steps_per_env: N and T; one iteration learns from N·T transitions.
        iterations: rollouts (with their updates) in the whole training.
        epochs, minibatches: passes over a rollout and parts of each pass.
        learning_rate: initial; with desired_kl > 0 it adapts within [min_learning_rate, max_learning_rate].
        desired_kl: KL above twice this divides the learning rate by 1.5, below half multiplies; 0 keeps it fixed.
        lam: λ of generalised advantage estimation.
        clip: ε of the surrogate and, with clip_value, of the value function.
        init_std: initial standard deviation of the actions.
        normalise_obs: running normalisers for both observation groups.
        desynchronise: random ages for the first episodes (where the environment allows).
    """

    num_envs: int = 256
    steps_per_env: int = 24
    iterations: int = 500
    epochs: int = 5
    minibatches: int = 4
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-5
    max_learning_rate: float = 1e-2
    desired_kl: float = 0.01
    gamma: float = 0.99
    lam: float = 0.95
    clip: float = 0.2
    clip_value: bool = True
    value_coefficient: float = 1.0
    entropy_coefficient: float = 0.005
    max_grad_norm: float = 1.0
    init_std: float = 0.5
    actor_hidden: tuple[int, ...] = (64, 64)
    critic_hidden: tuple[int, ...] = (128, 128)
    activation: str = "elu"
    normalise_obs: bool = True
    desynchronise: bool = True

    def __post_init__(self) -> None:
        for name in ("num_envs", "steps_per_env", "iterations", "epochs", "minibatches"):
            require_range(name, getattr(self, name), 1, 10**9)
        require_range("minibatches", self.minibatches, 1, self.num_envs * self.steps_per_env // 2)
        for name in ("gamma", "lam", "clip", "learning_rate", "desired_kl"):
            require_range(name, getattr(self, name), 0.0, 1.0)
        require_range("init_std", self.init_std, 1e-6, 1e3)
        activation(self.activation)


def gae(
    reward: Tensor, value: Tensor, next_value: Tensor, terminated: Tensor, done: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation, Schulman et al. 2016, eq. 16, with time-outs told apart from failures.

    Args:
        reward, value: (T, N); value is V(s_t).
        next_value: (T, N) V of the state after step t **before** any reset.
        terminated: (T, N) bool: nothing is gained afterwards.
        done: (T, N) bool, terminated or truncated: the sum of later errors stops here.
        gamma, lam: γ and λ.

    Returns:
        advantages and returns (targets for V), both (T, N).
    """
    delta = reward + gamma * next_value * (~terminated) - value
    keep = gamma * lam * (~done)
    advantage = torch.empty_like(delta)
    running = torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        running = delta[t] + keep[t] * running
        advantage[t] = running
    return advantage, advantage + value


class _Rollout:
    """T steps of N environments, preallocated; fields are (T, N, …) on the environments' device."""

    def __init__(self, horizon: int, num_envs: int, n: int, m: int, a: int, device: torch.device) -> None:
        zeros = partial(torch.zeros, horizon, num_envs, device=device)
        wide = partial(torch.zeros, device=device)
        self.policy, self.critic = wide(horizon, num_envs, n), wide(horizon, num_envs, m)
        self.action, self.mean = wide(horizon, num_envs, a), wide(horizon, num_envs, a)
        self.logp, self.value, self.next_value, self.reward, self.advantage, self.returns = (zeros() for _ in range(6))
        self.terminated, self.done = zeros(dtype=torch.bool), zeros(dtype=torch.bool)


class Ppo:
    """The learner."""

    def __init__(self, env: BatchedEnv, config: PpoConfig, seed: int) -> None:
        c = self.config = config
        self.seed = seed
        if env.num_envs != c.num_envs:
            raise ConfigError(f"num_envs = {c.num_envs}, but the environment has {env.num_envs}")
        n, m, a = env.obs_dims["policy"], env.obs_dims["critic"], env.action_dim
        self.device = torch.device(env.device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        initial = torch.Generator().manual_seed(seed)
        self.actor = mlp((n, *c.actor_hidden, a), c.activation)
        self.critic = mlp((m, *c.critic_hidden, 1), c.activation)
        orthogonal_init(self.actor, math.sqrt(2.0), 0.01, initial)
        orthogonal_init(self.critic, math.sqrt(2.0), 1.0, initial)
        self.log_std = nn.Parameter(torch.full((a,), math.log(c.init_std), device=self.device))
        self.actor_norm, self.critic_norm = RunningNormalizer(n), RunningNormalizer(m)
        self.modules = {
            "actor": self.actor,
            "critic": self.critic,
            "actor_norm": self.actor_norm,
            "critic_norm": self.critic_norm,
        }
        for module in self.modules.values():
            module.to(self.device)
        self.actor_parameters = [*self.actor.parameters(), self.log_std]
        self.critic_parameters = list(self.critic.parameters())
        self.learning_rate = c.learning_rate
        self.optimizer = torch.optim.Adam([*self.actor_parameters, *self.critic_parameters], lr=c.learning_rate)
        self.rollout = _Rollout(c.steps_per_env, c.num_envs, n, m, a, self.device)
        self.meter = EpisodeMeter(c.num_envs)
        self.iteration = 0
        self.obs: dict[str, Tensor] | None = None

    @property
    def progress(self) -> tuple[int, int]:
        return self.iteration, self.config.iterations

    @property
    def env_steps(self) -> int:
        return self.iteration * self.config.steps_per_env * self.config.num_envs

    def step(self, env: BatchedEnv) -> dict[str, float]:
        """Collect a rollout, estimate advantages, update, then let the normalisers see the rollout."""
        if self.obs is None:
            self._begin(env)
        self._collect(env)
        r, c = self.rollout, self.config
        r.advantage, r.returns = gae(r.reward, r.value, r.next_value, r.terminated, r.done, c.gamma, c.lam)
        metrics = self._update()
        # Only now: during a rollout and its update the networks must see one and the same scaling.
        self._normalise(r.policy, r.critic)
        self.iteration += 1
        return self.meter.metrics() | metrics

    def _begin(self, env: BatchedEnv) -> None:
        self.obs = env.reset(self.seed)
        if self.config.desynchronise and hasattr(env, "episode_step"):
            ages = torch.randint(env.max_episode_steps, (env.num_envs,), generator=self.generator, device=self.device)
            env.episode_step[:] = ages.to(env.episode_step)  # type: ignore[attr-defined]
        self._normalise(self.obs["policy"], self.obs["critic"])

    def _normalise(self, policy: Tensor, critic: Tensor) -> None:
        if self.config.normalise_obs:
            self.actor_norm.update(policy)
            self.critic_norm.update(critic)

    @torch.no_grad()
    def _collect(self, env: BatchedEnv) -> None:
        """Fill the rollout with a ~ N(μ(s), σ²); the environment gets the clipped action, the likelihood does not."""
        r = self.rollout
        cut: list[tuple[int, Tensor, Tensor]] = []
        assert self.obs is not None
        std = self.log_std.exp()
        for t in range(self.config.steps_per_env):
            r.policy[t], r.critic[t] = self.obs["policy"], self.obs["critic"]
            r.mean[t] = self.actor(self.actor_norm(r.policy[t]))
            noise = torch.randn(r.mean[t].shape, generator=self.generator, device=self.device)
            r.action[t] = r.mean[t] + std * noise
            step = env.step(r.action[t].clamp(-1.0, 1.0))
            r.reward[t], r.terminated[t], r.done[t] = step.reward, step.terminated, step.terminated | step.truncated
            self.meter.add(step.reward, step.terminated, step.truncated)
            cut += self._cut_by_time(t, step)
            self.obs = step.obs
        tensors = {"obs['policy']": r.policy, "obs['critic']": r.critic, "action": r.action, "reward": r.reward}
        require_finite_rollout(tensors)
        for name, value in self.obs.items():
            require_finite(f"obs['{name}']", value)
        r.logp = _log_prob(r.action, r.mean, self.log_std)
        self._evaluate(cut)

    @staticmethod
    def _cut_by_time(t: int, step: Step) -> list[tuple[int, Tensor, Tensor]]:
        """(t, environments, their last critic observation) of episodes that only ran out of time."""
        if not step.truncated.any():
            return []
        envs = (step.truncated & ~step.terminated).nonzero().reshape(-1)
        return [(t, envs, step.final_obs["critic"][envs].clone())]

    def _evaluate(self, cut: list[tuple[int, Tensor, Tensor]]) -> None:
        """V(s_t) and V of the state after each step: s_{t+1}, or the last state before a time-out's reset."""
        assert self.obs is not None
        r = self.rollout
        r.value = self._value(r.critic)
        r.next_value[:-1] = r.value[1:]
        r.next_value[-1] = self._value(self.obs["critic"])
        for t, envs, final in cut:
            require_finite("final_obs['critic']", final)
            r.next_value[t, envs] = self._value(final)
        require_finite_rollout({"value": r.value, "next_value": r.next_value})

    def _value(self, critic_obs: Tensor) -> Tensor:
        value: Tensor = self.critic(self.critic_norm(critic_obs)).squeeze(-1)
        return value

    def _update(self) -> dict[str, float]:
        """Several epochs of minibatches on the rollout, advantages normalised once over all of it."""
        r = self.rollout
        flat = {name: getattr(r, name).flatten(0, 1) for name in ("action", "mean", "logp", "value", "returns")}
        flat["policy"] = self.actor_norm(r.policy.flatten(0, 1))
        flat["critic"] = self.critic_norm(r.critic.flatten(0, 1))
        flat["advantage"] = ((r.advantage - r.advantage.mean()) / (r.advantage.std() + 1e-8)).flatten()
        old_log_std = self.log_std.detach().clone()
        sums: dict[str, float] = {}
        for rows in self._minibatch_rows(len(flat["logp"])):
            batch = {name: tensor[rows] for name, tensor in flat.items()}
            for name, value in self._update_minibatch(batch, old_log_std).items():
                sums[name] = sums.get(name, 0.0) + value
        for parameter in (*self.actor_parameters, *self.critic_parameters):
            require_finite("parameters", parameter)
        updates = self.config.epochs * self.config.minibatches
        metrics = {name: value / updates for name, value in sums.items()}
        explained = 1.0 - (flat["returns"] - flat["value"]).var() / flat["returns"].var().clamp_min(1e-12)
        metrics["value/explained_variance"] = explained.item()
        metrics["policy/std"] = self.log_std.exp().mean().item()
        return metrics | {"policy/learning_rate": self.learning_rate}

    def _minibatch_rows(self, total: int) -> Iterator[Tensor]:
        for _ in range(self.config.epochs):
            order = torch.randperm(total, generator=self.generator, device=self.device)
            yield from order.tensor_split(self.config.minibatches)

    def _update_minibatch(self, batch: Mapping[str, Tensor], old_log_std: Tensor) -> dict[str, float]:
        c = self.config
        mean = self.actor(batch["policy"])
        kl = _gaussian_kl(batch["mean"], old_log_std, mean.detach(), self.log_std.detach()).mean().item()
        self._adapt_learning_rate(kl)
        ratio = (_log_prob(batch["action"], mean, self.log_std) - batch["logp"]).exp()
        clipped = ratio.clamp(1.0 - c.clip, 1.0 + c.clip)
        surrogate = -torch.min(ratio * batch["advantage"], clipped * batch["advantage"]).mean()
        entropy = self.log_std.sum() + 0.5 * len(self.log_std) * (1.0 + math.log(2.0 * math.pi))
        value = self.critic(batch["critic"]).squeeze(-1)
        value_loss = _value_loss(value, batch["value"], batch["returns"], c.clip if c.clip_value else None)
        loss = surrogate + c.value_coefficient * value_loss - c.entropy_coefficient * entropy
        for name, part in (("loss/surrogate", surrogate), ("loss/value", value_loss), ("loss", loss)):
            require_finite(name, part)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.actor_parameters, c.max_grad_norm)
        nn.utils.clip_grad_norm_(self.critic_parameters, c.max_grad_norm)
        self.optimizer.step()
        return {
            "loss/surrogate": surrogate.item(),
            "loss/value": value_loss.item(),
            "policy/entropy": entropy.item(),
            "policy/kl": kl,
            "policy/clipped": ((ratio - 1.0).abs() > c.clip).float().mean().item(),
        }

    def _adapt_learning_rate(self, kl: float) -> None:
        c = self.config
        if c.desired_kl <= 0.0:
            return
        if kl > 2.0 * c.desired_kl:
            self.learning_rate = max(self.learning_rate / 1.5, c.min_learning_rate)
        elif kl < 0.5 * c.desired_kl:
            self.learning_rate = min(self.learning_rate * 1.5, c.max_learning_rate)
        self.optimizer.param_groups[0]["lr"] = self.learning_rate

    def policy(self) -> nn.Module:
        """The deterministic part: obs (N, n) → μ(normalised obs) clipped to [−1, 1]."""
        return DeterministicActor(self.actor, self.actor_norm if self.config.normalise_obs else None).cpu()

    def state_dict(self) -> dict[str, Any]:
        return {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "log_std": self.log_std.detach().clone(),
            "optimizer": self.optimizer.state_dict(),
            "learning_rate": self.learning_rate,
            "meter": self.meter.state_dict(),
            "generator": self.generator.get_state(),
            "iteration": self.iteration,
            "obs": None if self.obs is None else {name: o.clone() for name, o in self.obs.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        with torch.no_grad():
            self.log_std.copy_(state["log_std"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.learning_rate = state["learning_rate"]
        self.meter.load_state_dict(state["meter"])
        self.generator.set_state(state["generator"])
        self.iteration = state["iteration"]
        self.obs = None if state["obs"] is None else {name: o.to(self.device) for name, o in state["obs"].items()}


def _log_prob(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Logarithm of N(action; mean, exp(log_std)²) summed over the action's dimensions."""
    z = (action - mean) * torch.exp(-log_std)
    return -(0.5 * z.square() + log_std).sum(-1) - 0.5 * action.shape[-1] * math.log(2.0 * math.pi)


def _gaussian_kl(mean0: Tensor, log_std0: Tensor, mean1: Tensor, log_std1: Tensor) -> Tensor:
    """KL(N₀ ‖ N₁) summed over the action's dimensions."""
    variance_ratio = torch.exp(2.0 * (log_std0 - log_std1))
    distance = (mean0 - mean1).square() * torch.exp(-2.0 * log_std1)
    return (log_std1 - log_std0 + 0.5 * (variance_ratio + distance - 1.0)).sum(-1)


def _value_loss(value: Tensor, old_value: Tensor, returns: Tensor, clip: float | None) -> Tensor:
    loss = (value - returns).square()
    if clip is not None:
        near = old_value + (value - old_value).clamp(-clip, clip)
        loss = torch.max(loss, (near - returns).square())
    return loss.mean()


ALGORITHM = AlgorithmSpec(
    name="ppo",
    config_class=PpoConfig,
    create=Ppo,
    shown=("episode/return", "episode/length", "episode/terminated", "policy/kl", "policy/std"),
    summary="PPO on many environments: adaptive KL, asymmetric critic, normaliser inside the exported policy",
)
