"""K critics evaluated as one batched matrix product per layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_rl.policies.networks import activation


class CriticEnsemble(nn.Module):
    """`count` equally shaped networks; weights (count, in, out), uniform in ±1/√in, biases alike.

    Args:
        count: K.
        sizes: input, hidden …, outputs.
        hidden: name of the activation.
        layer_norm: normalise before each hidden activation, with scale and shift of each network's own.
        generator: for the initial weights.
    """

    def __init__(
        self, count: int, sizes: Sequence[int], hidden: str, layer_norm: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.count, self.layer_norm = count, layer_norm
        self.activation = activation(hidden)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.norm_weights, self.norm_biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            bound = 1.0 / math.sqrt(fan_in)
            draw = torch.empty(count, fan_in + 1, fan_out).uniform_(-bound, bound, generator=generator)
            self.weights.append(nn.Parameter(draw[:, :-1].clone()))
            self.biases.append(nn.Parameter(draw[:, -1:].clone()))
        for width in sizes[1:-1] if layer_norm else ():
            self.norm_weights.append(nn.Parameter(torch.ones(count, 1, width)))
            self.norm_biases.append(nn.Parameter(torch.zeros(count, 1, width)))
        # The same parameters as plain tuples: reading a ParameterList takes longer than a small matrix product.
        self.layers = list(zip_longest(self.weights, self.biases, self.norm_weights, self.norm_biases))

    def forward(self, x: Tensor, heads: slice | None = None, frozen: bool = False) -> Tensor:
        """Evaluate x (B, n) → (K, B, outputs) in float32.

        Args:
            x: the same input for every network.
            heads: evaluate only these networks; None: all.
            frozen: hold the weights constant; gradients reach x only.
        """

        def used(parameter: Tensor) -> Tensor:
            parameter = parameter.detach() if frozen else parameter
            return parameter if heads is None else parameter[heads]  # a view costs a copy on the way back

        h = x.expand(self.count if heads is None else len(self.layers[0][0][heads]), -1, -1)
        for weight, bias, norm_weight, norm_bias in self.layers[:-1]:
            h = torch.baddbmm(used(bias), h, used(weight))
            if norm_weight is not None:
                h = F.layer_norm(h, h.shape[-1:]) * used(norm_weight) + used(norm_bias)
            h = self.activation(h)
        weight, bias = self.layers[-1][:2]
        if weight.shape[2] == 1:
            # One column: a product and a sum are faster than a matrix product, and 8 bits would not do for values.
            return (h.float() * used(weight).transpose(1, 2)).sum(2, keepdim=True) + used(bias)
        return torch.baddbmm(used(bias), h, used(weight)).float()
