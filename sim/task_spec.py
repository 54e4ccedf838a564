"""What a task is, as frozen data: the contract's side, its options, and which environment runs it. Loads no torch."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from robot_rl.config import overlay
from robot_rl.contract import Command, Rate, Safety
from robot_rl.errors import ConfigError
from robot_rl.registry import load
from robot_rl.signals import Signal

if TYPE_CHECKING:
    import mujoco

    from robot_rl.protocols import BatchedEnv, DifferentiableTask
    from robot_rl.sim.articulated.jointed_robot import JointedRobot
    from robot_rl.sim.articulated.variants import Variant


PICTURE = "image_"
"""How signals begin that are pictures; the camera's name follows."""

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
        variants: `module:NAME`, a tuple of `Variant` (sim/articulated/variants.py): what `robot-rl eval` tests. Empty
            for flight, which has scenarios of its own (robot_rl/evaluation/scenarios.py).
        algorithm: what `robot-rl train` uses when nothing is said; its settings for this task may stand in
            `config/train/TASK-ALGORITHM.yaml`.
        differentiable: `module:function` called as `function(task, num_envs, changes)` for training by analytic
            gradients; empty: the task has none.
        scene: `module:function` called as `function(robot)`: the robot (`JointedRobot`) and what is around it as an
            MjSpec, also for the simulated robot that a policy is run on. Default: a flat floor.
        described_by_env: signals, commands and rate are known only once the environment is made: `env.task` has them.
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
    variants: str = "robot_rl.sim.articulated.variants:VARIANTS"
    algorithm: str = "ppo"
    differentiable: str = ""
    scene: str = "robot_rl.sim.articulated.scene:flat_scene"
    described_by_env: bool = False

    def overridden(self, overrides: Mapping[str, Any] | None) -> TaskSpec:
        """A variant with options replaced by dotted keys, for example `{"delay.max": 0.02}`.

        Raises:
            UnknownName: no such key; the message lists those there are.
            ConfigError: a value of the wrong type or out of range.
        """
        return dataclasses.replace(self, options=overlay(self.options, overrides or {}))

    def with_pictures(self, signals: Iterable[Signal]) -> TaskSpec:
        """A variant whose cameras give the pictures `image_<camera>` (H, H, 3) among these signals.

        Raises:
            UnknownName: there are pictures, but the task has no cameras.
        """
        wanted = {s.name.removeprefix(PICTURE): s.shape[0] for s in signals if s.name.startswith(PICTURE)}
        if not wanted:
            return self
        return self.overridden({"camera.size": max(wanted.values()), "camera.names": tuple(wanted)})

    def gains(self, changes: Mapping[str, Any] | None = None) -> dict[str, tuple[float, ...]]:
        """PD gains that the low level must use, `stiffness` and `damping` per joint; empty for robots without joints.

        Args:
            changes: options of a run by dotted keys; `parameters` names the robot's parameter set.
        """
        if self.described_by_env:
            return {}
        parameter_set = (changes or {}).get("parameters", getattr(self.options, "parameters", None))
        parameters = load("robot", self.robot).parameters(parameter_set)
        return parameters.gains() if hasattr(parameters, "gains") else {}

    def make_scene(self, robot: JointedRobot) -> mujoco.MjSpec:
        """The robot and its surroundings; loads mujoco, but no torch."""
        return _named(self.scene)(robot)

    def make(self, num_envs: int, seed: int, device: str = "cpu") -> BatchedEnv:
        """Build the environment."""
        return _named(self.environment)(self, num_envs, seed, device)

    def make_differentiable(self, num_envs: int, changes: Mapping[str, Any]) -> DifferentiableTask:
        """The same task as a batch that gives loss and gradient; `changes` are its own options by dotted keys.

        Raises:
            ConfigError: the task has no gradients.
        """
        if not self.differentiable:
            raise ConfigError(
                f"task '{self.name}' has no analytic gradient, which this algorithm needs; "
                f"use --algorithm {self.algorithm}"
            )
        return _named(self.differentiable)(self, num_envs, changes)

    def tested_variants(self: TaskSpec, names: str) -> dict[str, tuple[Variant, dict[str, Any]]]:
        """Those of a comma-separated list of variants and groups, each with the options that it changes.

        Raises:
            UnknownName: no such variant or group of this task; the message lists those there are.
        """
        from robot_rl.sim.articulated.variants import selected

        return selected(names, _named(self.variants), self)

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
