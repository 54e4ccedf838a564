"""How learning rates fall towards the end of a training."""

from __future__ import annotations

import math


def half_cosine(progress: tuple[int, int], end: float, start: float = 0.0) -> float:
    """Factor of a learning rate: 1 until the share `start` of the training, then along half a cosine to `end`.

    Args:
        progress: done and total, in any unit.
        end: factor at the end, from 0 to 1.
        start: share of the training from which it falls; 0 (the whole training) to below 1.

    References:
        Loshchilov, Hutter: SGDR (2017), for the cosine; Hägele et al.: Scaling Laws and Compute-Optimal Training
        Beyond Fixed Training Durations (2024), for a constant rate before a late fall.
    """
    done, total = progress
    share = min(max((done / total - start) / (1.0 - start), 0.0), 1.0)
    return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * share))
