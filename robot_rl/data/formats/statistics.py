"""Numbers that LeRobot keeps about each feature: least, greatest, mean, deviation and quantiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Stats = Mapping[str, NDArray[Any]]
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
_PICTURES, _PIXELS = 100, 150  # of an episode, along a side: as many as are looked at


def of_numbers(array: NDArray[Any]) -> Stats:
    """Over the rows of (T, …); a number per row gives vectors of one."""
    return _over_rows((array[:, None] if array.ndim == 1 else array).astype(float), len(array))


def of_pictures(pictures: NDArray[Any]) -> Stats:
    """Over time and place, for each colour, in 0 … 1: (3, 1, 1). At most 100 pictures of 150 × 150 pixels count."""
    some = pictures[np.linspace(0, len(pictures) - 1, min(len(pictures), _PICTURES)).astype(int)]
    some = some[:, :: max(1, some.shape[1] // _PIXELS), :: max(1, some.shape[2] // _PIXELS)]
    found = _over_rows(some.reshape(-1, some.shape[-1]) / 255.0, len(some))
    return {key: v if key == "count" else v[:, None, None] for key, v in found.items()}


def _over_rows(rows: NDArray[Any], count: int) -> Stats:
    quantiles = np.quantile(rows, QUANTILES, axis=0)
    return {
        "min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0), "count": np.array([count]),
        **{f"q{round(100 * q):02d}": row for q, row in zip(QUANTILES, quantiles, strict=True)},
    }  # fmt: skip


def joined(a: Stats, b: Stats) -> Stats:
    """Of both together; quantiles, which cannot be joined exactly, as means weighted by the counts."""
    n, m = float(a["count"][0]), float(b["count"][0])
    mean = (n * a["mean"] + m * b["mean"]) / (n + m)
    spread = n * (a["std"] ** 2 + (a["mean"] - mean) ** 2) + m * (b["std"] ** 2 + (b["mean"] - mean) ** 2)
    return {
        "min": np.minimum(a["min"], b["min"]), "max": np.maximum(a["max"], b["max"]), "mean": mean,
        "std": np.sqrt(spread / (n + m)), "count": a["count"] + b["count"],
        **{key: (n * a[key] + m * b[key]) / (n + m) for key in a if key.startswith("q")},
    }  # fmt: skip
