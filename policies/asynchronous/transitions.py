"""One step of all environments as a message, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot_rl.policies.asynchronous.wire import Message, WireError
from robot_rl.protocols import Step

TRANSITION = "transition"
_FLAGS = ("terminated", "truncated")


def to_message(
    actor: str, number: int, follows: bool, obs: Mapping[str, Tensor], action: Tensor, step: Step,
    groups: tuple[str, ...],
) -> Message:  # fmt: skip
    """What was seen (groups of (N, n)), what was done (N, a), and what it gave.

    Args:
        actor: who. number: counts this actor's steps from 1, without a gap.
        follows: `obs` is what was seen at the end of the step before.
    """
    arrays = {f"obs/{name}": _array(obs[name]) for name in groups} | {"action": _array(action)}
    arrays |= {f"after/{name}": _array(step.obs[name]) for name in groups} | {"reward": _array(step.reward)}
    arrays |= {name: _array(getattr(step, name)) for name in _FLAGS}
    if bool((step.terminated | step.truncated).any()):
        arrays |= {f"final/{name}": _array(step.final_obs[name]) for name in groups}
    log = {name: float(value) for name, value in step.log.items()}
    return Message(TRANSITION, {"actor": actor, "number": number, "follows": follows, "log": log}, arrays)


def from_message(
    message: Message, dims: Mapping[str, int], action_dim: int, num_envs: int, device: torch.device
) -> tuple[dict[str, Tensor], Tensor, Step]:
    """Observations before, action, and step.

    Raises:
        WireError: arrays that are missing or do not fit the learner.
    """
    rows: dict[str, tuple[tuple[int, ...], Any]] = {"action": ((num_envs, action_dim), np.float32)}
    rows |= {"reward": ((num_envs,), np.float32)} | {name: ((num_envs,), np.bool_) for name in _FLAGS}
    parts = ("obs", "after", "final") if any(n.startswith("final/") for n in message.arrays) else ("obs", "after")
    rows |= {f"{part}/{name}": ((num_envs, dim), np.float32) for part in parts for name, dim in dims.items()}
    wrong = [
        f"{name} {shape}"
        for name, (shape, dtype) in rows.items()
        if name not in message.arrays or message.arrays[name].shape != shape or message.arrays[name].dtype != dtype
    ]
    if wrong:
        raise WireError(f"a transition does not fit the learner, which needs {', '.join(wrong)}")
    found = {name: torch.from_numpy(np.array(message.arrays[name])).to(device) for name in rows}

    def group(part: str) -> dict[str, Tensor]:
        return {name: found[f"{part}/{name}"] for name in dims}

    log = {str(name): torch.tensor(float(value)) for name, value in message.fields.get("log", {}).items()}
    ended = group("final") if "final" in parts else group("after")
    step = Step(group("after"), found["reward"], {}, found["terminated"], found["truncated"], ended, log)
    return group("obs"), found["action"], step


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
