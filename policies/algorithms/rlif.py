"""RLIF: learn from nothing but when a human took over.

Luo et al., RLIF: Interactive Imitation Learning as Reinforcement Learning (2023): the reward is −1 for the transition
just before an intervention and 0 elsewhere; RLPD learns from it, with all experience and demonstrations in one memory.
So a policy may become better than the human who steers, for only the moments count, not the actions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.algorithms.hil import SHOWN, Hil, HilConfig
from robot_rl.policies.off_policy.replay import Batch
from robot_rl.protocols import BatchedEnv, Step

PENALTY = -1.0


@dataclass(frozen=True)
class RlifConfig(HilConfig):
    """HIL's settings; `demo_share` has no meaning here, since demonstrations lie among the experience.

    Attributes:
        failure_counts: an episode that ends without success is one where somebody has to come: −1 at its end.
    """

    failure_counts: bool = True
    updates_per_step: int = 4


class Rlif(Hil):
    """The learner. All transitions are stored, those in the midst of an intervention too."""

    config: RlifConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def prepare(self, env: BatchedEnv) -> None:
        super().prepare(env)
        if self.demos is not None:
            self.demos.reward.zero_()

    def _store(self, action: Tensor, step: Step) -> None:
        self.replay.set_last_reward(self.world.began & self.world.later, PENALTY)
        failed = step.terminated & ~self.world.success
        reward = torch.where(failed & self.config.failure_counts, PENALTY, 0.0)
        super()._store(action, replace(step, reward=reward))

    def _draw_batch(self) -> Batch:
        """All that was experienced or demonstrated is equally likely."""
        c, demos = self.config, 0 if self.demos is None else len(self.demos)
        shown = round(c.batch_size * demos / (demos + len(self.replay)))
        batch = self.replay.sample(c.batch_size - shown, c.n_step, c.gamma, self.generator)
        if self.demos is None or shown == 0:
            return batch
        return batch.joined(self.demos.sample(shown, c.n_step, c.gamma, self.generator))


ALGORITHM = AlgorithmSpec(
    name="rlif",
    config_class=RlifConfig,
    create=Rlif,
    shown=SHOWN,
    summary="RLIF: reward is only that the human did not take over; --human scripted:base:<name>",
)
