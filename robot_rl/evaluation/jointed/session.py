"""One simulated robot under a policy, steered while it runs: what the viewer shows and what a film is made of."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import RobotRlError
from robot_rl.evaluation.jointed.rollout import Player

if TYPE_CHECKING:
    from robot_rl.sim.articulated.steering import Control
    from robot_rl.sim.task_spec import TaskSpec

RESET_AFTER = 1.0  # s that a fallen robot lies there before it starts anew
LONGEST_LATENCY = 0.06  # s, the end of the latency slider
ENDLESS = 1e5  # s, longest episode that options allow
SMOOTHING = 0.5  # s, time constant of the numbers that are shown


@dataclass(frozen=True)
class Watched:
    """What to simulate: a policy file, or `base:<name>`, in a task with some options changed."""

    policy: str | Path
    task: TaskSpec
    changes: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def player(self, physics: str | None = None) -> Player:
        """One robot without randomisation, whose episodes end only when it falls."""
        from robot_rl.config import leaves
        from robot_rl.sim.articulated.variants import NOMINAL

        have = leaves(self.task.options)
        calm = {key: value for key, value in NOMINAL.items() if key in have}
        settings = {**calm, "episode_s": ENDLESS, "latency.max": LONGEST_LATENCY, "threads": 1, **self.changes}
        if physics is not None:
            settings["physics"] = physics
        return Player(self.policy, self.task.overridden(settings), 1, self.seed)


class Session:
    """Not thread-safe but for `ask`: another thread asks, and the thread that calls `advance` does it.

    Attributes:
        env: the environment, one robot. time: simulated s since the start. resets: how often it started anew.
        paused: nothing moves then. troubles: messages of requests that failed, oldest first.
    """

    def __init__(self, watched: Watched) -> None:
        self.watched, self.paused = watched, False
        self.time, self.resets, self.failures = 0.0, 0, 0
        self.troubles: list[str] = []
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._set: dict[str, float] = {}
        self._shown: dict[str, float] = {}
        self._start(None)

    @property
    def qpos(self) -> NDArray[np.float32]:
        """(nq,) present positions."""
        return self.env.physics.qpos[0].cpu().numpy()

    @property
    def placed(self) -> dict[str, NDArray[np.float32]]:
        """Name → pose (7,) of bodies without joints, see `env.placed`."""
        return {name: pose[0].cpu().numpy() for name, pose in self.env.placed().items()}

    @property
    def goal(self) -> NDArray[np.float32] | None:
        """(7,) pose of the goal, or None."""
        pose = self.env.goal_pose()
        return None if pose is None else pose[0].cpu().numpy()

    def controls(self) -> dict[str, Control]:
        """What `set` takes."""
        return self.env.controls()

    def ask(self, request: Callable[[], None]) -> None:
        """Have `request` called before the next step; from any thread. What goes wrong ends up in `troubles`."""
        self._requests.put(request)

    def set(self, name: str, value: float) -> None:
        """Turn a control; it stays through resets and changes of the simulator."""
        self.env.set_control(name, value)
        self._set[name] = value

    def push(self, speed: float, direction: float) -> None:
        """See `ArticulatedEnv.push`."""
        self.env.push(speed, direction)

    def move_goal(self, pose: NDArray[np.floating]) -> None:
        """To pose (7,)."""
        import torch

        self.env.set_goal_pose(torch.as_tensor(np.asarray(pose, np.float32)))

    def use_physics(self, name: str) -> None:
        """Go on in another simulator, from the start, with the same controls.

        Raises:
            MissingDependency, ConfigError, UnknownName: it cannot be used; the present one goes on.
        """
        self._start(name)

    def reset(self) -> None:
        """A new start."""
        self.player.reset()
        self._down = 0.0
        self.resets += 1

    def advance(self) -> None:
        """Do what was asked for, then one control step unless paused."""
        while True:
            try:
                self._requests.get_nowait()()
            except queue.Empty:
                break
            except RobotRlError as error:
                self.troubles.append(str(error))
        if self.paused:
            return
        step, dt = self.player.step(), self.env.control_dt
        self.time += dt
        self._look(dt)
        if bool(step.terminated[0]):
            self.failures += self._down == 0
            self._down += dt
        if bool(step.truncated[0]) or self._down >= RESET_AFTER or bool(self.env.physics.unstable[0]):
            self.reset()

    def readouts(self) -> dict[str, str]:
        """Numbers to show by name: commanded and real speeds, metrics averaged over half a second."""
        shown = {"time": f"{self.time:.1f} s", "falls": f"{self.failures}"}
        for name, trace in self.env.traces().items():
            asked = "" if trace.wanted is None else f" of {float(trace.wanted[0]):+.2f}"
            shown[name] = f"{self._shown.get(name, 0.0):+.2f}{asked} {trace.unit}"
        return shown | {n.replace("_", " "): f"{self._shown[n]:.3g}" for n in self.env.metrics() if n in self._shown}

    def _look(self, dt: float) -> None:
        share = min(1.0, dt / SMOOTHING)
        now = {name: float(trace.value[0]) for name, trace in self.env.traces().items()}
        now |= {name: float(value[0]) for name, value in self.env.metrics().items()}
        for name, value in now.items():
            self._shown[name] = (1 - share) * self._shown.get(name, value) + share * value

    def _start(self, physics: str | None) -> None:
        self.player = self.watched.player(physics)
        self.env, self._down = self.player.env, 0.0
        controls = self.env.controls()
        # Nothing asked for and no delay, until somebody turns it.
        calm = {n: 0.0 for n, c in controls.items() if c.unit in ("m/s", "rad/s", "s") and c.low <= 0.0 <= c.high}
        for name, value in {**calm, **self._set}.items():
            if name in controls:
                self.env.set_control(name, value)
        self.player.reset(self.watched.seed)
