"""What a critic's outputs mean: a categorical distribution (C51), a smeared histogram (HL-Gauss) or one number.

All take outputs (K, B, atoms) of K critics. Sources: Bellemare et al., A Distributional Perspective on Reinforcement
Learning (2017), algorithm 1; Farebrother et al., Stop Regressing (2024), section 3 (σ = 0.75 bin widths).
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

HL_GAUSS_WIDTHS = 0.75
INITIAL_WIDTH = 0.05
"""Standard deviation of an untrained critic's distribution around 0, as a share of the support.

An even distribution over the support shrinks only by γ per backup, and until then it hides the differences between
actions from the actor.
"""
INITIAL_FLOOR = -6.0
"""Smallest initial logit relative to the largest: values that rise must not have to dig atoms out of nothing."""


class ValueHead(Protocol):
    """How outputs become values, what they should become, and how far away they are."""

    outputs: int

    def initial_bias(self) -> Tensor:
        """Bias (atoms,) of the last layer before training, for a value of about 0."""
        ...

    def value(self, outputs: Tensor) -> Tensor:
        """Expected return (…,) of outputs (…, atoms)."""
        ...

    def target(self, reward: Tensor, discount: Tensor, following: Tensor, pessimistic: bool) -> Tensor:
        """What all critics should give: reward, discount (B,); following (K, B, atoms): target critics afterwards.

        pessimistic: the critic with the smallest value counts, sample by sample; else the average of all.
        """
        ...

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Sum over critics of the mean over samples: (K, B, atoms) against a target without gradient → scalar."""
        ...


class _Categorical:
    """Logits over evenly spaced atoms from v_min to v_max."""

    def __init__(self, atoms: int, v_min: float, v_max: float, device: torch.device) -> None:
        self.outputs, self.v_min, self.v_max = atoms, v_min, v_max
        self.spacing = (v_max - v_min) / (atoms - 1)
        self.support = torch.linspace(v_min, v_max, atoms, device=device)

    def initial_bias(self) -> Tensor:
        centre = min(max(0.0, self.v_min), self.v_max)
        width = INITIAL_WIDTH * (self.v_max - self.v_min)
        return (-0.5 * ((self.support - centre) / width).square()).clamp_min(INITIAL_FLOOR)

    def value(self, outputs: Tensor) -> Tensor:
        return torch.softmax(outputs, -1) @ self.support

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        return -(target * F.log_softmax(outputs, -1)).sum((0, 2)).mean()


class C51(_Categorical):
    """The whole distribution of the return is moved, and projected back on the atoms."""

    def target(self, reward: Tensor, discount: Tensor, following: Tensor, pessimistic: bool) -> Tensor:
        probabilities = torch.softmax(following, -1)
        if pessimistic:
            chosen = (probabilities @ self.support).argmin(0)
            probabilities = probabilities[chosen, torch.arange(len(chosen), device=chosen.device)]
        else:
            probabilities = probabilities.mean(0)
        return self.project(reward, discount, probabilities)

    def project(self, reward: Tensor, discount: Tensor, probabilities: Tensor) -> Tensor:
        """Distribution (B, atoms) of reward + discount · Z on the atoms; mass beyond the ends goes to the ends."""
        moved = (reward[:, None] + discount[:, None] * self.support).clamp_(self.v_min, self.v_max)
        position = moved.sub_(self.v_min).div_(self.spacing).clamp_(0.0, self.outputs - 1)
        lower = position.floor()
        upper_share = position.sub_(lower).mul_(probabilities)
        index = lower.long()
        projected = torch.zeros_like(probabilities)
        projected.scatter_add_(1, index, probabilities - upper_share)
        return projected.scatter_add_(1, index.add_(1).clamp_(max=self.outputs - 1), upper_share)


class HlGauss(_Categorical):
    """A number is learnt by classification: the target is a Gaussian around it, cut into bins around the atoms."""

    def target(self, reward: Tensor, discount: Tensor, following: Tensor, pessimistic: bool) -> Tensor:
        values = self.value(following)
        value = values.amin(0) if pessimistic else values.mean(0)
        return self.histogram(reward + discount * value)

    def histogram(self, value: Tensor) -> Tensor:
        """Probabilities (B, atoms) of N(value, (0.75 · spacing)²) in the bins, normalised; value (B,)."""
        half = 0.5 * self.spacing
        edges = torch.cat((self.support - half, self.support[-1:] + half))
        distance = edges - value.clamp(self.v_min, self.v_max)[:, None]
        cumulative = torch.erf(distance / (HL_GAUSS_WIDTHS * self.spacing * math.sqrt(2.0)))
        mass = cumulative.diff(dim=1)
        return mass / mass.sum(1, keepdim=True)


class Scalar:
    """One number, squared error."""

    outputs = 1

    def __init__(self, atoms: int, v_min: float, v_max: float, device: torch.device) -> None:
        del atoms, v_min, v_max  # unbounded: needs no support
        self.device = device

    def initial_bias(self) -> Tensor:
        return torch.zeros(1, device=self.device)

    def value(self, outputs: Tensor) -> Tensor:
        return outputs.squeeze(-1)

    def target(self, reward: Tensor, discount: Tensor, following: Tensor, pessimistic: bool) -> Tensor:
        values = self.value(following)
        return (reward + discount * (values.amin(0) if pessimistic else values.mean(0)))[:, None]

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        return (outputs - target).square().sum((0, 2)).mean()


VALUE_HEADS: dict[str, type[C51] | type[HlGauss] | type[Scalar]] = {"c51": C51, "hl-gauss": HlGauss, "scalar": Scalar}
