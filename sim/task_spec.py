"""What a task is, as frozen data: the contract's side of it, its options, and which environment runs it. Loads no torch."""

from __future__ import annotations

import ast
import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from robot_rl.contract import Command, Rate, Safety
from robot_rl.errors import ConfigError, UnknownName
from robot_rl.registry import load
from robot_rl.signals import Signal

if TYPE_CHECKING:
    from robot_rl.protocols import BatchedEnv


@dataclass(frozen=True)
class TaskSpec:
    """One task.

    Attributes:
        name: as in `robot-rl list tasks`.
        description: one line for people.
        robot: name of the robot.
        signals, commands: what a policy for this task gets and gives; they go into its contract.
        rate: when such a policy may be called.
        safety: what a supervisor enforces around it.
        options: frozen dataclass with every knob; `overridden` makes variants.
        environment: `module:function` called as `function(task, num_envs, seed, device)`, imported only when needed.
    """

    name: str
    description: str
    robot: str
    signals: tuple[Signal, ...]
    commands: tuple[Command, ...]
    rate: Rate
    options: Any
    environment: str
    safety: Safety = field(default_factory=Safety)

    def overridden(self, overrides: Mapping[str, Any] | None) -> TaskSpec:
        """A variant with options replaced by dotted keys, for example `{"delay.max": 0.02}`.

        Raises:
            UnknownName: no such key; the message lists those there are.
            ConfigError: a value of the wrong type or out of range.
        """
        return dataclasses.replace(self, options=override(self.options, overrides or {}))

    def make(self, num_envs: int, seed: int, device: str = "cpu") -> BatchedEnv:
        """Build the environment."""
        module, function = self.environment.split(":")
        return getattr(importlib.import_module(module), function)(self, num_envs, seed, device)


def make_env(
    task: str | TaskSpec,
    num_envs: int,
    seed: int,
    device: str = "cpu",
    overrides: Mapping[str, Any] | None = None,
) -> BatchedEnv:
    """The environment of a task: its registered name, `module:ATTRIBUTE`, or a spec.

    Raises:
        UnknownName: no such task or option key; the message lists those there are.
        ConfigError: a value of the wrong type or out of range.
    """
    spec = load("task", task) if isinstance(task, str) else task
    return spec.overridden(overrides).make(num_envs, seed, device)


def option_keys(options: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key of nested frozen options with its value."""
    for item in dataclasses.fields(options):
        value = getattr(options, item.name)
        if dataclasses.is_dataclass(value):
            yield from option_keys(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, value


def override(options: Any, overrides: Mapping[str, Any]) -> Any:
    """A copy of nested frozen options with dotted keys replaced, all of one group at once so that ranges stay ordered.

    Text is read as the type of the value it replaces: `"0.02"`, `"true"`, `"0.9,1.2"`.
    """
    known = dict(option_keys(options))
    for key in overrides:
        if key not in known:
            raise UnknownName("option", key, known)
    return _replaced(options, {k: _converted(k, known[k], v) for k, v in overrides.items()})


def _replaced(options: Any, values: Mapping[str, Any]) -> Any:
    here = {k: v for k, v in values.items() if "." not in k}
    for group in {k.split(".", 1)[0] for k in values if "." in k}:
        inner = {k.split(".", 1)[1]: v for k, v in values.items() if k.startswith(group + ".")}
        here[group] = _replaced(getattr(options, group), inner)
    return dataclasses.replace(options, **here)


def _converted(key: str, old: Any, new: Any) -> Any:
    """`new` as the type of `old`."""
    if isinstance(new, str) and not isinstance(old, str):
        try:
            new = {"true": True, "false": False}.get(new.lower()) if isinstance(old, bool) else ast.literal_eval(new)
        except (ValueError, SyntaxError):
            new = float(new) if new in ("inf", "-inf") else None
    if isinstance(old, tuple):
        valid = isinstance(new, (list, tuple)) and len(new) > 0 and (isinstance(old[0], tuple) or len(new) == len(old))
        if valid:
            return tuple(_converted(key, old[min(i, len(old) - 1)], v) for i, v in enumerate(new))
    elif isinstance(old, bool) or isinstance(new, bool):
        if isinstance(old, bool) and isinstance(new, bool):
            return new
    elif isinstance(old, float) and isinstance(new, (int, float)):
        return float(new)
    elif isinstance(new, type(old)):
        return new
    raise ConfigError(f"option '{key}' = {new!r}: expected something like {old!r} ({type(old).__name__})")
