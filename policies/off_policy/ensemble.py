"""K critics evaluated as one batched matrix product per layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_rl.policies.networks import activation
from robot_rl.policies.off_policy.architecture import Dense, Norm, Part, Residual, architecture

NONE = torch.empty(0)


class Stage(NamedTuple):
    """A part of the network with its parameters; a residual block has none, but the stages inside it."""

    part: Part
    weight: Tensor = NONE
    bias: Tensor = NONE
    inside: tuple[Stage, ...] = ()


class CriticEnsemble(nn.Module):
    """`count` equally shaped networks; weights (count, in, out), uniform in ±1/√in, biases alike.

    Args:
        count: K.
        sizes: input, hidden …, outputs.
        hidden: name of the activation.
        layer_norm: normalise before each hidden activation, with scale and shift of each network's own.
        generator: for the initial weights.
        kind: of network, see `architecture`.
    """

    def __init__(
        self, count: int, sizes: Sequence[int], hidden: str, layer_norm: bool, generator: torch.Generator,
        kind: str = "mlp",
    ) -> None:  # fmt: skip
        super().__init__()
        self.count = count
        self.activation = activation(hidden)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.norm_weights, self.norm_biases = nn.ParameterList(), nn.ParameterList()
        # Plain references to the parameters: reading a ParameterList takes longer than a small matrix product.
        self.stages = self._staged(architecture(kind, sizes, layer_norm), generator)

    def _staged(self, parts: Sequence[Part], generator: torch.Generator) -> tuple[Stage, ...]:
        stages: list[Stage] = []
        for part in parts:
            if isinstance(part, Dense):
                bound = 1.0 / math.sqrt(part.fan_in)
                draw = torch.empty(self.count, part.fan_in + 1, part.fan_out)
                draw.uniform_(-bound, bound, generator=generator)
                self.weights.append(nn.Parameter(draw[:, :-1].clone()))
                self.biases.append(nn.Parameter(draw[:, -1:].clone()))
                stages.append(Stage(part, self.weights[-1], self.biases[-1]))
            elif isinstance(part, Norm):
                self.norm_weights.append(nn.Parameter(torch.ones(self.count, 1, part.width)))
                self.norm_biases.append(nn.Parameter(torch.zeros(self.count, 1, part.width)))
                stages.append(Stage(part, self.norm_weights[-1], self.norm_biases[-1]))
            elif isinstance(part, Residual):
                stages.append(Stage(part, inside=self._staged(part.inside, generator)))
            else:
                stages.append(Stage(part))
        return tuple(stages)

    def forward(
        self, x: Tensor, heads: slice | None = None, frozen: bool = False, seen: list[Tensor] | None = None
    ) -> Tensor:
        """Evaluate x (B, n) → (K, B, outputs) in float32.

        Args:
            x: the same input for every network.
            heads: evaluate only these networks; None: all.
            frozen: hold the weights constant; gradients reach x only.
            seen: takes the results of all activations, (K, B, width) each.
        """

        def used(parameter: Tensor) -> Tensor:
            parameter = parameter.detach() if frozen else parameter
            return parameter if heads is None else parameter[heads]  # a view costs a copy on the way back

        count = self.count if heads is None else len(range(self.count)[heads])
        h = self._through(self.stages[:-1], x.expand(count, -1, -1), used, seen)
        _, weight, bias, _ = self.stages[-1]
        outputs = weight.shape[2]
        if outputs == 1:
            # One column: a product and a sum are faster than a matrix product, and 8 bits would not do for values.
            return (h.float() * used(weight).transpose(1, 2)).sum(2, keepdim=True) + used(bias)
        if outputs == 2:
            with torch.autocast(h.device.type, enabled=False):
                return torch.baddbmm(used(bias), h.float(), used(weight))
        return torch.baddbmm(used(bias), h, used(weight)).float()

    def _through(
        self, stages: Sequence[Stage], h: Tensor, used: Callable[[Tensor], Tensor], seen: list[Tensor] | None
    ) -> Tensor:
        for part, weight, bias, inside in stages:
            if isinstance(part, Dense):
                h = torch.baddbmm(used(bias), h, used(weight))
            elif isinstance(part, Norm):
                h = F.layer_norm(h, h.shape[-1:]) * used(weight) + used(bias)
            elif isinstance(part, Residual):
                h = h + self._through(inside, h, used, seen)
            else:
                h = self.activation(h)
                if seen is not None:
                    seen.append(h)
        return h
