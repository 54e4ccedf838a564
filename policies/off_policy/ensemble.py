"""K critics evaluated as one batched matrix product per layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

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

    def forward(self, x: Tensor, heads: slice = slice(None), frozen: bool = False) -> Tensor:
        """Evaluate x (B, n) → (K, B, outputs) in float32.

        Args:
            x: the same input for every network.
            heads: evaluate only these networks.
            frozen: hold the weights constant; gradients reach x only.
        """

        def used(parameter: Tensor) -> Tensor:
            return (parameter.detach() if frozen else parameter)[heads]

        last = len(self.weights) - 1
        h = x.expand(len(used(self.weights[0])), -1, -1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if i == last and weight.shape[2] == 1:
                # One column: a product and a sum are faster than a matrix product, and 8 bits would not do for values.
                return (h.float() * used(weight).transpose(1, 2)).sum(2, keepdim=True) + used(bias)
            h = torch.baddbmm(used(bias), h, used(weight))
            if i < last:
                if self.layer_norm:
                    h = F.layer_norm(h, h.shape[-1:])
                    h = h * used(self.norm_weights[i]) + used(self.norm_biases[i])
                h = self.activation(h)
        return h.float()
