"""Two flight policies like those that are deployed, untrained, through the real exporter."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.contract import Command, Memory, Rate
from robot_rl.observer import ActionMap, Observer
from robot_rl.policies.export import export_policy
from robot_rl.policies.networks import FastTanh
from robot_rl.signals import FLIGHT_SIGNALS

HIGHEST = 2272.6
ROTORS = Command(
    "rotor_speed_target",
    "rotor_speed",
    "rad/s",
    ("front_right", "back_right", "back_left", "front_left"),
    (0.0,) * 4,
    (HIGHEST,) * 4,
    (0.0,) * 4,
)


def rotation(quat: Tensor) -> Tensor:
    w, x, y, z = quat.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1)


class CompactObserver(Observer):
    signals = tuple(FLIGHT_SIGNALS.values())
    memory = (
        Memory("filter", (12,), (0.0,) * 12),
        Memory("action", (4,), (0.0,) * 4),
        Memory("push", (3,), (0.0,) * 3),
        Memory("started", (1,), (0.0,)),
    )
    obs_dim = 35

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("tau", torch.tensor([0.02, 0.05, 0.15]).repeat_interleave(4))

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        s, dt = signals, signals["time_step"]
        started = memory["started"] > 0.5
        keep = torch.exp(-dt / self.tau)
        before = memory["action"].repeat(1, 3)
        leaky = torch.where(started, keep * memory["filter"] + (1 - keep) * before, before)
        error = (s["base_pos_w"] - s["target_pos_w"]).clamp(-0.6, 0.6)
        push = torch.where(started, memory["push"] + dt / 0.5 * (s["base_lin_vel_w"] - memory["push"]), 0.0)
        yaw = s["target_yaw"]
        parts = [
            error, rotation(s["base_quat_wxyz"]), s["base_lin_vel_w"] - s["target_lin_vel_w"], s["base_ang_vel_b"] / 10,
            torch.cos(yaw), torch.sin(yaw), leaky, s["target_lin_acc_w"] / 9.81 + push,
        ]  # fmt: skip
        after = dict(memory, filter=leaky, push=push, started=torch.ones_like(memory["started"]))
        return torch.cat(parts, -1), after

    def record(self, memory: dict[str, Tensor], action: Tensor) -> dict[str, Tensor]:
        return dict(memory, action=action)


class HistoryObserver(Observer):
    """As L2F: position, rotation, velocities and the last 32 actions."""

    signals = tuple(FLIGHT_SIGNALS[n] for n in FLIGHT_SIGNALS if n.startswith("base_"))
    memory = (Memory("history", (32, 4), (0.0,) * 128),)
    obs_dim = 146

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.register_buffer("mean", 0.1 * torch.randn(146, generator=generator))
        self.register_buffer("std", 0.5 + torch.rand(146, generator=generator))

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        s = signals
        parts = [s["base_pos_w"], rotation(s["base_quat_wxyz"]), s["base_lin_vel_w"], s["base_ang_vel_b"]]
        obs = torch.cat([*parts, memory["history"].flatten(1)], -1)
        return ((obs - self.mean) / torch.sqrt(self.std * self.std + 1e-8)).clamp(-5, 5), memory

    def record(self, memory: dict[str, Tensor], action: Tensor) -> dict[str, Tensor]:
        return dict(memory, history=torch.cat([memory["history"][:, 1:], action[:, None, :]], 1))


class MixerMap(ActionMap):
    """Thrust and torque shares mixed to the rotors, softly limited."""

    commands = (ROTORS,)

    def __init__(self) -> None:
        super().__init__()
        signs = torch.tensor([[1.0, 1, 1, 1], [-1, -1, 1, 1], [-1, 1, 1, -1], [-1, 1, -1, 1]])
        self.register_buffer("mixer", signs * torch.tensor([[0.5], [0.1], [0.1], [0.05]]))

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        share = torch.tanh(1.5 * (action @ self.mixer)) / math.tanh(1.5)
        return {ROTORS.name: (0.5 * share + 0.5).clamp(0, 1) * HIGHEST}


class PlainMap(ActionMap):
    commands = (ROTORS,)

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        return {ROTORS.name: (0.5 * action.clamp(-1, 1) + 0.5) * HIGHEST}


def _mlp(inputs: int, hidden: type[nn.Module]) -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(inputs, 64), hidden(), nn.Linear(64, 64), hidden(), nn.Linear(64, 4), hidden())


def _export(path: Path, observer: Observer, actor: nn.Module, action_map: ActionMap, rate: Rate) -> Path:
    rng = np.random.default_rng(5)
    examples = []
    for _ in range(24):
        signals = {s.name: rng.normal(0, 0.4, s.shape) for s in observer.signals if s.name != "time_step"}
        signals["base_quat_wxyz"] /= np.linalg.norm(signals["base_quat_wxyz"])
        examples.append(signals)
    return export_policy(
        path, observer=observer, actor=actor, action_map=action_map, task="test", robot="crazyflie", rate=rate,
        example_signals=examples, provenance={"seed": 7},
    )  # fmt: skip


def export_compact(path: Path) -> Path:
    return _export(path, CompactObserver(), _mlp(35, nn.Tanh), MixerMap(), Rate(0.01, 0.001, 0.02))


def export_with_history(path: Path) -> Path:
    return _export(path, HistoryObserver(), _mlp(146, FastTanh), PlainMap(), Rate(0.01, 0.01, 0.01))
