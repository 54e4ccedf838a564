"""The whole deployed chain as one torch module; what is traced and compared, for export and for evaluation alike."""

from __future__ import annotations

from torch import Tensor, nn

from robot_rl.contract import Command, Memory
from robot_rl.errors import ExportError
from robot_rl.observer import ActionMap, Observer
from robot_rl.signals import Signal


class DeployedPolicy(nn.Module):
    """observer → actor → action map with explicit memory: the function that the exported file computes.

    The actor maps an observation (N, obs_dim) to its final action (N, A): deterministic, normaliser inside, clipped
    where training clipped. A recurrent actor has an attribute `memory: tuple[Memory, ...]` and is called as
    `actor(obs, memory) -> (action, memory)`.
    """

    def __init__(self, observer: Observer, actor: nn.Module, action_map: ActionMap) -> None:
        super().__init__()
        self.observer, self.action_map = observer, action_map
        self.actor: nn.Module = getattr(actor, "_orig_mod", actor)  # what torch.compile wraps
        self.actor_memory: tuple[Memory, ...] = tuple(getattr(self.actor, "memory", ()))
        names = [m.name for m in self.memory]
        if len(set(names)) != len(names):
            raise ExportError(f"memory names {names} are not unique; rename those of the observer or of the actor")

    @property
    def signals(self) -> tuple[Signal, ...]:
        seen = tuple(self.observer.signals)
        return (*seen, *(s for s in self.action_map.signals if s.name not in {o.name for o in seen}))

    @property
    def memory(self) -> tuple[Memory, ...]:
        return (*self.observer.memory, *self.actor_memory)

    @property
    def commands(self) -> tuple[Command, ...]:
        return tuple(self.action_map.commands)

    def forward(
        self, signals: dict[str, Tensor], memory: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Signals and memory, name → (N, *shape), to commands, name → (N, elements), and the following memory."""
        observed = {m.name: memory[m.name] for m in self.observer.memory}
        obs, observed = self.observer(signals, observed)
        if obs.shape[-1] != self.observer.obs_dim:
            name = type(self.observer).__name__
            raise ExportError(f"{name} gives observations of {obs.shape[-1]}; its obs_dim is {self.observer.obs_dim}")
        recurrent = {m.name: memory[m.name] for m in self.actor_memory}
        if self.actor_memory:
            action, recurrent = self.actor(obs, recurrent)
        else:
            action = self.actor(obs)
        observed = self.observer.record(observed, action)
        return self.action_map.commands_for(action, signals, observed), {**observed, **recurrent}
