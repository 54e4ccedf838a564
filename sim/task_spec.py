"""What a task is, as frozen data: the contract's side, its options, and which environment runs it. Loads no torch."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from robot_rl.config import overlay
from robot_rl.contract import Command, Rate, Safety
from robot_rl.registry import load
from robot_rl.signals import Signal

if TYPE_CHECKING:
    from robot_rl.protocols import BatchedEnv


Act = Callable[[Mapping[str, Any]], Mapping[str, Any]]


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
        examples: `module:function` called as `function(task, act, count, seed, control_dt)`: flies or walks one robot
            under `act` and gives `count` steps of its signals, name → (1, …) arrays.
        algorithm: what `robot-rl train` uses when nothing is said.
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
    examples: str = "robot_rl.sim.articulated.examples:walk_through"
    algorithm: str = "ppo"

    def overridden(self, overrides: Mapping[str, Any] | None) -> TaskSpec:
        """A variant with options replaced by dotted keys, for example `{"delay.max": 0.02}`.

        Raises:
            UnknownName: no such key; the message lists those there are.
            ConfigError: a value of the wrong type or out of range.
        """
        return dataclasses.replace(self, options=overlay(self.options, overrides or {}))

    def make(self, num_envs: int, seed: int, device: str = "cpu") -> BatchedEnv:
        """Build the environment."""
        return _named(self.environment)(self, num_envs, seed, device)

    def example_signals(
        self, act: Act, count: int, seed: int = 0, control_dt: float | None = None
    ) -> list[dict[str, Any]]:
        """Consecutive steps of one simulated robot's signals from a reset, name → (1, …) arrays.

        Args:
            act: signals (1, …) → commands (1, …), as the policy would; called once per step.
            control_dt: s between calls, where the policy accepts others than the task's.
        """
        return _named(self.examples)(self, act, count, seed, control_dt)


def _named(reference: str) -> Any:
    module, function = reference.split(":")
    return getattr(importlib.import_module(module), function)


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
