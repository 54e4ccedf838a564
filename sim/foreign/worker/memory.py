"""The numbers that both sides see: one piece of memory, fields one behind the other."""

from __future__ import annotations

from typing import Any

import numpy as np


def layout(num_envs: int, obs_dim: int, action_dim: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name → dtype and shape of what both sides share.

    `success`: −1 unknown. `cut`: time runs out with this step. `live`: steps at all. `episode`: how many came before.
    """
    n = (num_envs,)
    wide = {"action": (*n, action_dim), "obs": (*n, obs_dim), "final": (*n, obs_dim), "reward": n}
    flags = dict.fromkeys(("terminated", "truncated", "success", "cut", "live"), ("i1", n))
    return {"episode": ("i8", n), **{k: ("f4", shape) for k, shape in wide.items()}, **flags}


def size_of(fields: dict[str, tuple[str, tuple[int, ...]]]) -> int:
    """Bytes."""
    return sum(int(np.prod(shape)) * np.dtype(kind).itemsize for kind, shape in fields.values())


def views(memory: Any, fields: dict[str, tuple[str, tuple[int, ...]]]) -> dict[str, Any]:
    """Name → array in the memory, one behind the other."""
    found, offset = {}, 0
    for name, (kind, shape) in fields.items():
        found[name] = np.frombuffer(memory, kind, int(np.prod(shape)), offset).reshape(shape)
        offset += found[name].nbytes
    return found
