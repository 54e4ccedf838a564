"""What someone who watches a simulation can turn while it runs, and what is worth showing of it."""

# mujoco comes without stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.sim.articulated.options import ArticulatedOptions, Latency
from robot_rl.sim.articulated.rotations import yaw_of
from robot_rl.sim.articulated.scene import GOAL

if TYPE_CHECKING:
    import mujoco

    from robot_rl.sim.articulated.jointed_robot import JointedRobot
    from robot_rl.sim.articulated.physics import Physics
    from robot_rl.sim.articulated.pushes import Pushes
    from robot_rl.sim.articulated.randomize import Randomizer
    from robot_rl.sim.delay import DelayLine
    from robot_rl.sim.task_spec import TaskSpec

# The randomizer leaves alone what it is told not to vary: a fixed value is a range of this width.
_WIDTH = 1e-9


class Control(NamedTuple):
    """Something that can be set between `low` and `high`, and its present value."""

    low: float
    high: float
    value: float
    unit: str


class Trace(NamedTuple):
    """A quantity worth plotting over time: value (N,), and (N,) what is asked for where there is such a thing."""

    value: Tensor
    unit: str
    wanted: Tensor | None = None


class Steerable:
    """The part of `ArticulatedEnv` that viewers and plots use; families override and add to it.

    A control changes `options` and takes effect at once in all N simulations, and in every later episode.
    """

    task: TaskSpec
    options: ArticulatedOptions
    model: mujoco.MjModel
    robot: JointedRobot
    physics: Physics
    pushes: Pushes
    randomizer: Randomizer
    num_envs: int
    control_dt: float
    device: torch.device
    _commands: DelayLine
    _delay: Tensor

    def controls(self) -> dict[str, Control]:
        """What `set_control` takes, by name; which ones there are depends on robot and physics."""
        o, fields, out = self.options.randomize, self.physics.fields, {}
        if "geom_friction" in fields and len(self.randomizer.geoms) > 0:
            own = float(self.physics.model.geom_friction[int(self.randomizer.geoms[0]), 0])
            out["friction"] = Control(0.05, 2.0, own if o.friction == (0.0, 0.0) else _middle(o.friction), "")
        if "body_mass" in fields:
            mass = float(self.model.body_mass[int(self.randomizer.bodies[0])])
            low, high = -round(0.5 * mass, 1), round(2.0 * mass, 1)
            out["payload"] = Control(low, high, _middle(o.base_mass), "kg")
        if not self.robot.builtin_pd:
            out["strength"] = Control(0.2, 1.5, _middle(o.strength), "")
        if self._commands.needed:
            longest = (self._commands.capacity - 2) * self.control_dt
            out["latency"] = Control(0.0, longest, float(self._delay[0]), "s")
        return out

    def set_control(self, name: str, value: float) -> None:
        """Set one of `controls()`.

        Raises:
            UnknownName: there is no such control; the message lists those there are.
            ConfigError: the value is outside its range.
        """
        controls = self.controls()
        if name not in controls:
            raise UnknownName("control", name, controls)
        low, high = controls[name].low, controls[name].high
        if not low - _WIDTH <= value <= high + _WIDTH:
            raise ConfigError(f"control '{name}' = {value:g}; allowed: {low:g} to {high:g}")
        self._apply_control(name, float(value))

    def _apply_control(self, name: str, value: float) -> None:
        """Change `options` and whatever follows from them; the name and the value are known to be right."""
        if name == "latency":
            jitter = self.options.latency.jitter
            self._change(latency=Latency(min=value, max=value, jitter=jitter))
            self._delay.fill_(value)
            return
        term = {"friction": "friction", "payload": "base_mass", "strength": "strength"}[name]
        fixed = dataclasses.replace(self.options.randomize, **{term: (value, value + _WIDTH)})
        self._change(randomize=fixed)
        self.randomizer.options = fixed
        everyone = torch.arange(self.num_envs, device=self.device)
        self.randomizer.draw(everyone)
        if name == "payload":  # constants that follow from masses are brought up to date by setting the state
            self.physics.set_state(everyone, self.physics.qpos.clone(), self.physics.qvel.clone())

    def _change(self, **sections: Any) -> None:
        self.options = dataclasses.replace(self.options, **sections)

    @property
    def pushable(self) -> bool:
        """Whether `push` can do anything: the robot is not bolted down."""
        return bool(self.robot.base)

    def push(self, speed: float, direction: float) -> None:
        """Shove every robot: by itself the push would change its speed by `speed` m/s within `push.duration` s.

        Args:
            direction: rad about the vertical, 0 is where the robot looks, positive to its left.

        Raises:
            ConfigError: the robot is bolted down.
        """
        if not self.pushable:
            raise ConfigError(f"robot '{self.task.robot}' is bolted down and cannot be pushed")
        address = int(self.model.jnt_qposadr[self.model.body_jntadr[self.model.body(self.robot.base).id]])
        angle = yaw_of(self.physics.qpos[:, address + 3 : address + 7]) + direction
        self.pushes.shove(speed * torch.stack([torch.cos(angle), torch.sin(angle)], dim=1))

    def goal_pose(self) -> Tensor | None:
        """(N, 7) world position m and quaternion wxyz of what is to be reached; None where the task has none."""
        return None

    def placed(self) -> dict[str, Tensor]:
        """Where bodies without joints stand that differ between simulations: name → pose (N, 7); the goal is one."""
        goal = self.goal_pose()
        return {} if goal is None else {GOAL: goal}

    def set_goal_pose(self, pose: Tensor) -> None:
        """Move the goal of all simulations to pose (7,).

        Raises:
            ConfigError: the task has no goal that could be moved.
        """
        del pose
        raise ConfigError(f"task '{self.task.name}' has no goal that could be moved")

    def traces(self) -> dict[str, Trace]:
        """Quantities that plots show over time and films print, by name."""
        return {}

    def touching(self) -> Tensor:
        """(N, F) bool: which of `robot.feet` bear on something; (N, 0) where that is not known."""
        return torch.zeros(self.num_envs, 0, dtype=torch.bool, device=self.device)


def _middle(span: tuple[float, float]) -> float:
    middle = 0.5 * (span[0] + span[1])
    return middle if math.isfinite(middle) else 0.0
