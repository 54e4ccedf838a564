"""What a task is, as frozen data: the contract's side, its options, and which environment runs it. Loads no torch."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from robot_rl.config import overlay
from robot_rl.contract import Command, Rate, Safety
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
        return dataclasses.replace(self, options=overlay(self.options, overrides or {}))

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
