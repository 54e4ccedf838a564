"""Distillation: a student that sees only what the robot sees learns to act like a teacher that sees more.

Ross et al.: A Reduction of Imitation Learning and Structured Prediction to No-Regret Online Learning (2011), DAgger:
the student's own states are labelled by the teacher; here of fresh rollouts only, as thousands of environments give
them quickly. Lee et al.: Learning Quadrupedal Locomotion over Challenging Terrain (2020) for privileged teachers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
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
from robot_rl.policies.rollout_storage import Minibatches, Pieces, kept
from robot_rl.policies.teacher import Teacher, from_function, load_teacher
from robot_rl.policies.training_log import EpisodeMeter
from robot_rl.protocols import BatchedEnv


@dataclass(frozen=True)
class DistillConfig:
    """Hyper-parameters.

    Attributes:
        teacher: run folder or policy file (.onnx) of the teacher.
        teacher_group, student_group: observations they see; a policy file reads the environment's signals instead.
        num_envs, steps_per_env: N and T; one iteration learns from N·T states.
        iterations, epochs, minibatches: rollouts in all, passes over one, parts of a pass.
        beta, beta_iterations: share of environments that follow the teacher, falling linearly to 0 in so many
            iterations. States where only a teacher gets are seen early, the student's own ones later.
        hidden, activation, gru: the student; gru > 0: recurrent, learnt on sequences of T steps.
        normalise_obs, desynchronise, mixed_precision: as in PPO.
    """

    teacher: str = ""
    teacher_group: str = "critic"
    student_group: str = "policy"
    num_envs: int = 256
    steps_per_env: int = 24
    iterations: int = 300
    epochs: int = 2
    minibatches: int = 4
    beta: float = 1.0
    beta_iterations: int = 20
    learning_rate: float = 1e-3
    max_grad_norm: float = 1.0
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "elu"
    gru: int = 0
    normalise_obs: bool = True
    desynchronise: bool = True
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        for name in ("num_envs", "steps_per_env", "iterations", "epochs", "minibatches"):
            require_range(name, getattr(self, name), 1, 10**9)
        items = self.num_envs if self.gru else self.num_envs * self.steps_per_env
        require_range("minibatches", self.minibatches, 1, items)
        require_range("beta", self.beta, 0.0, 1.0)
        require_range("beta_iterations", self.beta_iterations, 0, 10**9)
        require_range("learning_rate", self.learning_rate, 0.0, 1.0)
        require_range("gru", self.gru, 0, 10**6)
        activation(self.activation)


class Distill:
    """The learner.

    Args:
        env, config, seed: as for every algorithm.
        teacher: obs (N, n) of the teacher's group → action (N, A); None: loaded from `config.teacher` at the first
            step, so that a student can be exported when its teacher is gone.
    """

    def __init__(
        self,
        env: BatchedEnv,
        config: DistillConfig,
        seed: int,
        teacher: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        c = self.config = config
        if env.num_envs != c.num_envs:
            raise ConfigError(f"num_envs = {c.num_envs}, but the environment has {env.num_envs}")
        if c.student_group not in env.obs_dims:
            raise UnknownName("observation group", c.student_group, env.obs_dims)
        self.ranks, self.device = current_ranks(), torch.device(env.device)
        self.seed = self.ranks.seed(seed)
        self.generator = torch.Generator(self.device).manual_seed(self.seed)
        size = env.obs_dims[c.student_group]
        self.student = PolicyNetwork(size, c.hidden, env.action_dim, c.activation, c.gru, c.mixed_precision)
        self.student.initialise(math.sqrt(2.0), 0.01, torch.Generator().manual_seed(seed))
        self.norm = RunningNormalizer(size)
        self.student.to(self.device)
        self.norm.to(self.device)
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=c.learning_rate, fused=True)
        self.function, self.teacher = teacher, None
        self.teacher_memory: dict[str, Tensor] = {}
        self.state = self.student.initial_state(c.num_envs)
        self.meter = EpisodeMeter(c.num_envs)
        self.iteration = 0
        self.obs: dict[str, Tensor] | None = None

    @property
    def progress(self) -> tuple[int, int]:
        return self.iteration, self.config.iterations

    @property
    def env_steps(self) -> int:
        return self.iteration * self.config.steps_per_env * self.config.num_envs * self.ranks.count

    @property
    def beta(self) -> float:
        """Share of environments that follow the teacher in this iteration."""
        c = self.config
        return c.beta * max(0.0, 1.0 - self.iteration / c.beta_iterations) if c.beta_iterations else 0.0

    def step(self, env: BatchedEnv) -> dict[str, float]:
        """Collect the student's states with the teacher's answers, learn them, then let the normaliser see them."""
        if self.teacher is None:
            self.teacher = self._teacher(env)
        if self.obs is None:
            self._begin(env)
        beta = self.beta
        fields, state = self._collect(env, self.teacher, beta)
        loss = self._update(fields, state)
        if self.config.normalise_obs:
            self.norm.update(fields["obs"], self.ranks)
        self.iteration += 1
        return self.meter.metrics() | {"loss/imitation": loss, "dagger/beta": beta}

    def prepare(self, env: BatchedEnv) -> None:
        """Raises what is wrong with the teacher."""
        self._teacher(env)

    def _teacher(self, env: BatchedEnv) -> Teacher:
        c = self.config
        if self.function is None and not c.teacher:
            raise ConfigError("distill needs a teacher; give its run folder or policy file with --set teacher=PATH")
        if c.teacher_group not in env.obs_dims and not Path(c.teacher).is_file():
            raise UnknownName("observation group", c.teacher_group, env.obs_dims)
        if self.function is not None:
            teacher = from_function(self.function, c.teacher_group, env)
        else:
            teacher = load_teacher(Path(c.teacher), c.teacher_group, env)
        teacher.memory |= self.teacher_memory
        return teacher

    def _begin(self, env: BatchedEnv) -> None:
        self.obs = env.reset(self.seed)
        if self.config.desynchronise and hasattr(env, "episode_step"):
            ages = torch.randint(env.max_episode_steps, (env.num_envs,), generator=self.generator, device=self.device)
            env.episode_step[:] = ages.to(env.episode_step)  # type: ignore[attr-defined]
        if self.config.normalise_obs:
            self.norm.update(self.obs[self.config.student_group], self.ranks)

    @torch.no_grad()
    def _collect(self, env: BatchedEnv, teacher: Teacher, beta: float) -> tuple[dict[str, Tensor], Tensor]:
        """Fields (T, N, …) and the student's state before them."""
        c, initial_state = self.config, self.state
        columns: dict[str, list[Tensor]] = {"obs": [], "target": [], "reward": [], "terminated": [], "done": []}
        follow = torch.rand(c.num_envs, 1, generator=self.generator, device=self.device) < beta
        assert self.obs is not None
        for _ in range(c.steps_per_env):
            obs = self.obs[c.student_group].clone()
            target = teacher.act(self.obs)
            action, self.state = self.student(self.norm(obs), self.state)
            step = env.step(torch.where(follow, target, action.clamp(-1.0, 1.0)))
            done = step.terminated | step.truncated
            row = {"obs": obs, "target": target, "reward": step.reward, "terminated": step.terminated, "done": done}
            for name, value in row.items():
                columns[name].append(value.clone())
            self.state = self.state * (~done).unsqueeze(1)
            teacher.forget(done)
            self.obs = step.obs
        fields = {name: torch.stack(column) for name, column in columns.items()}
        names = {"obs": f"obs['{c.student_group}']", "target": "action of the teacher", "reward": "reward"}
        require_finite_rollout({shown: fields[name] for name, shown in names.items()})
        for reward, terminated, done in zip(*(fields[n].cpu() for n in ("reward", "terminated", "done")), strict=True):
            self.meter.add(reward, terminated, done)
        return fields, initial_state

    def _update(self, fields: Mapping[str, Tensor], state: Tensor) -> float:
        """Mean squared difference of actions over the passes."""
        c = self.config
        learnt = {"obs": self.norm(fields["obs"]), "target": fields["target"]}
        if c.gru:
            learnt["keep"] = kept(fields["done"])
        batches = Minibatches(learnt, {"state": state} if c.gru else None)
        losses = [
            self._update_minibatch(pieces)
            for _ in range(c.epochs)
            for pieces in batches.epoch(c.minibatches, self.generator)
        ]
        table = torch.stack(losses).cpu()
        require_finite("loss/imitation", table)
        for parameter in self.student.parameters():
            require_finite("parameters", parameter)
        return table.mean().item()

    def _update_minibatch(self, pieces: Pieces) -> Tensor:
        total = torch.zeros(1, device=self.device)
        self.optimizer.zero_grad()
        for batch, share in pieces:
            action, _ = self.student.sequence(batch["obs"], batch.get("state"), batch.get("keep"))
            loss = (action - batch["target"]).square().mean() * share
            loss.backward()
            total += loss.detach()
        gradients = [p.grad for p in self.student.parameters() if p.grad is not None]
        self.ranks.average([*gradients, total])
        nn.utils.clip_grad_norm_(self.student.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        return total[0]

    def policy(self) -> nn.Module:
        """The student as it is deployed."""
        return deployed_actor(self.student, self.norm if self.config.normalise_obs else None)

    def state_dict(self) -> dict[str, Any]:
        memory = self.teacher_memory if self.teacher is None else self.teacher.memory
        return {
            "student": self.student.state_dict(),
            "norm": self.norm.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "meter": self.meter.state_dict(),
            "generator": self.generator.get_state(),
            "iteration": self.iteration,
            "state": self.state.clone(),
            "teacher_memory": {name: value.clone() for name, value in memory.items()},
            "obs": None if self.obs is None else {name: o.clone() for name, o in self.obs.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        self.norm.load_state_dict(state["norm"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.meter.load_state_dict(state["meter"])
        self.generator.set_state(state["generator"])
        self.iteration = state["iteration"]
        self.state = state["state"].to(self.device)
        self.teacher_memory = {name: value.to(self.device) for name, value in state["teacher_memory"].items()}
        if self.teacher is not None:
            self.teacher.memory |= self.teacher_memory
        self.obs = None if state["obs"] is None else {name: o.to(self.device) for name, o in state["obs"].items()}


ALGORITHM = AlgorithmSpec(
    name="distill",
    config_class=DistillConfig,
    create=Distill,
    distributed=True,
    may_grow="iterations",
    shown=("loss/imitation", "episode/return", "episode/length", "episode/terminated", "dagger/beta"),
    summary="DAgger: a student with the robot's observations, recurrent if wanted, learns to act like a teacher",
)
