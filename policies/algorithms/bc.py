"""Behaviour cloning from recorded episodes: a head plans chunks of actions. The environment is never stepped.

Pomerleau: ALVINN (1989), for cloning; Zhao et al.: Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware
(2023), for chunks and the absolute error as loss. The heads and their papers stand in `policies/imitation/`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.chunks import ChunkedActor
from robot_rl.policies.demonstrations import Demonstrations, load_demonstrations
from robot_rl.policies.guards import require_finite
from robot_rl.policies.imitation.config import BcConfig
from robot_rl.policies.imitation.head import Planner, make_head
from robot_rl.policies.imitation.pictures import Eyes, Perception
from robot_rl.policies.networks import DeterministicActor
from robot_rl.policies.normalizer import RunningNormalizer
from robot_rl.policies.schedules import half_cosine
from robot_rl.protocols import BatchedEnv
from robot_rl.signals import Signal

SMALLEST_VARIANCE = 1e-2
"""Of an observation: what hardly varies in a few demonstrations must not be blown up with its rounding errors."""
VALIDATED = 512  # transitions that the validation looks at, at most


class Bc:
    """The learner; the demonstrations are read by `prepare`, so that a clone can be exported without them."""

    def __init__(self, env: BatchedEnv, config: BcConfig, seed: int) -> None:
        c = self.config = config
        if c.group not in env.obs_dims:
            raise UnknownName("observation group", c.group, env.obs_dims)
        self.size, self.action_dim, self.device = env.obs_dims[c.group], env.action_dim, torch.device(env.device)
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        self.pictures = pictures_of(env, c.images)
        self.norm = RunningNormalizer(self.size, eps=SMALLEST_VARIANCE)
        eyes = _eyes(self.pictures, c.keypoints, seed)
        shape = (len(self.pictures), *self.pictures[0].shape) if self.pictures else ()
        self.perception = Perception(self.norm, self.size, eyes, shape).to(self.device)
        self.planner = Planner(make_head(c, self.perception.features, self.action_dim, seed)).to(self.device)
        self.parameters = [*self.planner.parameters(), *self.perception.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=c.learning_rate, weight_decay=c.weight_decay, fused=True)
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
        for parameter in self.parameters:
            require_finite("parameters", parameter)
        metrics = {"loss/imitation": table.mean().item(), "policy/learning_rate": self.optimizer.param_groups[0]["lr"]}
        return metrics | (self._validation(demos) if len(self.kept_apart) else {})

    def prepare(self, env: BatchedEnv) -> Demonstrations:
        """Read the demonstrations, keep episodes apart, and fit the normaliser where training has just begun."""
        c = self.config
        demos = self.demos = load_demonstrations(
            c.demos, {c.group: self.size}, self.action_dim, which=c.which, label=c.label, episodes=c.episodes,
            pictures={s.name.removeprefix("image_"): s.shape for s in self.pictures}, device=self.device,
        )  # fmt: skip
        apart = math.ceil(c.validation * demos.episodes) if demos.episodes > 1 else 0
        order = torch.randperm(demos.episodes, generator=torch.Generator().manual_seed(self.seed))
        held = torch.isin(demos.episode.cpu(), order[:apart])
        self.learnt, self.kept_apart = (~held).nonzero()[:, 0], held.nonzero()[:, 0]
        if self.updates == 0:
            self.norm.update(demos.obs[c.group][self.learnt])
        return demos

    def _update(self, demos: Demonstrations, index: Tensor) -> Tensor:
        c, index = self.config, index.to(self.device)
        features = self.perception.learnt(
            demos.obs[c.group][index], demos.pictures_at(index), c.obs_noise, c.shift, self.generator
        )
        wanted, within = demos.chunks(index, c.horizon)
        loss = self.planner.head.loss(features, wanted, within, self.generator)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, c.max_grad_norm)
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def _validation(self, demos: Demonstrations) -> dict[str, float]:
        """On episodes kept apart, always with the same draws: the loss, and how far the plan is from what was done."""
        c, same = self.config, torch.Generator().manual_seed(self.seed)
        some = torch.linspace(0, len(self.kept_apart) - 1, min(VALIDATED, len(self.kept_apart))).long()
        index = self.kept_apart[some].to(self.device)
        features = self.perception.learnt(demos.obs[c.group][index], demos.pictures_at(index), 0.0, 0, same)
        wanted, within = demos.chunks(index, c.horizon)
        loss = self.planner.head.loss(features, wanted, within, same)
        off = (self.planner(features).view_as(wanted).clamp(-1.0, 1.0) - wanted).abs().mean(-1)
        return {"loss/validation": loss.item(), "validation/error": ((off * within).sum() / within.sum()).item()}

    def policy(self) -> nn.Module:
        """The clone as it is deployed; with a horizon above 1 what is left of its plan is memory of the file.

        Its attribute `pictures` names the signals that it sees behind the observation, flat; `tolerance` is what it is
        exported with.
        """
        c, head = self.config, self.planner.head
        rows = 0 if head.noise is None or c.noise_rows == 1 else c.noise_rows
        actor: nn.Module
        if c.horizon == 1 and not rows:
            actor = DeterministicActor(self.planner, self.perception)
        else:
            execute = c.execute or max(1, c.horizon // 2)
            ensemble = c.ensemble if c.ensemble >= 0.0 else None
            actor = ChunkedActor(self.planner, self.perception, c.horizon, self.action_dim, execute, ensemble, rows)
        actor.tolerance = head.tolerance  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
        actor.pictures = self.pictures  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
        return actor.cpu()

    def state_dict(self) -> dict[str, Any]:
        return {
            "planner": self.planner.state_dict(),
            "perception": self.perception.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.planner.load_state_dict(state["planner"])
        self.perception.load_state_dict(state["perception"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.updates = state["updates"]


def pictures_of(env: BatchedEnv, cameras: tuple[str, ...]) -> tuple[Signal, ...]:
    """The signals of these cameras' pictures.

    Raises:
        ConfigError: the environment does not give them.
    """
    given: dict[str, Signal] = {s.name: s for s in getattr(env, "pictures", ())}
    for camera in cameras:
        if f"image_{camera}" not in given:
            have = ", ".join(n.removeprefix("image_") for n in given) or "no pictures"
            raise ConfigError(
                f"images = {list(cameras)}: the environment gives {have}; where the task has cameras: "
                f"--set task.camera.size=64 task.camera.names=[{','.join(cameras)}]"
            )
    return tuple(given[f"image_{camera}"] for camera in cameras)


def _eyes(pictures: tuple[Signal, ...], keypoints: int, seed: int) -> Eyes | None:
    if not pictures:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Eyes(len(pictures), keypoints)


ALGORITHM = AlgorithmSpec(
    name="bc",
    config_class=BcConfig,
    create=Bc,
    shown=("loss/imitation", "loss/validation"),
    summary="behaviour cloning of recorded episodes (robot-rl demos), with action chunks",
)
