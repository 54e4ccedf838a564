"""What a robot is, as frozen data with sources: its signals, commands and parameter sets. No physics here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from robot_rl.contract import Command
from robot_rl.errors import ConfigError, UnknownName
from robot_rl.signals import Signal


@dataclass(frozen=True)
class RobotSpec:
    """One robot.

    Attributes:
        name: as in `robot-rl list robots`.
        description: one line for people.
        signals: what its sensors and its estimator give.
        commands: what its low level accepts.
        parameter_sets: name → parameters of one source; the physics decides their type.
        default_set: the set used when nothing is said.
    """

    name: str
    description: str
    signals: tuple[Signal, ...]
    commands: tuple[Command, ...]
    parameter_sets: Mapping[str, Any]
    default_set: str

    def __post_init__(self) -> None:
        if self.default_set not in self.parameter_sets:
            raise UnknownName("parameter set", self.default_set, self.parameter_sets)
        for kind, names in (
            ("signal", [s.name for s in self.signals]),
            ("command", [c.name for c in self.commands]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice or not names:
                raise ConfigError(f"robot '{self.name}': each {kind} once and at least one, got {names}")
        for command in self.commands:
            sizes = {len(command.elements), len(command.lower), len(command.upper), len(command.idle)}
            if len(sizes) != 1:
                raise ConfigError(f"robot '{self.name}': '{command.name}' has limits of {sorted(sizes)} elements")
        object.__setattr__(self, "parameter_sets", MappingProxyType(dict(self.parameter_sets)))

    def parameters(self, name: str | None = None) -> Any:
        """The parameter set called `name`, or the default one.

        Raises:
            UnknownName: no such set; the message lists those there are.
        """
        chosen = self.default_set if name is None else name
        if chosen not in self.parameter_sets:
            raise UnknownName(f"vehicle of robot {self.name}", chosen, self.parameter_sets)
        return self.parameter_sets[chosen]
