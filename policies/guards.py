"""Finding the first tensor that is not finite, by name, before it spoils anything else; the runner dumps the state."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from robot_rl.errors import ConfigError, NumericalError


class NonFinite(NumericalError):
    """A tensor holds NaN or infinity; `name` and `tensor` say which. The runner adds where the state was dumped."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        flat = tensor.detach().reshape(-1)
        bad = (~torch.isfinite(flat)).nonzero().reshape(-1)
        first = int(bad[0])
        index, rest = [], first
        for size in reversed(tensor.shape):
            index.append(rest % size)
            rest //= size
        super().__init__(
            f"{name} is not finite: {len(bad)} of {flat.numel()} values, first {flat[first].item()} "
            f"at index {tuple(reversed(index))} of shape {tuple(tensor.shape)}"
        )
        self.name, self.tensor = name, tensor.detach().clone()


def require_finite(name: str, tensor: Tensor) -> None:
    """Raise NonFinite if any value is NaN or infinite. Costs one sum (a few µs) while all is well.

    Raises:
        NonFinite: names the tensor and the first bad index.
    """
    # A sum can overflow although every value is finite, so suspicion is checked value by value.
    if not math.isfinite(tensor.sum().item()) and not bool(torch.isfinite(tensor).all()):
        raise NonFinite(name, tensor)


class LossGuard:
    """Finds losses that are not finite; at once on a CPU, `EVERY` together on a GPU: each look waits for the device."""

    EVERY = 64

    def __init__(self, device: torch.device) -> None:
        self._at_once = device.type == "cpu"
        self._waiting: list[tuple[str, Tensor]] = []

    def see(self, name: str, loss: Tensor) -> None:
        """Raises NonFinite for this loss, or for one that was seen before."""
        if self._at_once:
            require_finite(name, loss.detach())
            return
        self._waiting.append((name, loss.detach()))
        if len(self._waiting) >= self.EVERY:
            self.check()

    def check(self) -> None:
        """Look at all that were not looked at yet; raises NonFinite for the first that is not finite."""
        if self._waiting and not bool(torch.isfinite(torch.stack([loss for _, loss in self._waiting])).all()):
            for name, loss in self._waiting:
                require_finite(name, loss)
        self._waiting.clear()


def require_finite_rollout(tensors: Mapping[str, Tensor]) -> None:
    """Check tensors (T, …) that were produced in the order of the mapping at each time step.

    Raises:
        NonFinite: names the tensor that was bad first in time (first in order among equals), at that time step.
    """
    first: tuple[int, int, str] | None = None
    for order, (name, tensor) in enumerate(tensors.items()):
        if math.isfinite(tensor.sum().item()):
            continue
        bad = (~torch.isfinite(tensor)).reshape(tensor.shape[0], -1).any(1).nonzero()
        if len(bad) and (first is None or (int(bad[0]), order) < first[:2]):
            first = (int(bad[0]), order, name)
    if first is not None:
        time, _, name = first
        raise NonFinite(name, tensors[name][time])


def require_range(name: str, value: float, low: float, high: float) -> None:
    """Check one hyper-parameter.

    Raises:
        ConfigError: the value lies outside [low, high] or is NaN.
    """
    if not low <= value <= high:
        raise ConfigError(f"{name} = {value} is outside [{low}, {high}]; give a value inside with --set {name}=…")
