"""A task's environment with another judge: reward 1 and the end where a classifier says that the task is solved.

Luo et al., HIL-SERL (2025): a binary classifier above 0.85, and a guard on where the gripper is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.policies.classifier.network import OUTPUT
from robot_rl.policies.guards import require_range
from robot_rl.policy import Policy
from robot_rl.protocols import Step


@dataclass(frozen=True)
class RewardOptions:
    """Section `reward` of the settings.

    Attributes:
        classifier: file that `robot-rl classifier train` wrote; "": the task's own reward.
        threshold: of its probability; 0: the one that was chosen when it was learnt.
        guard: signal that must lie within [guard_lower, guard_upper], element by element, for a success; "": none.
    """

    classifier: str = ""
    threshold: float = 0.0
    guard: str = ""
    guard_lower: tuple[float, ...] = ()
    guard_upper: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require_range("reward.threshold", self.threshold, 0.0, 1.0)
        if self.guard and not 0 < len(self.guard_lower) == len(self.guard_upper):
            raise ConfigError("reward.guard needs reward.guard_lower and reward.guard_upper of as many numbers as the "
                              f"signal has; given are {self.guard_lower} and {self.guard_upper}")  # fmt: skip


class JudgedEnv:
    """A `BatchedEnv` around a task's; what the task itself calls a success neither ends an episode nor is rewarded.

    The environment needs, besides `BatchedEnv`: `signals()`, `final_signals`, and `restart(rows)`. Whatever else it has
    is there, too. A failure of the task (too much force, something lost) ends the episode without a reward.

    Attributes:
        threshold: of the probability. judge: the classifier.
    """

    def __init__(self, env: Any, options: RewardOptions) -> None:
        """Raises ConfigError where the file is no classifier, sees what the task does not have, or cannot judge it."""
        if not hasattr(env, "restart"):
            raise ConfigError("episodes of this task cannot be ended from outside, so no classifier can judge it")
        if getattr(getattr(env, "options", None), "reward_kind", "") == "sparse":
            raise ConfigError("reward_kind=sparse ends episodes at the task's own success, which a classifier is to "
                              "say: leave it at dense")  # fmt: skip
        self.env = env
        self.judge = Policy.load(options.classifier, num_envs=env.num_envs)
        contract = self.judge.contract
        if [c.name for c in contract.commands] != [OUTPUT]:
            raise ConfigError(f"'{options.classifier}' is no success classifier: it gives "
                              f"{', '.join(c.name for c in contract.commands)}")  # fmt: skip
        missing = {s.name for s in contract.signals} - set(env.signals())
        if missing:
            raise ConfigError(f"'{options.classifier}' looks at {', '.join(sorted(missing))}, which this task does not "
                              "show; pictures come with --set task.camera.size=…")  # fmt: skip
        self._sees_pictures = any(s.name.startswith("image_") for s in contract.signals)
        self.threshold = options.threshold or float(contract.provenance.get("classifier", {}).get("threshold", 0.85))
        self._guard = options

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def reset(self, seed: int | None = None) -> dict[str, Tensor]:
        """See `BatchedEnv`."""
        return self.env.reset(seed)

    def step(self, action: Tensor) -> Step:
        """See `BatchedEnv`; the log also says how often the classifier and the task agree."""
        step: Step = self.env.step(action)
        over = step.terminated | step.truncated
        signals: Mapping[str, Tensor] = self.env.signals() if self._sees_pictures else self.env.final_signals
        said = self.probability(signals) > self.threshold
        if self._sees_pictures:  # those of an episode that is over were not taken
            said = said & ~over
        success = said & self._within(signals) & ~step.terminated
        rows = (success & ~over).nonzero()[:, 0]
        obs = self.env.restart(rows) if len(rows) else step.obs
        terminated = step.terminated | success
        log = {**step.log, "success": success.float().mean()}
        return Step(
            obs, success.float(), step.cost, terminated, step.truncated & ~terminated, step.final_obs, log
        )  # fmt: skip

    def probability(self, signals: Mapping[str, Tensor]) -> Tensor:
        """(N,) that the task is solved."""
        shown = {s.name: signals[s.name].cpu().numpy() for s in self.judge.contract.signals}
        return torch.from_numpy(self.judge.act(shown)[OUTPUT][:, 0]).to(self.env.device)

    def _within(self, signals: Mapping[str, Tensor]) -> Tensor:
        o = self._guard
        if not o.guard:
            return torch.ones(self.env.num_envs, dtype=torch.bool, device=self.env.device)
        if o.guard not in signals or signals[o.guard].shape[1:] != (len(o.guard_lower),):
            have = {name: tuple(value.shape[1:]) for name, value in signals.items()}
            raise ConfigError(f"reward.guard = {o.guard} with {len(o.guard_lower)} numbers; signals are {have}")
        value = signals[o.guard].cpu().numpy()
        inside = (value >= np.array(o.guard_lower)) & (value <= np.array(o.guard_upper))
        return torch.from_numpy(inside.all(1)).to(self.env.device)
