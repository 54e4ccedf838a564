"""A small task for learning from success: a point must stop in a narrow slot. With a base that stops beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.contract import Command, Memory, Rate
from robot_rl.data.episode import DataSpec, Episode, Feature
from robot_rl.data.store import EpisodeStore
from robot_rl.observer import ActionMap, Observer, initial_memory
from robot_rl.policies.chunks import ChunkedActor
from robot_rl.policies.export import export_policy
from robot_rl.protocols import Step
from robot_rl.signals import Signal

RATE = Rate(0.1, 0.1, 0.1)
SLOT = 0.03  # half its width
BIAS = torch.tensor([0.3, -0.2])  # what the base does wrong


class Sees(Observer):
    signals = (Signal("point_pos", (2,), "m"), Signal("slot_pos", (2,), "m"))
    memory = (Memory("previous_action", (2,), (0.0, 0.0)),)
    obs_dim = 4

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.cat([signals["slot_pos"] - signals["point_pos"], memory["previous_action"]], 1), memory

    def record(self, memory: dict[str, Tensor], action: Tensor) -> dict[str, Tensor]:
        return {"previous_action": torch.clamp(action, -1.0, 1.0)}


class Moves(ActionMap):
    commands = (Command("velocity", "velocity", "m/s", ("x", "y"), (-2.0, -2.0), (2.0, 2.0), (0.0, 0.0)),)

    def __init__(self, invertible: bool = False) -> None:
        super().__init__()
        self.invertible = invertible

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        return {"velocity": 2.0 * torch.clamp(action, -1.0, 1.0)}

    def action_for(self, commands: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Tensor | None:
        return 0.5 * commands["velocity"] if self.invertible else None


class SlotEnv:
    """Reward 1 and the end in the slot; 30 steps at most; episodes of N points reset themselves."""

    control_dt, action_dim, max_episode_steps, device = 0.1, 2, 30, torch.device("cpu")

    def __init__(self, num_envs: int = 1, invertible: bool = False) -> None:
        self.num_envs, self.generator = num_envs, torch.Generator()
        self.observer, self.action_map = Sees(), Moves(invertible)
        self.obs_dims: Mapping[str, int] = {"policy": 4, "critic": 2}
        self.task = SimpleNamespace(name="slot", signals=Sees.signals, commands=Moves.commands)
        self.pos, self.slot = torch.zeros(num_envs, 2), torch.zeros(num_envs, 2)
        self.age = torch.zeros(num_envs, dtype=torch.long)
        self.memory = initial_memory(Sees.memory, num_envs)

    def signals(self) -> dict[str, Tensor]:
        return {"point_pos": self.pos, "slot_pos": self.slot}

    def reset(self, seed: int | None = None) -> dict[str, Tensor]:
        if seed is not None:
            self.generator.manual_seed(seed)
        self._start(torch.ones(self.num_envs, dtype=torch.bool))
        return self._obs()

    def step(self, action: Tensor) -> Step:
        (velocity,) = self.action_map(action).values()
        self.memory = self.observer.record(self.memory, action)
        self.pos, self.age = self.pos + 0.05 * velocity, self.age + 1
        solved = (self.pos - self.slot).abs().amax(1) < SLOT
        late = (self.age >= self.max_episode_steps) & ~solved
        final, self.final_signals = self._obs(), self.signals()
        self._start(solved | late)
        return Step(self._obs(), solved.float(), {}, solved, late, final)

    def _start(self, which: Tensor) -> None:
        draw = torch.rand(2, self.num_envs, 2, generator=self.generator) - 0.5
        self.pos = torch.where(which[:, None], 2.0 * draw[0], self.pos)
        self.slot = torch.where(which[:, None], draw[1], self.slot)
        self.age = torch.where(which, 0, self.age)
        self.memory = {"previous_action": torch.where(which[:, None], 0.0, self.memory["previous_action"])}

    def _obs(self) -> dict[str, Tensor]:
        policy, _ = self.observer(self.signals(), self.memory)
        return {"policy": policy, "critic": self.slot - self.pos}

    def state_dict(self) -> dict[str, Any]:
        kept = {name: getattr(self, name).clone() for name in ("pos", "slot", "age")}
        return kept | {"generator": self.generator.get_state(), "memory": dict(self.memory)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("pos", "slot", "age"):
            setattr(self, name, state[name])
        self.generator.set_state(state["generator"])
        self.memory = dict(state["memory"])


class Planner(nn.Module):
    """obs (N, 4) → H actions that go on as if each were carried out; `bias` is added to all of them."""

    def __init__(self, horizon: int, bias: Tensor) -> None:
        super().__init__()
        self.horizon = horizon
        self.register_buffer("bias", bias)

    def forward(self, obs: Tensor) -> Tensor:
        missing, plan = obs[:, :2], []
        for _ in range(self.horizon):
            action = torch.clamp(5.0 * missing + self.bias, -1.0, 1.0)
            missing = missing - 0.1 * action
            plan.append(action)
        return torch.cat(plan, 1)


def expert(signals: Mapping[str, Any]) -> Tensor:
    missing = torch.as_tensor(signals["slot_pos"]) - torch.as_tensor(signals["point_pos"])
    return torch.clamp(5.0 * missing, -1.0, 1.0)


def write_base(path: Path, horizon: int = 3, bias: Tensor = BIAS) -> Path:
    """A policy that plans ahead and stops beside the slot, as an exported file."""
    actor = ChunkedActor(Planner(horizon, bias), None, horizon, 2, horizon)
    env, steps = SlotEnv(), []
    env.reset(1)
    for _ in range(12):
        steps.append({name: value[0].numpy() for name, value in env.signals().items()})
        env.step(expert(env.signals()))
    return export_policy(
        path, observer=Sees(), actor=actor, action_map=Moves(), task="slot", robot="point", rate=RATE,
        example_signals=steps,
    )  # fmt: skip


def write_demos(path: Path, episodes: int = 10) -> Path:
    """Successful episodes of the expert, with all that a learner may want."""
    env, features = SlotEnv(), {"obs/policy": 4, "obs/critic": 2, "obs/point_pos": 2, "obs/slot_pos": 2, "action": 2}
    spec = DataSpec(0.1, {n: Feature(shape=(k,)) for n, k in features.items()} | {"reward": Feature()})
    obs = env.reset(5)
    with EpisodeStore.create(path, spec) as store:
        while len(store) < episodes:
            rows: dict[str, list[np.ndarray]] = {name: [] for name in spec.features}
            seen = {f"obs/{name}": v for name, v in (obs | env.signals()).items()}
            done = False
            while not done:
                action = expert(env.signals())
                step = env.step(action)
                final = {f"obs/{name}": v for name, v in (step.final_obs | env.final_signals).items()}
                for name, value in (seen | {"action": action, "reward": step.reward}).items():
                    rows[name].append(value[0].numpy())
                obs, seen, done = step.obs, final, bool(step.terminated | step.truncated)
            for name, value in seen.items():
                rows[name].append(value[0].numpy())
            arrays = {name: np.array(values, np.float32) for name, values in rows.items()}
            success = bool(step.terminated[0])
            store.append(Episode(arrays, success, not success, success))
    return path
