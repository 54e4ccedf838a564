"""State of the generators that libraries use without being told: Python's, NumPy's and torch's."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """State of the global generators of Python, NumPy and torch, as plain values."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    numpy_state = [str(name), [int(k) for k in keys], int(position), int(has_gauss), float(gauss)]
    return {"python": random.getstate(), "numpy": numpy_state, "torch": torch.get_rng_state()}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put back what random_state gave."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
