"""TD3 as Learning to Fly in Seconds trains it: asymmetric critics, action history, curriculum, recalculated rewards.

Eschmann, Albani, Loianno: Learning to Fly in Seconds (2023); Fujimoto et al.: TD3 (2018). Not a general-purpose TD3.

What it needs from the environment besides `BatchedEnv`:
    obs["policy"]: what the actor sees, the history of past actions included (146 for the quadrotor), noisy.
    obs["critic"]: what the critics see besides the action, noise-free (28 for the quadrotor).
    reward_weights: mapping name → float, readable and settable; used by every later step. The curriculum multiplies
        the entries that `curriculum` names.
    recalculate_reward(critic_obs, action, terminated, weights) → reward: pure and vectorised; (B, m) critic
        observation **before** the step, (B, a) action given to `step`, (B,) bool, mapping → (B,). It must give
        exactly the reward that `step` gave under the same weights.
Without a curriculum (`curriculum_steps = ()`) the last two are not used.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.errors import ConfigError
from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.guards import require_finite, require_finite_rollout, require_range
from robot_rl.policies.networks import (
    DecoupledAdam,
    DeterministicActor,
    FlatParameters,
    NumpyMlp,
    StackedMlp,
    forward_no_grad,
    mlp,
    uniform_fan_in_init,
)
from robot_rl.policies.replay import Replay
from robot_rl.policies.training_log import EpisodeMeter
from robot_rl.protocols import Array, BatchedEnv


@dataclass(frozen=True)
class Td3L2fConfig:
    """The values of the published training (L2F's source with its pinned rl-tools).

    Attributes:
        num_envs: environments stepped together; intervals count transitions, so the update ratio stays.
        total_steps: transitions.
        critic_interval, actor_interval: transitions per update of each critic / of the actor.
        critic_warmup, actor_warmup: transitions before the first such update; the random policy acts meanwhile.
        weight_decay: W ← W − (weight_decay/2)·W in each update, not scaled by the learning rate; weights only.
        exploration_noise: σ of the behaviour policy.
        target_noise, target_noise_clip: σ and clip of target policy smoothing.
        curriculum_steps: transitions after which the reward weights are multiplied and all rewards recalculated.
        curriculum: (weight's name, factor, upper bound).
        steps_per_iteration: transitions per logged iteration.
    """

    num_envs: int = 1
    total_steps: int = 300_001
    gamma: float = 0.99
    polyak: float = 0.005
    actor_learning_rate: float = 1e-3
    critic_learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    batch_size: int = 256
    replay_capacity: int = 300_001
    critic_interval: int = 10
    actor_interval: int = 20
    critic_warmup: int = 15_000
    actor_warmup: int = 30_000
    exploration_noise: float = 0.1
    target_noise: float = 0.2
    target_noise_clip: float = 0.5
    hidden: tuple[int, ...] = (64, 64)
    curriculum_steps: tuple[int, ...] = (100_000, 200_000)
    curriculum: tuple[tuple[str, float, float], ...] = (
        ("position", 1.2, 40.0),
        ("linear_velocity", 1.4, 1.0),
        ("action", 1.4, 1.0),
    )
    steps_per_iteration: int = 1000

    def __post_init__(self) -> None:
        for name in ("num_envs", "total_steps", "batch_size", "critic_interval", "actor_interval"):
            require_range(name, getattr(self, name), 1, 10**9)
        require_range("steps_per_iteration", self.steps_per_iteration, self.num_envs, 10**9)
        for name in ("gamma", "polyak", "weight_decay", "exploration_noise", "target_noise"):
            require_range(name, getattr(self, name), 0.0, 1.0)
        for name in ("actor_learning_rate", "critic_learning_rate"):
            require_range(name, getattr(self, name), 0.0, 1.0)


class Td3L2f:
    """The learner. Names follow the papers: actor π, critics Q₁ and Q₂, primes are targets."""

    def __init__(self, env: BatchedEnv, config: Td3L2fConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        if env.num_envs != config.num_envs:
            raise ConfigError(f"num_envs = {config.num_envs}, but the environment has {env.num_envs}")
        if torch.device(env.device).type != "cpu":
            raise ConfigError(
                f"td3-l2f steps one environment on the CPU; this one is on '{env.device}', use --device cpu"
            )
        if config.curriculum_steps:
            _require_curriculum(env, config)
        n, m, a = env.obs_dims["policy"], env.obs_dims["critic"], env.action_dim
        self.generator = torch.Generator().manual_seed(seed)
        self.pi = mlp((n, *config.hidden, a), "fast_tanh", "fast_tanh")
        uniform_fan_in_init(self.pi, self.generator)
        self.q = StackedMlp(2, (m + a, *config.hidden, 1), self.generator)
        self.pi_target, self.q_target = copy.deepcopy(self.pi), copy.deepcopy(self.q)
        self.networks = {"pi": self.pi, "q": self.q, "pi_target": self.pi_target, "q_target": self.q_target}
        self.flat = {name: FlatParameters(network) for name, network in self.networks.items()}
        for name in ("pi_target", "q_target"):
            self.networks[name].requires_grad_(False)
        self.pi_optimizer = DecoupledAdam(self.flat["pi"], config.actor_learning_rate, config.weight_decay)
        self.q_optimizer = DecoupledAdam(self.flat["q"], config.critic_learning_rate, config.weight_decay)
        dims = {"policy": n, "critic": m}
        capacity = min(config.replay_capacity, config.total_steps + config.num_envs)
        self.replay = Replay(max(capacity, 2 * config.num_envs), config.num_envs, dims, a)
        self.behaviour = NumpyMlp(self.pi)
        self.meter = EpisodeMeter(config.num_envs)
        self.steps = 0
        self.unchecked = 0
        self.obs: dict[str, Tensor] | None = None
        self.weights: dict[str, float] = dict(env.reward_weights) if config.curriculum_steps else {}  # type: ignore[attr-defined]

    @property
    def progress(self) -> tuple[int, int]:
        return min(self.steps, self.config.total_steps), self.config.total_steps

    @property
    def env_steps(self) -> int:
        return self.steps

    def step(self, env: BatchedEnv) -> dict[str, float]:
        """`steps_per_iteration` transitions with the updates that are due; losses are averaged over them."""
        if self.obs is None:
            self.obs = env.reset(self.seed)
            self.replay.begin(self.obs)
        if self.weights:
            env.reward_weights = dict(self.weights)  # type: ignore[attr-defined]
        sums: dict[str, list[float]] = {}
        goal = min(self.steps + self.config.steps_per_iteration, self.config.total_steps)
        c = self.config
        blocks = math.ceil((goal - self.steps) / c.num_envs)
        noise = torch.randn(blocks, c.num_envs, env.action_dim, generator=self.generator) * c.exploration_noise
        for exploration in noise.numpy():
            self._transition(env, exploration)
            for name, value in self._due_updates(env).items():
                sums.setdefault(name, []).append(value)
        metrics = {name: sum(values) / len(values) for name, values in sums.items()}
        return self.meter.metrics() | metrics | {f"reward_weight/{k}": v for k, v in self.weights.items()}

    def _transition(self, env: BatchedEnv, exploration: Array) -> None:
        """Act: clip(π(s) + exploration) (N, a), and store what came of it."""
        assert self.obs is not None
        behaviour = self.behaviour(self.obs["policy"].numpy())
        behaviour += exploration
        np.maximum(behaviour, -1.0, out=behaviour)
        np.minimum(behaviour, 1.0, out=behaviour)
        action = torch.from_numpy(behaviour)
        step = env.step(action)
        self.replay.add(action, step)
        self.meter.add(step.reward, step.terminated, step.truncated)
        self.obs = step.obs
        self.steps += self.config.num_envs
        self.unchecked += self.config.num_envs

    def _due_updates(self, env: BatchedEnv) -> dict[str, float]:
        """Run the curriculum and the updates whose turn came with the last transition."""
        c, metrics = self.config, {}
        if any(self._reached(s) for s in c.curriculum_steps):
            self._advance_curriculum(env)
        critic_updates = self._due(c.critic_interval, c.critic_warmup)
        actor_updates = self._due(c.actor_interval, c.actor_warmup)
        if critic_updates or actor_updates:
            self._check_new_transitions()
        for _ in range(critic_updates):
            metrics |= self._update_critics()
        for _ in range(actor_updates):
            metrics |= self._update_actor()
        return metrics

    def _reached(self, step: int) -> bool:
        return self.steps - self.config.num_envs < step <= self.steps

    def _due(self, interval: int, warmup: int) -> int:
        """Multiples of `interval` passed by the last transition, once the warm-up is over."""
        if self.steps < max(warmup, self.config.batch_size):
            return 0
        return self.steps // interval - (self.steps - self.config.num_envs) // interval

    def _update_critics(self) -> dict[str, float]:
        """Regress on y = r + γ(1 − d)·min_i Q'_i(s', clip(π'(s') + ε)), each critic on a batch of its own."""
        c, b = self.config, self.config.batch_size
        rows = self.replay.sample_rows(2 * b, self.generator)
        with torch.no_grad():
            next_action = forward_no_grad(self.pi_target, self.replay.gather_next("policy", rows))
            noise = torch.randn(next_action.shape, generator=self.generator).mul_(c.target_noise)
            next_action.add_(noise.clamp_(-c.target_noise_clip, c.target_noise_clip)).clamp_(-1.0, 1.0)
            next_input = torch.cat((self.replay.gather_next("critic", rows), next_action), 1)
            next_value = self.q_target(next_input).amin(0).squeeze(1)
            alive = 1.0 - self.replay.terminated.index_select(0, rows)
            y = self.replay.reward.index_select(0, rows) + c.gamma * alive * next_value
            action = self.replay.action.index_select(0, rows)
            x = torch.cat((self.replay.gather("critic", rows), action), 1)
        q = self.q(x.view(2, b, -1)).squeeze(2)
        loss = (q - y.view(2, b)).square().mean(1).sum()
        require_finite("loss/critic", loss)
        self.q_optimizer.zero_grad()
        loss.backward()
        self.q_optimizer.step()
        require_finite("parameters of the critics", self.flat["q"].vector)
        self.flat["q_target"].average_towards(self.flat["q"], c.polyak)
        return {"loss/critic": 0.5 * loss.item(), "value/mean": q.mean().item()}

    def _update_actor(self) -> dict[str, float]:
        """Ascend Q₁(s, π(s)); the critic sees the privileged state, the actor its own observation."""
        rows = self.replay.sample_rows(self.config.batch_size, self.generator)
        action = self.pi(self.replay.gather("policy", rows))
        loss = -self.q.first(torch.cat((self.replay.gather("critic", rows), action), 1)).mean()
        require_finite("loss/actor", loss)
        self.pi_optimizer.zero_grad()
        loss.backward()
        self.pi_optimizer.step()
        require_finite("parameters of the actor", self.flat["pi"].vector)
        self.flat["pi_target"].average_towards(self.flat["pi"], self.config.polyak)
        return {"loss/actor": loss.item()}

    def _advance_curriculum(self, env: BatchedEnv) -> None:
        """Raise the weights and recalculate every stored reward, so that the critics never mix two rewards."""
        for name, factor, bound in self.config.curriculum:
            self.weights[name] = min(self.weights[name] * factor, bound)
        env.reward_weights = dict(self.weights)  # type: ignore[attr-defined]
        r, recalculate = self.replay, env.recalculate_reward  # type: ignore[attr-defined]
        for rows in torch.arange(r.rows).split(16_384):
            terminated = r.terminated[rows] > 0.5
            r.reward[rows] = recalculate(r.obs["critic"][rows], r.action[rows], terminated, self.weights)

    def _check_new_transitions(self) -> None:
        """Name a NaN before it enters an update: obs, then action, then reward, in the order of time."""
        r, rows = self.replay, self.replay.newest(self.unchecked)
        tensors = {f"obs['{name}']": store.index_select(0, rows) for name, store in r.obs.items()}
        tensors |= {"action": r.action.index_select(0, rows), "reward": r.reward.index_select(0, rows)}
        require_finite_rollout(tensors)
        self.unchecked = 0

    def policy(self) -> nn.Module:
        """The actor: obs (N, n) → π(obs) (N, a) in [−1, 1]; there is no normaliser in this recipe."""
        return DeterministicActor(self.pi)

    def state_dict(self) -> dict[str, Any]:
        """Everything; the replay is left out once training is complete (it is most of the size)."""
        complete = self.progress[0] >= self.progress[1]
        return {
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimizers": [self.pi_optimizer.adam.state_dict(), self.q_optimizer.adam.state_dict()],
            "replay": None if complete else self.replay.state_dict(),
            "meter": self.meter.state_dict(),
            "generator": self.generator.get_state(),
            "steps": self.steps,
            "unchecked": self.unchecked,
            "weights": dict(self.weights),
            "obs": None if self.obs is None else {name: o.clone() for name, o in self.obs.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        for optimizer, saved in zip((self.pi_optimizer, self.q_optimizer), state["optimizers"], strict=True):
            optimizer.adam.load_state_dict(saved)
        if state["replay"] is not None:
            self.replay.load_state_dict(state["replay"])
        self.meter.load_state_dict(state["meter"])
        self.generator.set_state(state["generator"])
        self.steps, self.unchecked = state["steps"], state["unchecked"]
        self.weights, self.obs = dict(state["weights"]), state["obs"]


def _require_curriculum(env: BatchedEnv, config: Td3L2fConfig) -> None:
    missing = [name for name in ("reward_weights", "recalculate_reward") if not hasattr(env, name)]
    unknown = [] if missing else [name for name, *_ in config.curriculum if name not in env.reward_weights]  # type: ignore[attr-defined]
    if missing or unknown:
        what = f"has no {' and no '.join(missing)}" if missing else f"has no reward weight {', '.join(unknown)}"
        known = "" if missing else f" (it has {', '.join(env.reward_weights)})"  # type: ignore[attr-defined]
        raise ConfigError(f"the curriculum needs an environment that recalculates rewards; this one {what}{known}")


ALGORITHM = AlgorithmSpec(
    name="td3-l2f",
    config_class=Td3L2fConfig,
    create=Td3L2f,
    task_overrides={"observer": "l2f", "action_map": "rotor"},
    shown=("episode/return", "episode/length", "episode/terminated", "loss/critic"),
    summary="TD3 of Learning to Fly in Seconds: asymmetric critics, action history, reward curriculum",
)
