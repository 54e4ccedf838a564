"""Environments of other projects as a batch of ours, in worker processes; satisfies `BatchedEnv`. N = num_envs."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_rl.contract import Command, Rate
from robot_rl.errors import ConfigError
from robot_rl.protocols import Step
from robot_rl.signals import Signal
from robot_rl.sim.device import torch_device
from robot_rl.sim.foreign.maps import BoxActionMap, PlainObserver
from robot_rl.sim.foreign.process import Workers
from robot_rl.sim.foreign.task import ForeignOptions, parse

if TYPE_CHECKING:
    from robot_rl.sim.task_spec import Act, TaskSpec

LOG = logging.getLogger("robot_rl.sim")


class ForeignEnv:
    """N environments of a task `gym:…` or `envpool:…`.

    Attributes:
        task: with the signals, the command and the rate that the environments turned out to have.
        observer, action_map: torch modules, shared with the exported policy.
        episode_step: (N,) control steps since the last reset; may be written to spread the resets.

    Raises:
        ConfigError, UnknownName, MissingDependency: what the user can mend. SimulatorError: the simulator failed.
    """

    def __init__(self, task: TaskSpec, num_envs: int, seed: int, device: str | torch.device = "cpu") -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs = {num_envs}; it must be ≥ 1")
        self.num_envs, self.device, self.options = num_envs, torch_device(device), task.options
        o: ForeignOptions = task.options
        self.workers = Workers(_config(task), num_envs, _count(task, num_envs), o.python, o.answer_s)
        about = self.workers.described
        self.control_dt, self.max_episode_steps = _control_dt(task, about["dt"]), int(about["steps"])
        self.task = _described(task, about, self.control_dt)
        self._sizes = [max(1, int(np.prod(s.shape))) for s in self.task.signals]
        self.observer = PlainObserver(self.task.signals, tuple(self._sizes)).to(self.device)
        self.action_map = BoxActionMap(self.task.commands[0]).to(self.device)
        self.action_dim = self.action_map.action_dim
        self.obs_dims = {"policy": self.observer.obs_dim, "critic": self.observer.obs_dim}
        self._arrays: dict[str, NDArray[Any]] = self.workers.arrays
        self._seed, self._first = seed, np.zeros(num_envs, np.int64)
        self._done_before = np.zeros(num_envs, bool)
        self._history = np.zeros((num_envs, self.max_episode_steps, self.action_dim), np.float32)
        self._age = np.zeros(num_envs, np.int64)
        self._interrupted: NDArray[Any] | None = None
        self.episode_step = torch.zeros(num_envs, dtype=torch.long)
        self._generator = torch.Generator()
        self.reset(seed)

    def reset(self, seed: int | None = None) -> dict[str, Tensor]:
        """Begin new episodes; with a seed, those that it determines, as far as the simulator lets itself be seeded."""
        if seed is None:
            self._begin(self._arrays["episode"] + 1)
        else:
            self._seed = seed
            self._begin(np.zeros(self.num_envs, np.int64))
            self._generator.manual_seed(seed)
        if self.options.desync:
            self.episode_step = torch.randint(self.max_episode_steps, (self.num_envs,), generator=self._generator)
        return self._observations()

    def step(self, action: Tensor) -> Step:
        """One control step with action (N, A); clipped to [−1, 1]."""
        if action.shape != (self.num_envs, self.action_dim):
            raise ConfigError(f"action has shape {tuple(action.shape)}, expected {(self.num_envs, self.action_dim)}")
        with torch.no_grad():
            command = self.action_map(action.to(self.device, torch.float32))[self.task.commands[0].name]
        return self._step(command.cpu().numpy())

    def step_command(self, commands: Mapping[str, Tensor]) -> Step:
        """The same with the physical command, (N, A) in the environment's own limits."""
        name, shape = self.task.commands[0].name, (self.num_envs, self.action_dim)
        given = commands.get(name)
        if given is None or tuple(given.shape) != shape:
            got = {k: tuple(v.shape) for k, v in commands.items()}
            raise ConfigError(f"expected command '{name}' of shape {shape}, got {got}")
        return self._step(given.cpu().numpy())

    def signals(self) -> dict[str, Tensor]:
        """Name → (N, …), the parts of the last observations."""
        return self._parts("obs")

    @property
    def final_signals(self) -> dict[str, Tensor]:
        """The same of the last step, before episodes that had ended began anew."""
        return self._parts("final")

    def _parts(self, array: str) -> dict[str, Tensor]:
        parts = np.split(self._arrays[array], np.cumsum(self._sizes)[:-1], axis=1)
        return {
            s.name: torch.from_numpy(part.reshape(self.num_envs, *s.shape).copy()).to(self.device)
            for s, part in zip(self.task.signals, parts, strict=True)
        }

    def expert_command(self) -> NDArray[np.float32]:
        """What the suite's scripted policy wants in each environment now, (N, A) in the environment's own limits."""
        self.workers.ask({"do": "propose"})
        return self._arrays["action"].copy()

    def succeeded(self) -> Tensor | None:
        """(N,) bool, of the episode that goes on or has just ended; None where nothing was said of success."""
        said = self._arrays["success"]
        return None if (said < 0).all() else torch.from_numpy(said > 0)

    def metrics(self) -> dict[str, Tensor]:
        """Nothing but return, length and success is known."""
        return {}

    def close(self) -> None:
        """End the workers; also done when the environment is forgotten or the program ends."""
        self.workers.close()

    def state_dict(self) -> dict[str, Any]:
        """How the present episodes began and what was done in them: a simulator of others cannot be saved itself."""
        longest = int(self._age.max())
        arrays = {
            "episode": self._arrays["episode"], "age": self._age, "history": self._history[:, :longest],
            "obs": self._arrays["obs"],
        }  # fmt: skip
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        tensors |= {"episode_step": self.episode_step.clone(), "generator": self._generator.get_state()}
        return {"num_envs": self.num_envs, "seed": self._seed, **tensors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Play the saved episodes again up to where they were; where that leads elsewhere, new ones begin.

        They then count as cut off in the next step, with reward 0, and the log says so.
        """
        if state["num_envs"] != self.num_envs:
            raise ConfigError(f"the state is of {state['num_envs']} environments; this has {self.num_envs}")
        self._seed, episode, age = state["seed"], state["episode"].numpy(), state["age"].numpy()
        saved = state["obs"].numpy()
        if self.workers.described["repeatable"]:
            self._begin(episode)
            self._replay(state["history"].numpy(), age)
        same = self.workers.described["repeatable"] and bool((self._arrays["episode"] == episode).all())
        if not (same and np.array_equal(self._arrays["obs"], saved)):
            LOG.warning(
                "'%s' cannot be brought back to where it was: all %d episodes are cut off and new ones begin",
                self.task.name, self.num_envs,
            )  # fmt: skip
            self._begin(episode + 1)
            self._interrupted = np.array(saved)
        else:
            self.episode_step = state["episode_step"].clone()
        self._generator.set_state(state["generator"])

    def _begin(self, episodes: NDArray[Any]) -> None:
        self.workers.ask({"do": "reset", "seed": self._seed, "episodes": [int(k) for k in episodes]})
        a = self._arrays
        a["success"][:], a["final"][:] = -1, a["obs"]
        self._done_before[:], self._age[:], self._interrupted = False, 0, None
        self.episode_step = torch.zeros(self.num_envs, dtype=torch.long)

    def _replay(self, history: NDArray[Any], age: NDArray[Any]) -> None:
        a = self._arrays
        a["cut"][:] = 0
        for k in range(int(age.max())):
            a["action"][:], a["live"][:] = history[:, k], k < age
            self._history[:, k] = history[:, k]
            self.workers.ask({"do": "step"})
        self._age[:] = age

    def _step(self, command: NDArray[Any]) -> Step:
        if self._interrupted is not None:
            return self._cut_off()
        if not np.isfinite(command).all():
            raise ConfigError(f"the command for '{self.task.name}' is not finite; check the policy")
        a, live = self._arrays, ~self._done_before
        a["action"][:], a["live"][:] = command, live
        a["cut"][:] = self.episode_step.numpy() + 1 >= self.max_episode_steps
        for name in ("reward", "terminated", "truncated"):
            a[name][:] = 0
        self._history[np.arange(self.num_envs), np.minimum(self._age, self.max_episode_steps - 1)] = command
        self.workers.ask({"do": "step"})
        terminated, truncated = a["terminated"] > 0, a["truncated"] > 0
        over = terminated | truncated
        again = over if self.options.auto_reset else np.zeros_like(over)
        self._age = np.where(again, 0, self._age + live)
        self.episode_step = torch.where(torch.from_numpy(again), 0, self.episode_step + torch.from_numpy(live))
        self._done_before |= over & ~again
        log = {}
        if over.any() and (a["success"][over] >= 0).all():
            log["success"] = torch.tensor(float((a["success"][over] > 0).mean()))
        return Step(
            self._observations(), self._tensor(a["reward"]), {}, self._tensor(terminated), self._tensor(truncated),
            self._observations("final"), log,
        )  # fmt: skip

    def _cut_off(self) -> Step:
        """The step that ends episodes which could not be gone on with: nothing is done in it."""
        assert self._interrupted is not None
        last = torch.from_numpy(self._interrupted).to(self.device)
        self._interrupted = None
        none = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        final = {"policy": last, "critic": last.clone()}
        return Step(self._observations(), none.float(), {}, none, ~none, final)

    def _observations(self, name: str = "obs") -> dict[str, Tensor]:
        seen = self._tensor(self._arrays[name])
        return {"policy": seen, "critic": seen.clone()}

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array.copy()).to(self.device)


def _config(task: TaskSpec) -> dict[str, Any]:
    scheme, name, kwargs = parse(task.name)
    o: ForeignOptions = task.options
    plain = {
        key: getattr(o, key)
        for key in ("episode_steps", "reward", "success_key", "success_when", "expert", "auto_reset")
    }
    return {
        **plain, "task": task.name, "scheme": scheme, "name": name, "kwargs": {**kwargs, **o.kwargs},
        "imports": list(o.imports), "attributes": dict(o.attributes), "signals": list(o.signals),
        "end_on_success": o.end_on_success or o.reward == "sparse",
    }  # fmt: skip


def _count(task: TaskSpec, num_envs: int) -> int:
    """Processes: EnvPool has threads of its own and needs one."""
    o: ForeignOptions = task.options
    if o.workers == 0 and o.python:
        raise ConfigError("workers = 0 runs the environments in this interpreter; leave out `python`, or set workers=1")
    if parse(task.name)[0] == "envpool":
        return min(1, 1 if o.workers is None else o.workers)
    return min(num_envs, len(os.sched_getaffinity(0)) if o.workers is None else o.workers)


def _control_dt(task: TaskSpec, found: float | None) -> float:
    dt = task.options.control_dt or found
    if not dt:
        raise ConfigError(
            f"task '{task.name}' does not say how much time a step takes; set the option control_dt, in s"
        )
    return float(dt)


def _described(task: TaskSpec, about: Mapping[str, Any], dt: float) -> TaskSpec:
    signals = tuple(Signal(s["name"], tuple(s["shape"]) or (1,)) for s in about["signals"])
    low, high = (tuple(float(np.float32(x)) for x in about[end]) for end in ("low", "high"))
    idle = tuple(0.0 if a <= 0.0 <= b else 0.5 * (a + b) for a, b in zip(low, high, strict=True))
    command = Command("action", "action", "", tuple(f"action_{i}" for i in range(len(low))), low, high, idle)
    return dataclasses.replace(task, signals=signals, commands=(command,), rate=Rate(dt, dt, dt))


def play_through(
    task: TaskSpec, act: Act, count: int, seed: int = 0, control_dt: float | None = None
) -> list[dict[str, Any]]:
    """`count` steps of one environment's signals under `act`. See `TaskSpec.example_signals`.

    Raises:
        ConfigError: another rate than the task's was asked for.
    """
    env: Any = task.overridden({"auto_reset": True}).make(1, seed)
    try:
        if control_dt is not None and abs(control_dt - env.control_dt) > 1e-9:
            raise ConfigError(f"task '{task.name}' runs at control_dt = {env.control_dt} s only, got {control_dt}")
        out: list[dict[str, Any]] = []
        for _ in range(count):
            out.append({name: value.cpu().numpy() for name, value in env.signals().items()})
            env.step_command({name: torch.as_tensor(np.array(value)) for name, value in act(out[-1]).items()})
        return out
    finally:
        env.close()
