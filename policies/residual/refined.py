"""A base and its correction as one deployed policy: one file on the robot, like any other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.contract import Composition, Memory
from robot_rl.errors import ExportError
from robot_rl.observer import ActionMap, Observer
from robot_rl.policies.deployed import DeployedPolicy
from robot_rl.policies.proposals import INVERSE
from robot_rl.policies.residual.actor import ResidualActor
from robot_rl.policy import Policy
from robot_rl.signals import Signal

OWN = "base_"
"""Before the names of what the base remembers for itself, in the memory of the refined policy."""


class RefinedPolicy(DeployedPolicy):
    """Signals → base → its action; signals → observer → correction on that action → action map.

    The base is the graph of its file, run by onnxruntime here and joined with the traced rest by `merging.py`. What the
    observer remembers, such as the previous action, base and correction share: it is what was executed.

    Raises:
        ExportError: the base is a controller in Python, or its file serves one robot only.
    """

    def __init__(self, observer: Observer, actor: ResidualActor, action_map: ActionMap) -> None:
        file = actor.base.file()
        if file is None:
            raise ExportError(
                f"'{actor.base.name}' is a controller in Python, which no ONNX file can hold; only refinements of "
                "exported policies can be exported"
            )
        self.file, self.contract = file, file.contract
        self.base = Policy(file)
        shared = {m.name for m in observer.memory}
        self.own = tuple(m for m in self.contract.memory if m.name not in shared)
        super().__init__(observer, actor, action_map)
        self.head = Head(observer, actor, action_map, self.contract)

    @property
    def signals(self) -> tuple[Signal, ...]:
        mine = super().signals
        return (*mine, *(s for s in self.contract.signals if s.name not in {m.name for m in mine}))

    @property
    def memory(self) -> tuple[Memory, ...]:
        return (*self.observer.memory, *(replace(m, name=OWN + m.name) for m in self.own))

    @property
    def composition(self) -> Composition:
        return Composition("residual", self.contract.graph_sha256)

    def forward(
        self, signals: dict[str, Tensor], memory: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        own = {m.name for m in self.own}
        given = {m.name: memory[OWN + m.name if m.name in own else m.name].numpy() for m in self.contract.memory}
        seen = {s.name: signals[s.name].numpy() for s in self.contract.signals}
        commands, following = self.base.step_from(seen, given)
        answers = {f"base.{n}": torch.from_numpy(np.asarray(v)) for n, v in (commands | following).items()}
        shared = {m.name: memory[m.name] for m in self.observer.memory}
        refined, observed = self.head({**signals, **answers}, shared)
        return refined, observed | {OWN + name: torch.from_numpy(following[name]) for name in own}


class Head(nn.Module):
    """All but the base, as a function of signals, the base's answers and what the observer remembers.

    Attributes:
        signals: what the observer and the action map read, then the base's answers: `base.<command>`, or
            `base.<memory>` where the base says its action.
    """

    def __init__(self, observer: Observer, actor: ResidualActor, action_map: ActionMap, base: object) -> None:
        super().__init__()
        self.observer, self.actor, self.action_map = observer, actor, action_map
        self.memory, self.commands = tuple(observer.memory), tuple(action_map.commands)
        seen = tuple(observer.signals)
        own = (*seen, *(s for s in action_map.signals if s.name not in {o.name for o in seen}))
        shapes = {c.name: (len(c.elements),) for c in base.commands} | {m.name: m.shape for m in base.memory}  # type: ignore[attr-defined]
        names = [c.name for c in self.commands] if actor.source == INVERSE else [actor.source]
        if absent := [name for name in names if name not in shapes]:
            raise ExportError(f"the base does not give {', '.join(absent)}, which the correction was learnt on")
        self.answers = tuple(Signal(f"base.{name}", shapes[name], "", "") for name in names)
        self.signals = (*own, *self.answers)

    def forward(
        self, signals: dict[str, Tensor], memory: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        obs, looked = self.observer(signals, memory)
        action = self.actor(obs, self._base_action(signals))
        observed = self.observer.record(looked, action)
        return self.action_map.commands_for(action, signals, observed), observed

    def _base_action(self, signals: dict[str, Tensor]) -> Tensor:
        size = self.action_map.action_dim
        if self.actor.source != INVERSE:
            said = signals[self.answers[0].name]
            return torch.clamp(said.flatten(1)[:, -size:], -1.0, 1.0)
        asked = {c.name: signals[f"base.{c.name}"] for c in self.commands}
        found = self.action_map.action_for(asked, signals)
        assert found is not None
        return torch.clamp(found, -1.0, 1.0)


def deployed_policy(observer: Observer, actor: nn.Module, action_map: ActionMap) -> DeployedPolicy:
    """The deployed chain of an actor, whether or not it refines another policy."""
    kind = RefinedPolicy if isinstance(actor, ResidualActor) else DeployedPolicy
    return kind(observer, actor, action_map)  # type: ignore[arg-type]
