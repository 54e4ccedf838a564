"""Behaviour cloning from recorded episodes: a perceptron plans chunks of actions. The environment is never stepped.

Pomerleau: ALVINN (1989), for cloning; Zhao et al.: Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware
(2023), for chunks and the absolute error as loss.
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
from robot_rl.policies.chunks import ChunkedActor
from robot_rl.policies.demonstrations import LABELS, WHICH, Demonstrations, load_demonstrations
from robot_rl.policies.guards import require_finite, require_range
from robot_rl.policies.networks import DeterministicActor, activation
from robot_rl.policies.normalizer import RunningNormalizer
from robot_rl.policies.off_policy.actors import actor_network
from robot_rl.policies.schedules import half_cosine
from robot_rl.protocols import BatchedEnv

LOSSES = ("l1", "l2")


SMALLEST_VARIANCE = 1e-2
"""Of an observation: what hardly varies in a few demonstrations must not be blown up with its rounding errors."""


@dataclass(frozen=True)
class BcConfig:
    """Hyper-parameters.

    Attributes:
        demos: file of episodes. which: all or successful ones. episodes: at most so many; 0: all. label: see
            `load_demonstrations`.
        group: the observation group that is cloned from.
        horizon: H, actions planned at once. execute: how many are played before the next plan; 0: half, at least one.
        ensemble: m ≥ 0: plan at every step and average (see ChunkedActor); below 0: do not.
        updates, updates_per_iteration: minibatches in all, and in one logged iteration.
        hidden, activation, layer_norm: the network. loss: l1 or l2 over the planned actions within the episode.
        learning_rate: falls to 0 along half a cosine. weight_decay: of AdamW.
        obs_noise: standard deviation of noise on normalised observations.
        validation: share of the episodes that are kept apart, at least one where there are several; 0: none.
        num_envs: environments that are made to know the sizes.
    """

    demos: str = ""
    which: str = "successful"
    episodes: int = 0
    label: str = "action"
    group: str = "policy"
    horizon: int = 1
    execute: int = 0
    ensemble: float = -1.0
    updates: int = 3000
    updates_per_iteration: int = 100
    batch_size: int = 256
    hidden: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    layer_norm: bool = True
    loss: str = "l1"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    obs_noise: float = 0.0
    validation: float = 0.1
    num_envs: int = 1

    def __post_init__(self) -> None:
        for name in ("horizon", "updates", "updates_per_iteration", "batch_size", "num_envs"):
            require_range(name, getattr(self, name), 1, 10**9)
        require_range("episodes", self.episodes, 0, 10**9)
        require_range("execute", self.execute, 0, self.horizon)
        require_range("ensemble", self.ensemble, -1.0, 100.0)
        for name in ("learning_rate", "weight_decay", "obs_noise"):
            require_range(name, getattr(self, name), 0.0, 1.0)
        require_range("validation", self.validation, 0.0, 0.9)
        for name, allowed in (("which", WHICH), ("label", LABELS), ("loss", LOSSES)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} = '{getattr(self, name)}'; allowed: {', '.join(allowed)}")
        activation(self.activation)


class Bc:
    """The learner; the demonstrations are read by `prepare`, so that a clone can be exported without them."""

    def __init__(self, env: BatchedEnv, config: BcConfig, seed: int) -> None:
        c = self.config = config
        if c.group not in env.obs_dims:
            raise UnknownName("observation group", c.group, env.obs_dims)
        self.size, self.action_dim, self.device = env.obs_dims[c.group], env.action_dim, torch.device(env.device)
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        sizes = (self.size, *c.hidden, c.horizon * self.action_dim)
        initial = torch.Generator().manual_seed(seed)
        self.network = actor_network(sizes, c.activation, c.layer_norm, 0.1, initial).to(self.device)
        self.norm = RunningNormalizer(self.size, eps=SMALLEST_VARIANCE).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay, fused=True
        )
        self.updates = 0
        self.demos: Demonstrations | None = None
        self.learnt = self.kept_apart = torch.empty(0, dtype=torch.int64)

    @property
    def progress(self) -> tuple[int, int]:
        return self.updates, self.config.updates

    @property
    def env_steps(self) -> int:
        return 0

    def step(self, env: BatchedEnv) -> dict[str, float]:
        """Some minibatches; errors on what is learnt and on the episodes kept apart."""
        c = self.config
        demos = self.demos or self.prepare(env)
        losses: list[Tensor] = []
        for _ in range(min(c.updates_per_iteration, c.updates - self.updates)):
            for group in self.optimizer.param_groups:
                group["lr"] = c.learning_rate * half_cosine(self.progress, 0.0)
            drawn = torch.randint(len(self.learnt), (c.batch_size,), generator=self.generator)
            losses.append(self._update(demos, self.learnt[drawn]))
            self.updates += 1
        table = torch.stack(losses)
        require_finite("loss/imitation", table)
        for parameter in self.network.parameters():
            require_finite("parameters", parameter)
        metrics = {"loss/imitation": table.mean().item(), "policy/learning_rate": self.optimizer.param_groups[0]["lr"]}
        if len(self.kept_apart):
            with torch.no_grad():
                metrics["loss/validation"] = self._error(demos, self.kept_apart, 0.0).item()
        return metrics

    def prepare(self, env: BatchedEnv) -> Demonstrations:
        """Read the demonstrations, keep episodes apart, and fit the normaliser where training has just begun."""
        c = self.config
        demos = self.demos = load_demonstrations(
            c.demos, {c.group: self.size}, self.action_dim,
            which=c.which, label=c.label, episodes=c.episodes, device=self.device,
        )  # fmt: skip
        apart = math.ceil(c.validation * demos.episodes) if demos.episodes > 1 else 0
        order = torch.randperm(demos.episodes, generator=torch.Generator().manual_seed(self.seed))
        held = torch.isin(demos.episode.cpu(), order[:apart])
        self.learnt, self.kept_apart = (~held).nonzero()[:, 0], held.nonzero()[:, 0]
        if self.updates == 0:
            self.norm.update(demos.obs[c.group][self.learnt])
        return demos

    def _update(self, demos: Demonstrations, index: Tensor) -> Tensor:
        loss = self._error(demos, index, self.config.obs_noise)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        return loss.detach()

    def _error(self, demos: Demonstrations, index: Tensor, noise: float) -> Tensor:
        """Mean error per planned action that the episode still has."""
        c, index = self.config, index.to(self.device)
        obs = self.norm(demos.obs[c.group][index])
        if noise > 0.0:
            obs = obs + noise * torch.randn(obs.shape, generator=self.generator).to(obs)
        wanted, within = demos.chunks(index, c.horizon)
        error = self.network(obs).view_as(wanted) - wanted
        size = error.abs() if c.loss == "l1" else error.square()
        return (size.mean(-1) * within).sum() / within.sum()

    def policy(self) -> nn.Module:
        """The clone as it is deployed; with a horizon above 1 what is left of its plan is memory of the file."""
        c = self.config
        if c.horizon == 1:
            return DeterministicActor(self.network, self.norm).cpu()
        execute = c.execute or max(1, c.horizon // 2)
        ensemble = c.ensemble if c.ensemble >= 0.0 else None
        return ChunkedActor(self.network, self.norm, c.horizon, self.action_dim, execute, ensemble).cpu()

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "norm": self.norm.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.norm.load_state_dict(state["norm"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.updates = state["updates"]


ALGORITHM = AlgorithmSpec(
    name="bc",
    config_class=BcConfig,
    create=Bc,
    shown=("loss/imitation", "loss/validation"),
    summary="behaviour cloning of recorded episodes (robot-rl demos), with action chunks",
)
