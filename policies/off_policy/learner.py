"""The loop of FastTD3 and FastSAC: one step of all environments, then updates of a critic ensemble and an actor.

Sources: Seo et al., FastTD3 (2025) and its released settings; Fujimoto et al., TD3 (2018). What differs between the two
learners is the actor: how it explores, which action follows in the target, and what it climbs.

Optional in the environment besides `BatchedEnv`:
    episode_step: (N,) integer tensor, settable: steps since the last reset (see `desynchronise`).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic

import torch
from torch import Tensor, nn

from robot_rl.errors import ConfigError
from robot_rl.policies.guards import LossGuard, require_finite
from robot_rl.policies.networks import FlatAdamW, FlatParameters, activation
from robot_rl.policies.normalizer import RunningNormalizer
from robot_rl.policies.off_policy.config import ConfigT, for_device
from robot_rl.policies.off_policy.demos import demo_replay, read_demos
from robot_rl.policies.off_policy.dormant import dormancy
from robot_rl.policies.off_policy.ensemble import CriticEnsemble
from robot_rl.policies.off_policy.replay import Batch, RingReplay
from robot_rl.policies.off_policy.reward_scale import RewardScale
from robot_rl.policies.off_policy.value_heads import VALUE_HEADS, Gaussian, ValueHead
from robot_rl.policies.schedules import half_cosine
from robot_rl.policies.training_log import EpisodeMeter, StepLog
from robot_rl.protocols import BatchedEnv, Step


class OffPolicyLearner(ABC, Generic[ConfigT]):
    """Everything but the actor; see the hooks at the end. Q is the ensemble, Q' its target.

    Attributes:
        groups: of observations that are kept in the replay. apart: whether it may act and learn in two processes.
        demos: recorded transitions that a share of each batch is drawn from, or None.
    """

    groups: tuple[str, ...] = ("policy", "critic")
    apart = True

    def __init__(self, env: BatchedEnv, config: ConfigT, seed: int) -> None:
        if env.num_envs != config.num_envs:
            raise ConfigError(f"num_envs = {config.num_envs}, but the environment has {env.num_envs}")
        self.seed, self.device = seed, torch.device(env.device)
        c = self.config = for_device(config, self.device)
        self.dims, self.action_dim = {k: env.obs_dims[k] for k in self.groups}, env.action_dim
        self.generator = torch.Generator(self.device).manual_seed(seed)
        initial = torch.Generator().manual_seed(seed)
        self.head: ValueHead = VALUE_HEADS[c.value_head](c.atoms, c.v_min, c.v_max, self.device)
        if isinstance(self.head, Gaussian):
            self.head.generator = self.generator
        self.actor = self._make_actor(initial).to(self.device)
        self.q = self._make_critics(initial)
        self.q_target = copy.deepcopy(self.q).requires_grad_(False)
        self.normalizers = {k: RunningNormalizer(dim).to(self.device) for k, dim in self.dims.items()}
        self.networks: dict[str, nn.Module] = {"actor": self.actor, "q": self.q, "q_target": self.q_target}
        self.flat = {name: FlatParameters(network) for name, network in self.networks.items()}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "actor": FlatAdamW(self.flat["actor"].vector, c.actor_learning_rate, c.weight_decay),
            "q": FlatAdamW(self.flat["q"].vector, c.critic_learning_rate, c.weight_decay),
        }
        by_error = (c.priority_exponent, c.priority_floor, c.priority_correction) if c.prioritised else None
        self.replay = RingReplay(c.replay_steps, c.num_envs, self.dims, self.action_dim, self.device, by_error)
        bound = max(abs(c.v_min), abs(c.v_max))
        self.reward_scale = RewardScale(c.num_envs, c.gamma, bound, c.reward_scale, self.device)
        self.meter, self.step_log = EpisodeMeter(c.num_envs), StepLog()
        self.critic_loss = torch.compile(self._critic_loss) if c.compile else self._critic_loss
        self.actor_loss = torch.compile(self._actor_loss) if c.compile else self._actor_loss
        self.obs: dict[str, Tensor] | None = None
        self.demos: RingReplay | None = None
        self.steps, self.updates = 0, 0
        self.updates_from = c.warmup_steps
        self.losses = LossGuard(self.device)
        self.last_batch: Batch | None = None  # kept where dormant units are counted

    def _make_critics(self, generator: torch.Generator) -> CriticEnsemble:
        c = self.config
        sizes = (self._judged_width(), *c.critic_hidden, self.head.outputs)
        q = CriticEnsemble(c.heads, sizes, c.activation, c.critic_layer_norm, generator, c.critic_network)
        q = q.to(self.device)
        q.biases[-1].data += self.head.initial_bias()
        return q

    @property
    def progress(self) -> tuple[int, int]:
        return min(self.steps, self.config.total_steps), self.config.total_steps

    @property
    def env_steps(self) -> int:
        return self.steps

    def prepare(self, env: BatchedEnv) -> None:
        """Read the demonstrations, where there are some. Raises ConfigError or DataError where they do not fit."""
        del env
        c = self.config
        if c.demos:
            self.demos = demo_replay(read_demos(c, self.dims, self.action_dim), self.dims, self.device)

    def step(self, env: BatchedEnv) -> dict[str, float]:
        """`steps_per_iteration` steps of all environments, each followed by its updates; metrics are averages."""
        if self.config.demos and self.demos is None:
            self.prepare(env)
        if self.obs is None:
            self._begin(env)
        self._set_learning_rates()
        seen: dict[str, list[Tensor]] = {}
        for _ in range(self.config.steps_per_iteration):
            self._transition(env)
            for _ in range(self.config.updates_per_step if self.steps >= self.updates_from else 0):
                for name, value in self._update().items():
                    seen.setdefault(name, []).append(value)
            if self.progress[0] >= self.progress[1]:
                break
        return self.report(seen)

    def report(self, seen: Mapping[str, list[Tensor]]) -> dict[str, float]:
        """Metrics since the last call, with the averages of `seen`; raises NonFinite for losses and parameters."""
        self.losses.check()
        for name in ("q", "actor"):
            require_finite(f"parameters of {name}", self.flat[name].vector)
        metrics = {name: torch.stack(values).mean().item() for name, values in seen.items()}
        metrics["reward/scale"] = self.reward_scale.factor.item()
        if self.last_batch is not None:
            metrics |= self._dormancy(self.last_batch)
        return self.meter.metrics() | self.step_log.metrics() | metrics

    def _set_learning_rates(self) -> None:
        c = self.config
        factor = half_cosine(self.progress, c.learning_rate_end)
        for name, rate in (("actor", c.actor_learning_rate), ("q", c.critic_learning_rate)):
            for group in self.optimizers[name].param_groups:
                group["lr"] = factor * rate

    def _begin(self, env: BatchedEnv) -> None:
        obs = env.reset(self.seed)
        if self.config.desynchronise and hasattr(env, "episode_step"):
            ages = torch.randint(env.max_episode_steps, (env.num_envs,), generator=self.generator, device=self.device)
            env.episode_step[:] = ages.to(env.episode_step)  # type: ignore[attr-defined]
        self.begin(obs)

    def begin(self, obs: dict[str, Tensor]) -> None:
        """Take observations (N, …) that do not follow from the last ones: the first of all, or after a gap."""
        self._check_obs(obs)
        if self.obs is not None:
            self.replay.cut()
            self.meter.forget_running()
        elif self.demos is not None:
            self._see({name: stored[: len(self.demos)] for name, stored in self.demos.obs.items()})
        self._see(obs)
        self.replay.begin(obs)
        self.obs = obs

    def _transition(self, env: BatchedEnv) -> None:
        assert self.obs is not None
        action, step = self.act(env, self.obs)
        self.record(action, step)

    @torch.no_grad()
    def act(self, env: BatchedEnv, obs: Mapping[str, Tensor]) -> tuple[Tensor, Step]:
        """One step of all environments: the action (N, a) that was tried after `obs`, and what it gave."""
        action = self._explore(self._actor_input(obs))
        require_finite("action", action)
        step = env.step(action)
        self._episodes_ended(step.terminated | step.truncated)
        return action, step

    @torch.no_grad()
    def record(self, action: Tensor, step: Step) -> None:
        """Learn from this step of all environments, which follows from the observations that were seen last."""
        require_finite("reward", step.reward)
        self._check_obs(step.obs)
        self._store(action, step)
        self.reward_scale.update(step.reward, step.terminated)
        self.meter.add(step.reward, step.terminated, step.truncated)
        self.step_log.add(step.log)
        self._see(step.obs)
        self.obs = step.obs
        self.steps += self.config.num_envs

    def acting_env(self, env: BatchedEnv) -> BatchedEnv:
        """What `act` steps: `env`, or what the learner puts around it."""
        return env

    def acting_state(self) -> dict[str, Tensor]:
        """All that `act` depends on and that learning changes, by name; not copies."""
        state = {f"actor.{name}": value for name, value in self.actor.state_dict().items()}
        for group, normalizer in self.normalizers.items():
            state |= {f"normalizer.{group}.{name}": value for name, value in normalizer.state_dict().items()}
        return state

    def _check_obs(self, obs: Mapping[str, Tensor]) -> None:
        for name in self.dims:
            require_finite(f"obs['{name}']", obs[name])

    def _see(self, obs: Mapping[str, Tensor]) -> None:
        if self.config.normalise_obs:
            for name, normalizer in self.normalizers.items():
                normalizer.update(obs[name])

    def _actor_input(self, obs: Mapping[str, Tensor]) -> Tensor:
        """What the hooks below get as `obs`: (B, n)."""
        return self._normalised("policy", obs["policy"])

    def _critic_input(self, obs: Mapping[str, Tensor]) -> Tensor:
        """What the losses get as `critic_obs`: (B, m)."""
        return self._normalised(self.config.critic_group, obs[self.config.critic_group])

    def _judged(self, critic_obs: Tensor, action: Tensor) -> Tensor:
        """What the critics get, (B, `_judged_width()`), for `_critic_input` and actions (B, a)."""
        return torch.cat((critic_obs, action), 1)

    def _judged_width(self) -> int:
        return self.dims[self.config.critic_group] + self.action_dim

    def _normalised(self, group: str, obs: Tensor) -> Tensor:
        return self.normalizers[group](obs) if self.config.normalise_obs else obs

    def update(self) -> dict[str, Tensor]:
        """One update at the learning rate of this moment, for who does not call `step`; metrics as scalar tensors."""
        self._set_learning_rates()
        return self._update()

    def _update(self) -> dict[str, Tensor]:
        """One critic update, and one of the actor on the same batch when it is due."""
        c = self.config
        metrics = self._update_critics(batch := self._draw_batch())
        self.updates += 1
        if self.updates % c.policy_delay == 0:
            metrics |= self._update_actor(batch)
        if c.dormant_ratio:
            self.last_batch = batch
        if c.resets_after(self.updates):
            self._reset(torch.Generator().manual_seed(self.seed + 10**9 * self.updates))
        return metrics

    @torch.no_grad()
    def _reset(self, generator: torch.Generator) -> None:
        """All networks as in the beginning, with other numbers, and optimisers that have seen nothing."""
        fresh = {"actor": self._make_actor(generator).to(self.device), "q": self._make_critics(generator)}
        for name, network in fresh.items():
            self.flat[name].vector.copy_(FlatParameters(network).vector)
        self.flat["q_target"].vector.copy_(self.flat["q"].vector)
        self.head.forget()
        for optimizer in self.optimizers.values():
            optimizer.state.clear()

    def _dormancy(self, batch: Batch) -> dict[str, float]:
        x, kind = self._judged(self._critic_input(batch.obs), batch.action), type(activation(self.config.activation))
        return dormancy(self.actor, self._actor_input(batch.obs), kind, self.q, x)

    def _draw_batch(self) -> Batch:
        """A batch of what was experienced, and of what was demonstrated."""
        c = self.config
        shown = 0 if self.demos is None else round(c.demo_share * c.batch_size)
        own = self.replay.sample(c.batch_size - shown, c.n_step, c.gamma, self.generator)
        if self.demos is None or shown == 0:
            return own
        return own.joined(self.demos.sample(shown, c.n_step, c.gamma, self.generator))

    def _update_critics(self, batch: Batch) -> dict[str, Tensor]:
        """Regress every head on reward + discount · Q'(s', a'), with the minimum or average over the target heads."""
        x = self._judged(self._critic_input(batch.obs), batch.action)
        following = self._actor_input(batch.next_obs), self._critic_input(batch.next_obs)
        reward = batch.reward * self.reward_scale.factor
        loss, value, error = self.critic_loss(
            x, *following, reward, batch.discount, self._noise(), self._subset(), batch.weight
        )
        self._descend("q", "loss/critic", loss)
        self.flat["q_target"].average_towards(self.flat["q"], self.config.polyak)
        if batch.row is not None and error is not None and self.replay.priorities is not None:
            self.replay.priorities.update(batch.row, error[: len(batch.row)])
        return {"loss/critic": loss.detach(), "value/mean": value}

    def _critic_loss(
        self, x: Tensor, policy_obs: Tensor, critic_obs: Tensor, reward: Tensor, discount: Tensor, noise: Tensor,
        subset: Tensor | None, weight: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
        """Loss, mean value, and (B,) the largest error of a head where samples have weights (B,)."""
        with self._autocast():
            with torch.no_grad():
                action, bonus = self._next_action(policy_obs, noise)
                following = self.q_target(self._judged(critic_obs, action))
                following = following if subset is None else following[subset]
                target = self.head.target(reward + discount * bonus, discount, following, self.config.target == "min")
            outputs = self.q(x)
        with torch.no_grad():
            values = self.head.value(outputs)
            mean = values.mean()
            error = None if weight is None else (values - self.head.expected(target)).abs().amax(0)
        if weight is None:
            return self.head.loss(outputs, target), mean, None
        return (weight * self.head.losses(outputs, target)).mean(), mean, error

    def _update_actor(self, batch: Batch) -> dict[str, Tensor]:
        policy_obs, critic_obs = self._actor_input(batch.obs), self._critic_input(batch.obs)
        loss, metrics = self.actor_loss(policy_obs, critic_obs, self._noise())
        self._descend("actor", "loss/actor", loss)
        return {"loss/actor": loss.detach()} | metrics

    def _value_of(self, critic_obs: Tensor, action: Tensor) -> Tensor:
        """What the actor climbs: (B,) value of its actions, with the critics held constant."""
        which = slice(0, 1) if self.config.actor_value == "first" else None
        values = self.head.value(self.q(self._judged(critic_obs, action), which, frozen=True))
        return values.amin(0) if self.config.actor_value == "min" else values.mean(0)

    def _subset(self) -> Tensor | None:
        c = self.config
        if c.target_subset in (0, c.heads):
            return None
        return torch.randperm(c.heads, generator=self.generator, device=self.device)[: c.target_subset]

    def _noise(self) -> Tensor:
        """Standard normal (batch, a); drawn outside the losses, so that these are functions of their arguments."""
        return torch.randn(self.config.batch_size, self.action_dim, generator=self.generator, device=self.device)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _descend(self, name: str, loss_name: str, loss: Tensor) -> None:
        self.losses.see(loss_name, loss)
        vector = self.flat[name].vector
        assert vector.grad is not None
        vector.grad.zero_()
        loss.backward()
        if self.config.max_grad_norm > 0.0:
            nn.utils.clip_grad_norm_([vector], self.config.max_grad_norm)
        self.optimizers[name].step()

    def state_dict(self) -> dict[str, Any]:
        """Everything; the replay only while training goes on and while it is small enough to be written often."""
        complete = self.progress[0] >= self.progress[1]
        with_replay = not complete and self.replay.megabytes <= self.config.checkpoint_replay_mb
        return {
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "normalizers": {name: normalizer.state_dict() for name, normalizer in self.normalizers.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "replay": self.replay.state_dict() if with_replay else None,
            "reward_scale": self.reward_scale.state_dict(),
            "head": self.head.state_dict(),
            "meter": self.meter.state_dict(),
            "generator": self.generator.get_state(),
            "counts": [self.steps, self.updates, self.updates_from],
            "obs": None if self.obs is None else {name: o.clone() for name, o in self.obs.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, normalizer in self.normalizers.items():
            normalizer.load_state_dict(state["normalizers"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.reward_scale.load_state_dict(state["reward_scale"])
        self.head.load_state_dict(state.get("head", {}))
        self.meter.load_state_dict(state["meter"])
        self.generator.set_state(state["generator"].cpu())
        self.steps, self.updates, self.updates_from = state["counts"]
        self.obs = None if state["obs"] is None else {name: o.to(self.device) for name, o in state["obs"].items()}
        if state["replay"] is not None:
            self.replay.load_state_dict(state["replay"])
        elif self.obs is not None:  # left out of the checkpoint: collect anew before going on
            self.replay.begin(self.obs)
            self.updates_from = self.steps + self.config.warmup_steps

    @abstractmethod
    def _make_actor(self, generator: torch.Generator) -> nn.Sequential: ...

    @abstractmethod
    def _explore(self, obs: Tensor) -> Tensor:
        """Actions (N, a) in [−1, 1] to try, for normalised observations (N, n)."""
        ...

    @abstractmethod
    def _next_action(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (B, a) that follow in the target, and (B,) what is added to their value."""
        ...

    @abstractmethod
    def _actor_loss(self, policy_obs: Tensor, critic_obs: Tensor, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the actor and metrics without gradient, for normalised observations (B, …)."""
        ...

    @abstractmethod
    def policy(self) -> nn.Module: ...

    def _store(self, action: Tensor, step: Step) -> None:
        """Keep what was asked for, (N, a), and what it gave."""
        self.replay.add(action, step)

    def _episodes_ended(self, done: Tensor) -> None:
        """Called after each step with (N,) bool; does nothing unless the learner needs it."""
