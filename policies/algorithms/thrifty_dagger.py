"""ThriftyDAgger: the policy itself asks for help, where states are new to it or success becomes unlikely.

Hoque et al., ThriftyDAgger: Budget-Aware Novelty and Risk Gating for Interactive Imitation Learning (2021). Five
clones, each of its own draw of the demonstrations; their variance is novelty, a critic of success is risk. Control
goes to the human above the (1 − alpha) quantile of novelty, or where success is less likely than `risk_human`. It comes
back where the policy would do what the human does and success is likely. Thresholds are fitted anew after each round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.algorithms.hg_dagger import HgDagger, HgDaggerConfig
from robot_rl.policies.demonstrations import Demonstrations, chosen_episodes
from robot_rl.policies.guards import require_finite, require_range
from robot_rl.policies.human.config import ASKED, HumanConfig
from robot_rl.policies.human.ensemble import ClonedEnsemble
from robot_rl.policies.human.replay import InterventionReplay
from robot_rl.policies.human.risk import SuccessCritic
from robot_rl.policies.imitation.head import Planner, make_head
from robot_rl.policies.off_policy.demos import demo_replay, judged
from robot_rl.policies.off_policy.replay import RingReplay
from robot_rl.protocols import BatchedEnv, Step

DRAWN = 1.0 - 0.3678794  # share of different rows in a bootstrap sample


@dataclass(frozen=True)
class ThriftyDaggerConfig(HgDaggerConfig):
    """HG-DAgger's settings, and when help is asked for.

    Attributes:
        members: K clones.
        alpha: share of the policy's own states that count as new.
        risk_human, risk_robot: chance of success below which help is asked for, above which the human may let go.
        gamma, risk_learning_rate, risk_polyak, risk_updates: of the critic of success; updates per round.
        replay_steps: steps kept per environment for it.
    """

    human: HumanConfig = field(default_factory=lambda: HumanConfig(when=ASKED))
    members: int = 5
    alpha: float = 0.01
    risk_human: float = 0.48
    risk_robot: float = 0.495
    gamma: float = 0.9999
    risk_learning_rate: float = 3e-4
    risk_polyak: float = 0.005
    risk_updates: int = 500
    replay_steps: int = 20_000
    round_steps: int = 2_000

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("members", self.members, 2, 100)
        for name in ("alpha", "risk_human", "risk_robot", "gamma", "risk_learning_rate", "risk_polyak"):
            require_range(name, getattr(self, name), 0.0, 1.0)
        require_range("replay_steps", self.replay_steps, 2, 10**9)
        require_range("risk_updates", self.risk_updates, 0, 10**9)


class ThriftyDagger(HgDagger):
    """The learner.

    Attributes:
        helped: (N,) bool, where the human has control.
        new: novelty above which help is asked for. apart: mean of ‖policy − human‖² in training, below which it ends.
        rows: for each member, the transitions that it learns from.
    """

    config: ThriftyDaggerConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, env: BatchedEnv, config: ThriftyDaggerConfig, seed: int) -> None:
        super().__init__(env, config, seed)
        c, features = config, self.perception.features
        seeds = [seed + 1000 * k for k in range(c.members)]
        self.clones = [Planner(make_head(c, features, self.action_dim, s)) for s in seeds]
        self.planner = ClonedEnsemble(self.clones)  # type: ignore[assignment]
        self.planner.to(self.device)
        self.parameters = [*self.planner.parameters(), *self.perception.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=c.learning_rate, weight_decay=c.weight_decay, fused=True)
        self.dims = {c.group: env.obs_dims[c.group], "critic": env.obs_dims["critic"]}
        self.risk = SuccessCritic(
            self.dims["critic"], self.action_dim, c.risk_learning_rate, c.gamma, c.risk_polyak, seed
        )
        longest = max(min(c.replay_steps, -(-c.total_steps // env.num_envs)), 2)
        self.replay = InterventionReplay(longest, env.num_envs, self.dims, self.action_dim, self.device)
        self.shown: RingReplay | None = None
        self.helped = torch.zeros(env.num_envs, dtype=torch.bool)
        self.novelties: list[Tensor] = []
        self.new, self.apart = float("inf"), 0.0
        self.rows: list[Tensor] = []

    def prepare(self, env: BatchedEnv) -> Demonstrations:
        c = self.config
        demos = super().prepare(env)
        wanted: dict[str, tuple[int, ...]] = {f"obs/{name}": (size,) for name, size in self.dims.items()}
        episodes = chosen_episodes(c.demos, wanted | {"action": (self.action_dim,)}, episodes=c.episodes)
        self.shown = demo_replay([judged(e) for e in episodes], self.dims, self.device)
        if self.updates == 0:
            self.risk.norm.update(self.shown.obs["critic"][: len(self.shown)])
        return demos

    # Who acts.

    def _transition(self, obs: Mapping[str, Tensor]) -> Step:
        """The policy acts or asks; what the human did decides who has the next step."""
        c = self.config
        if len(self.replay) == 0:
            self.replay.begin(obs)
        action, novelty = self.planner.judged(self.perception(obs[c.group]))
        success = self.risk.value(obs["critic"], action)
        self.helped = self.helped | (novelty > self.new) | (success < c.risk_human)
        step = self.world.step(action, self.helped)
        self.novelties.append(novelty[~self.helped])
        done = step.terminated | step.truncated
        kept = replace(step, reward=self.world.success.float(), terminated=done, truncated=torch.zeros_like(done))
        self.replay.add_executed(self.world.executed, kept, self.world.intervened)
        difference = (action - self.world.executed).square().sum(1)
        back = (difference < self.apart) & (success > c.risk_robot)
        self.helped = self.helped & ~back & ~done
        return step

    # What is learnt.

    def _learn(self, count: int, within: tuple[int, int] | None) -> dict[str, float]:
        total, c = len(self.learnt), self.config
        self.rows = [(torch.rand(total, generator=self.generator) < DRAWN).nonzero()[:, 0] for _ in range(c.members)]
        self.rows = [rows if len(rows) else torch.arange(total) for rows in self.rows]
        metrics = super()._learn(count, within)
        last = within is None or within[0] + count >= within[1]
        if last:
            metrics |= self._learn_risk() | self._fit_thresholds()
        return metrics

    def _update(self, demos: Demonstrations, index: Tensor) -> Tensor:
        """One minibatch for each member, each from its own rows."""
        c, losses = self.config, []
        for member, rows in zip(self.clones, self.rows, strict=True):
            own = rows[torch.randint(len(rows), (len(index),), generator=self.generator)].to(self.device)
            features = self.perception.learnt(demos.obs[c.group][own], None, c.obs_noise, 0, self.generator)
            wanted, within = demos.chunks(own, 1)
            losses.append(member.head.loss(features, wanted, within, self.generator))
        loss = torch.stack(losses).sum()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, c.max_grad_norm)
        self.optimizer.step()
        return loss.detach() / c.members

    def _learn_risk(self) -> dict[str, float]:
        """Half of each batch from demonstrations, half from what was seen."""
        c, losses = self.config, []
        assert self.shown is not None
        half = c.batch_size // 2
        for _ in range(c.risk_updates):
            batch = self.shown.sample(half, 1, 1.0, self.generator)
            if len(self.replay):
                batch = batch.joined(self.replay.sample(c.batch_size - half, 1, 1.0, self.generator))
            with torch.no_grad():
                following = self.planner(self.perception(batch.next_obs[c.group]))
            losses.append(self.risk.update(
                batch.obs["critic"], batch.action, batch.reward, batch.discount, batch.next_obs["critic"], following,
            ))  # fmt: skip
        if not losses:
            return {}
        require_finite("loss/risk", torch.stack(losses))
        return {"loss/risk": torch.stack(losses).mean().item()}

    @torch.no_grad()
    def _fit_thresholds(self) -> dict[str, float]:
        """From the policy's own states since the last round, or at first from the demonstrations."""
        assert self.demos is not None
        answers, novelty = self.planner.judged(self.perception(self.demos.obs[self.config.group]))
        self.apart = (answers - self.demos.action).square().sum(1).mean().item()
        own = torch.cat(self.novelties) if self.novelties else novelty
        if len(own):
            self.new = own.quantile(1.0 - self.config.alpha).item()
        self.novelties = []
        return {"thrifty/novelty": self.new, "thrifty/apart": self.apart}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "risk": self.risk.state_dict(), "replay": self.replay.state_dict(), "helped": self.helped.clone(),
            "novelties": [n.clone() for n in self.novelties], "thresholds": [self.new, self.apart],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.risk.load_state_dict(state["risk"])
        self.replay.load_state_dict(state["replay"])
        self.helped, self.novelties = state["helped"], list(state["novelties"])
        self.new, self.apart = state["thresholds"]


ALGORITHM = AlgorithmSpec(
    name="thrifty-dagger",
    config_class=ThriftyDaggerConfig,
    create=ThriftyDagger,
    shown=("episode/success", "human/share", "thrifty/novelty", "loss/imitation", "loss/risk"),
    summary="ThriftyDAgger: cloning that asks for help where it is new or risky; --human keyboard --set demos=FILE",
)
