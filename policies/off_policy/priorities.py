"""Which stored transitions are drawn more often: those whose values were predicted badly.

Schaul et al., Prioritized Experience Replay (2016), proportional variant; Fujimoto et al., An Equivalence between Loss
Functions and Non-Uniform Sampling in Experience Replay (2020), for the floor: errors below it count as if they were it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Priorities:
    """Unnormalised probabilities max(error, floor)^α of rows, 0 for rows that may not be drawn.

    Drawing sums all of them up, in double precision: 0.2 ms for 100,000 and 1 ms for a million on a CPU.

    Args:
        rows: how many there are.
        exponent: α; 0 draws all alike.
        floor: smallest error that makes a difference.
        correction: β of the importance weights, which are divided by the largest of the batch; 0: none.
        device: of everything.
    """

    def __init__(self, rows: int, exponent: float, floor: float, correction: float, device: torch.device) -> None:
        self.exponent, self.floor, self.correction = exponent, floor, correction
        self.value = torch.zeros(rows, dtype=torch.float64, device=device)
        self.largest = torch.full((), floor**exponent, dtype=torch.float64, device=device)

    def enter(self, rows: slice, following: slice) -> None:
        """New transitions, as likely as any has been so far; the rows that are written next must not be drawn."""
        self.value[rows] = self.largest
        self.value[following] = 0.0

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` rows (B,) with replacement, one from each of as many equal parts of the sum; their weights (B,)."""
        total = self.value.cumsum(0)
        device = self.value.device
        shift = torch.rand(count, generator=generator, device=device, dtype=torch.float64)
        point = (torch.arange(count, device=device) + shift) * (total[-1] / count)
        point = torch.minimum(point, torch.nextafter(total[-1], torch.zeros_like(total[-1])))
        row = torch.searchsorted(total, point, right=True)
        weight = self.value[row].pow(-self.correction)
        return row, (weight / weight.max()).float()

    def update(self, row: Tensor, error: Tensor) -> None:
        """Absolute errors (B,) of rows (B,) that were drawn."""
        value = error.double().clamp_min(self.floor).pow(self.exponent)
        self.value[row] = value
        self.largest = torch.maximum(self.largest, value.max())

    def state_dict(self, used: int) -> dict[str, Any]:
        """Of the first `used` rows."""
        return {"value": self.value[:used].clone(), "largest": self.largest.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what state_dict gave."""
        self.value[: len(state["value"])] = state["value"].to(self.value.device)
        self.largest = state["largest"].to(self.value.device)
