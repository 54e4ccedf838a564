"""PPO for many environments, in the manner of rsl_rl: adaptive learning rate, asymmetric critic, running normaliser.

Schulman et al.: Proximal Policy Optimization Algorithms (2017); Rudin et al.: Learning to Walk in Minutes (2021).
Everything stays on the environments' device; the host waits for it a few times per iteration, not per step.

Optional in the environment besides `BatchedEnv`:
    symmetry: mirror images of observation groups and actions (see `policies/symmetry.py`).
    episode_step: (N,) integer tensor, settable: steps since the last reset. Where it is present, the first episodes
        get random ages, so that time-outs of different environments do not fall together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.distributed import current_ranks
from robot_rl.policies.guards import require_finite, require_finite_rollout, require_range
from robot_rl.policies.networks import activation
from robot_rl.policies.normalizer import RunningNormalizer
from robot_rl.policies.recurrent import PolicyNetwork, deployed_actor
from robot_rl.policies.rollout_storage import Minibatches, Pieces, Rollout, kept
from robot_rl.policies.schedules import half_cosine
from robot_rl.policies.symmetry import ACTION, symmetry_of
from robot_rl.policies.training_log import EpisodeMeter, StepLog
from robot_rl.protocols import BatchedEnv

METRICS: tuple[str, ...] = (
    "loss/surrogate", "loss/value", "loss/mirror", "policy/entropy", "policy/kl", "policy/clipped",
)  # fmt: skip
"""What a minibatch tells, in this order."""


@dataclass(frozen=True)
class PpoConfig:
    """Hyper-parameters; defaults follow rsl_rl except for smaller networks and batches.

    Attributes:
        num_envs, steps_per_env: N and T; one iteration learns from N·T transitions (of each process under torchrun).
        iterations: rollouts (with their updates) in the whole training.
        epochs, minibatches: passes over a rollout and parts of each pass.
        learning_rate: initial; with desired_kl > 0 it adapts within [min_learning_rate, max_learning_rate].
        desired_kl: KL above twice this divides the learning rate by 1.5, below half multiplies; 0 keeps it fixed.
        learning_rate_end: factor reached at the end, along half a cosine: on a fixed learning rate, or its square on
            desired_kl, which the adaptive one follows (small steps diverge with the square of their length); 1: none.
        learning_rate_fall: share of the training in which it falls, above 0 to 1.
        lam: λ of generalised advantage estimation.
        clip: ε of the surrogate and, with clip_value, of the value function.
        init_std: initial standard deviation of the actions.
        actor_hidden, critic_hidden: layers of the perceptrons; for legged robots 128-64-32 to 512-256-128 is usual.
        gru: size of a GRU in front of each of them; 0: none.
        actor_group, critic_group: which observations they see.
        mixed_precision: matrix products of the networks in bfloat16; likelihoods, advantages and normalisers never.
        symmetry: "none", "augment" (mirrored transitions too), "loss" (mirror loss), "both".
        mirror_coefficient: weight of the mirror loss, mean squared difference of actions.
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
    learning_rate_end: float = 1.0
    learning_rate_fall: float = 0.2
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
    gru: int = 0
    actor_group: str = "policy"
    critic_group: str = "critic"
    mixed_precision: bool = False
    symmetry: str = "none"
    mirror_coefficient: float = 1.0
    normalise_obs: bool = True
    desynchronise: bool = True

    def __post_init__(self) -> None:
        for name in ("num_envs", "steps_per_env", "iterations", "epochs", "minibatches"):
            require_range(name, getattr(self, name), 1, 10**9)
        require_range("minibatches", self.minibatches, 1, self.num_envs * self.steps_per_env // 2)
        for name in ("gamma", "lam", "clip", "learning_rate", "desired_kl", "learning_rate_end"):
            require_range(name, getattr(self, name), 0.0, 1.0)
        require_range("learning_rate_fall", self.learning_rate_fall, 1e-3, 1.0)
        require_range("init_std", self.init_std, 1e-6, 1e3)
        require_range("gru", self.gru, 0, 1e6)
        require_range("minibatches", self.minibatches, 1, self.num_envs if self.gru else 10**9)
        activation(self.activation)
        if self.gru and self.symmetry != "none":
            raise ConfigError(f"symmetry = '{self.symmetry}' needs gru = 0: a GRU's state has no known mirror image")


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


class Ppo:
    """The learner."""

    def __init__(self, env: BatchedEnv, config: PpoConfig, seed: int) -> None:
        c = self.config = config
        if env.num_envs != c.num_envs:
            raise ConfigError(f"num_envs = {c.num_envs}, but the environment has {env.num_envs}")
        for missing in {c.actor_group, c.critic_group} - set(env.obs_dims):
            raise UnknownName("observation group", missing, env.obs_dims)
        self.ranks, self.device = current_ranks(), torch.device(env.device)
        self.seed = self.ranks.seed(seed)
        self.generator = torch.Generator(self.device).manual_seed(self.seed)
        n, m, a = env.obs_dims[c.actor_group], env.obs_dims[c.critic_group], env.action_dim
        self.symmetry = symmetry_of(env, {c.actor_group: n, c.critic_group: m, ACTION: a}, self.device, c.symmetry)
        initial = torch.Generator().manual_seed(seed)  # the same in every process
        self.actor = PolicyNetwork(n, c.actor_hidden, a, c.activation, c.gru, c.mixed_precision)
        self.critic = PolicyNetwork(m, c.critic_hidden, 1, c.activation, c.gru, c.mixed_precision)
        self.actor.initialise(math.sqrt(2.0), 0.01, initial)
        self.critic.initialise(math.sqrt(2.0), 1.0, initial)
        self.log_std = nn.Parameter(torch.full((a,), math.log(c.init_std), device=self.device))
        self.actor_norm, self.critic_norm = RunningNormalizer(n), RunningNormalizer(m)
        self.modules = {
            "actor": self.actor, "critic": self.critic, "actor_norm": self.actor_norm, "critic_norm": self.critic_norm,
        }  # fmt: skip
        for module in self.modules.values():
            module.to(self.device)
        self.actor_parameters = [*self.actor.parameters(), self.log_std]
        self.critic_parameters = list(self.critic.parameters())
        self.learning_rate = torch.tensor(c.learning_rate, device=self.device)
        parameters = [*self.actor_parameters, *self.critic_parameters]
        self.optimizer = torch.optim.Adam(parameters, lr=self.learning_rate, fused=True)
        self.rollout = Rollout(c.steps_per_env, c.num_envs, n, m, a, self.device)
        self.actor_state = self.actor.initial_state(c.num_envs)
        self.critic_state = self.critic.initial_state(c.num_envs)
        self.meter, self.step_log = EpisodeMeter(c.num_envs), StepLog()
        self.iteration = 0
        self.obs: dict[str, Tensor] | None = None

    @property
    def progress(self) -> tuple[int, int]:
        return self.iteration, self.config.iterations

    @property
    def env_steps(self) -> int:
        return self.iteration * self.config.steps_per_env * self.config.num_envs * self.ranks.count

    def step(self, env: BatchedEnv) -> dict[str, float]:
        """Collect a rollout, estimate advantages, update, then let the normalisers see the rollout."""
        if self.obs is None:
            self._begin(env)
        self._collect(env)
        self._evaluate()
        metrics = self._update()
        # Only now: during a rollout and its update the networks must see one and the same scaling.
        self._normalise(self.rollout.policy, self.rollout.critic)
        self.iteration += 1
        return self.meter.metrics() | self.step_log.metrics() | metrics

    def _begin(self, env: BatchedEnv) -> None:
        self.obs = env.reset(self.seed)
        if self.config.desynchronise and hasattr(env, "episode_step"):
            ages = torch.randint(env.max_episode_steps, (env.num_envs,), generator=self.generator, device=self.device)
            env.episode_step[:] = ages.to(env.episode_step)  # type: ignore[attr-defined]
        self._normalise(self.obs[self.config.actor_group], self.obs[self.config.critic_group])

    def _normalise(self, policy: Tensor, critic: Tensor) -> None:
        """Statistics of both groups; of mirror images too where symmetry counts, so that scaling keeps it."""
        c = self.config
        if not c.normalise_obs:
            return
        for name, norm, x in ((c.actor_group, self.actor_norm, policy), (c.critic_group, self.critic_norm, critic)):
            images = [] if self.symmetry is None else [self.symmetry.mirror(name, x)]
            norm.update(torch.cat([x, *images]) if images else x, self.ranks)

    @torch.no_grad()
    def _collect(self, env: BatchedEnv) -> None:
        """Fill the rollout with a ~ N(μ(s), σ²); the environment gets the clipped action, the likelihood does not."""
        r, c, std = self.rollout, self.config, self.log_std.exp()
        assert self.obs is not None
        r.actor_state = self.actor_state
        for t in range(c.steps_per_env):
            r.policy[t], r.critic[t] = self.obs[c.actor_group], self.obs[c.critic_group]
            r.mean[t], self.actor_state = self.actor(self.actor_norm(r.policy[t]), self.actor_state)
            r.action[t].normal_(generator=self.generator).mul_(std).add_(r.mean[t])
            step = env.step(r.action[t].clamp(-1.0, 1.0))
            r.reward[t], r.terminated[t], r.final[t] = step.reward, step.terminated, step.final_obs[c.critic_group]
            torch.logical_or(step.terminated, step.truncated, out=r.done[t])
            self.step_log.add(step.log)
            if c.gru:
                self.actor_state = self.actor_state * (~r.done[t]).unsqueeze(1)
            self.obs = step.obs
        tensors = {f"obs['{c.actor_group}']": r.policy, f"obs['{c.critic_group}']": r.critic}
        require_finite_rollout(tensors | {"action": r.action, "reward": r.reward})
        for name in (c.actor_group, c.critic_group):
            require_finite(f"obs['{name}']", self.obs[name])
        r.logp = _log_prob(r.action, r.mean, self.log_std)
        for reward, terminated, done in zip(r.reward.cpu(), r.terminated.cpu(), r.done.cpu(), strict=True):
            self.meter.add(reward, terminated, done)

    @torch.no_grad()
    def _evaluate(self) -> None:
        """V(s_t), V of the state after each step (s_{t+1}, or the last state before a time-out's reset), advantages."""
        r, c = self.rollout, self.config
        assert self.obs is not None
        r.critic_state, state, states = self.critic_state, self.critic_state, list[Tensor]()
        for t in range(c.steps_per_env):
            r.value[t], state = self._value(r.critic[t], state)
            states.append(state)
            state = state * (~r.done[t]).unsqueeze(1)
        self.critic_state = state
        r.next_value[:-1] = r.value[1:]
        r.next_value[-1], _ = self._value(self.obs[c.critic_group], state)
        cut = (r.done & ~r.terminated).nonzero(as_tuple=True)
        require_finite(f"final_obs['{c.critic_group}']", r.final[cut])
        r.next_value[cut], _ = self._value(r.final[cut], torch.stack(states)[cut])
        require_finite_rollout({"value": r.value, "next_value": r.next_value})
        r.advantage, r.returns = gae(r.reward, r.value, r.next_value, r.terminated, r.done, c.gamma, c.lam)

    def _value(self, critic_obs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        value, state = self.critic(self.critic_norm(critic_obs), state)
        return value.squeeze(-1), state

    def _update(self) -> dict[str, float]:
        """Several epochs of minibatches on the rollout, advantages normalised once over all of it."""
        r, c = self.rollout, self.config
        fields = {name: getattr(r, name) for name in ("action", "mean", "logp", "value", "returns")}
        fields |= {"policy": self.actor_norm(r.policy), "critic": self.critic_norm(r.critic)}
        count, mean, variance = self.ranks.moments(r.advantage.reshape(-1, 1))
        fields["advantage"] = (r.advantage - mean) / ((variance * (count / (count - 1.0))).sqrt() + 1e-8)
        states: dict[str, Tensor] = {}
        if c.gru:
            fields["keep"] = kept(r.done)
            states = {"actor_state": r.actor_state, "critic_state": r.critic_state}
        batches, old_log_std = Minibatches(fields, states), self.log_std.detach().clone()
        updates = [
            self._update_minibatch(pieces, old_log_std)
            for _ in range(c.epochs)
            for pieces in batches.epoch(c.minibatches, self.generator)
        ]
        table = torch.stack(updates).cpu()
        require_finite_rollout({name: column for name, column in zip(METRICS, table.unbind(1), strict=True)})
        for parameter in (*self.actor_parameters, *self.critic_parameters):
            require_finite("parameters", parameter)
        metrics: dict[str, float] = dict(zip(METRICS, table.mean(0).tolist(), strict=True))
        explained = 1.0 - (r.returns - r.value).var() / r.returns.var().clamp_min(1e-12)
        metrics["value/explained_variance"] = explained.item()
        metrics["policy/std"] = self.log_std.exp().mean().item()
        return metrics | {"policy/learning_rate": self.learning_rate.item()}

    def _update_minibatch(self, pieces: Pieces, old_log_std: Tensor) -> Tensor:
        """One step along the gradient of a minibatch; its METRICS."""
        metrics = torch.zeros(len(METRICS), device=self.device)
        self.optimizer.zero_grad()
        for batch, share in pieces:
            loss, measured = self._loss(batch, old_log_std)
            (loss * share).backward()
            metrics.add_(measured, alpha=share)
        gradients = [p.grad for p in (*self.actor_parameters, *self.critic_parameters) if p.grad is not None]
        self.ranks.average([*gradients, metrics])
        self._adapt_learning_rate(metrics[METRICS.index("policy/kl")])
        nn.utils.clip_grad_norm_(self.actor_parameters, self.config.max_grad_norm)
        nn.utils.clip_grad_norm_(self.critic_parameters, self.config.max_grad_norm)
        self.optimizer.step()
        return metrics

    def _loss(self, batch: dict[str, Tensor], old_log_std: Tensor) -> tuple[Tensor, Tensor]:
        """Loss on rows (B, …) or sequences (T, B, …), and its METRICS."""
        c, rows = self.config, len(batch["logp"])
        if self.symmetry is not None and c.symmetry in ("augment", "both"):
            groups = {"policy": c.actor_group, "critic": c.critic_group, "action": ACTION, "mean": ACTION}
            batch = self.symmetry.with_images(batch, groups)
        mean, _ = self.actor.sequence(batch["policy"], batch.get("actor_state"), batch.get("keep"))
        value, _ = self.critic.sequence(batch["critic"], batch.get("critic_state"), batch.get("keep"))
        ratio = (_log_prob(batch["action"], mean, self.log_std) - batch["logp"]).exp()
        clipped = ratio.clamp(1.0 - c.clip, 1.0 + c.clip)
        surrogate = -torch.min(ratio * batch["advantage"], clipped * batch["advantage"]).mean()
        value_loss = _value_loss(value.squeeze(-1), batch["value"], batch["returns"], c.clip if c.clip_value else None)
        entropy = self.log_std.sum() + 0.5 * len(self.log_std) * (1.0 + math.log(2.0 * math.pi))
        mirror_loss = torch.zeros((), device=self.device)
        if self.symmetry is not None and c.symmetry in ("loss", "both"):
            image, _ = self.actor.sequence(self.symmetry.mirror(c.actor_group, batch["policy"][:rows]), None, None)
            mirror_loss = (image - self.symmetry.mirror(ACTION, mean[:rows].detach())).square().mean()
        loss = surrogate + c.value_coefficient * value_loss - c.entropy_coefficient * entropy
        loss = loss + c.mirror_coefficient * mirror_loss
        with torch.no_grad():
            kl = _gaussian_kl(batch["mean"][:rows], old_log_std, mean[:rows], self.log_std).mean()
            share_clipped = ((ratio - 1.0).abs() > c.clip).float().mean()
        return loss, torch.stack([surrogate, value_loss, mirror_loss, entropy, kl, share_clipped]).detach()

    @torch.no_grad()
    def _adapt_learning_rate(self, kl: Tensor) -> None:
        """On the device: the host need not wait for the divergence."""
        c, lr = self.config, self.learning_rate
        fall = half_cosine(self.progress, c.learning_rate_end, start=1.0 - c.learning_rate_fall)
        if c.desired_kl > 0.0:
            desired = c.desired_kl * fall**2
            factor = torch.where(kl > 2.0 * desired, 1 / 1.5, torch.where(kl < 0.5 * desired, 1.5, 1.0))
            lr.mul_(factor).clamp_(c.min_learning_rate, c.max_learning_rate)
        else:
            lr.fill_(c.learning_rate * fall)

    def policy(self) -> nn.Module:
        """The deterministic part: obs (N, n) → μ(normalised obs) clipped to [−1, 1]; with a GRU, its state too."""
        return deployed_actor(self.actor, self.actor_norm if self.config.normalise_obs else None)

    def state_dict(self) -> dict[str, Any]:
        return {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "log_std": self.log_std.detach().clone(),
            "optimizer": self.optimizer.state_dict(),
            "learning_rate": self.learning_rate.item(),
            "meter": self.meter.state_dict(),
            "generator": self.generator.get_state(),
            "iteration": self.iteration,
            "states": [self.actor_state.clone(), self.critic_state.clone()],
            "obs": None if self.obs is None else {name: o.clone() for name, o in self.obs.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        with torch.no_grad():
            self.log_std.copy_(state["log_std"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.learning_rate.fill_(state["learning_rate"])
        self.optimizer.param_groups[0]["lr"] = self.learning_rate  # loading has put a copy there
        self.meter.load_state_dict(state["meter"])
        self.generator.set_state(state["generator"])
        self.iteration = state["iteration"]
        self.actor_state, self.critic_state = (part.to(self.device) for part in state["states"])
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
    distributed=True,
    may_grow="iterations",
    shown=("episode/return", "episode/length", "episode/terminated", "policy/kl", "policy/std"),
    summary="PPO on many environments: adaptive KL, asymmetric critic, normaliser inside the exported policy",
)
