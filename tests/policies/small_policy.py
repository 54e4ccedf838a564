"""A small flight policy with everything that exported policies are made of, and one call that exports it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.contract import Command, Memory, Rate
from robot_rl.observer import ActionMap, Observer
from robot_rl.policies.export import export_policy
from robot_rl.signals import FLIGHT_SIGNALS

RATE = Rate(0.01, 0.001, 0.02)
SIGNALS = tuple(
    FLIGHT_SIGNALS[n] for n in ("base_pos_w", "base_quat_wxyz", "target_pos_w", "target_lin_acc_w", "time_step")
)


class History(Observer):
    """Rotation matrix, filtered position error, action history: the operations that flight observers are made of."""

    signals = SIGNALS
    memory = (
        Memory("history", (8, 4), (0.1,) * 32),
        Memory("filter", (3,), (0.0,) * 3),
        Memory("started", (1,), (0.0,)),
        Memory("untouched", (2,), (7.0, -3.0)),
    )
    obs_dim = 3 + 9 + 3 + 32

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        w, x, y, z = signals["base_quat_wxyz"].unbind(-1)
        rows = (
            1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
            2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
            2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
        )  # fmt: skip
        error = (signals["base_pos_w"] - signals["target_pos_w"]).clamp(-0.6, 0.6)
        keep = torch.exp(-signals["time_step"] / 0.05)
        smooth = torch.where(memory["started"] > 0.5, keep * memory["filter"] + (1 - keep) * error, error)
        obs = torch.cat([error, torch.stack(rows, -1), smooth, memory["history"].flatten(1)], -1)
        return obs, {**memory, "filter": smooth, "started": torch.ones_like(memory["started"])}

    def record(self, memory: dict[str, Tensor], action: Tensor) -> dict[str, Tensor]:
        return {**memory, "history": torch.cat([memory["history"][:, 1:], action[:, None, :]], 1)}


class Rotors(ActionMap):
    """[−1, 1] to rad/s."""

    commands = (
        Command("rotor_speed_target", "rotor_speed", "rad/s", tuple("abcd"), (0.0,) * 4, (2272.6,) * 4, (0.0,) * 4),
    )

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        return {"rotor_speed_target": (action.clamp(-1, 1) + 1) * (0.5 * 2272.6)}


class Recurrent(nn.Module):
    """A GRU actor: its state is explicit memory."""

    memory = (Memory("gru", (16,), (0.0,) * 16),)

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(History.obs_dim, 16), nn.Linear(16, 4)

    def forward(self, obs: Tensor, memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        state = self.cell(obs, memory["gru"])
        return torch.tanh(self.head(state)), {"gru": state}


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(History.obs_dim, 32), nn.Tanh(), nn.Linear(32, 4), nn.Tanh())


def rollout(steps: int = 40, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Plausible flight signals, without time_step."""
    rng, result = np.random.default_rng(seed), []
    for _ in range(steps):
        quat = rng.normal(size=4)
        result.append(
            {
                "base_pos_w": rng.normal(size=3) * 0.4, "base_quat_wxyz": quat / np.linalg.norm(quat),
                "target_pos_w": rng.normal(size=3) * 0.1, "target_lin_acc_w": np.zeros(3),
            }
        )  # fmt: skip
    return result


def export(path: Path, **changes: Any) -> Path:
    arguments: dict[str, Any] = {
        "observer": History(), "actor": mlp(), "action_map": Rotors(), "task": "quadrotor-hover", "robot": "crazyflie",
        "rate": RATE, "example_signals": rollout(),
    }  # fmt: skip
    return export_policy(path, **(arguments | changes))
