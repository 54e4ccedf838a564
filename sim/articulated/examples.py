"""Signals of one simulated robot under any policy: what exports record and targets are compared on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from robot_rl.errors import ConfigError

if TYPE_CHECKING:
    from robot_rl.sim.task_spec import Act, TaskSpec


def walk_through(
    task: TaskSpec, act: Act, count: int, seed: int = 0, control_dt: float | None = None
) -> list[dict[str, Any]]:
    """One robot of the task's own environment, through as many episodes as it takes. See `TaskSpec.example_signals`.

    Raises:
        ConfigError: another rate than the task's was asked for.
    """
    if control_dt is not None and abs(control_dt - task.rate.control_dt) > 1e-9:
        raise ConfigError(f"task '{task.name}' runs at control_dt = {task.rate.control_dt} s only, got {control_dt}")
    env: Any = task.overridden({"threads": 1}).make(1, seed)
    out = []
    for _ in range(count):
        signals = {name: np.array(value.cpu().numpy()) for name, value in env.signals().items()}
        out.append(signals)
        env.step_command({name: torch.as_tensor(np.array(value)) for name, value in act(signals).items()})
    return out
