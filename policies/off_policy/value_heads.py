"""What a critic's outputs mean: a categorical distribution (C51), a smeared histogram (HL-Gauss), a Gaussian, a number.

All take outputs (K, B, atoms) of K critics. Sources: Bellemare et al., A Distributional Perspective on Reinforcement
Learning (2017), algorithm 1; Farebrother et al., Stop Regressing (2024), section 3 (σ = 0.75 bin widths); Duan et al.,
Distributional Soft Actor-Critic with Three Refinements (2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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


GAUSSIAN_RATE, GAUSSIAN_BIAS, GAUSSIAN_DELTA = 0.005, 0.1, 50.0
"""Of DSAC-T: rate of the running deviation, what is added to variances and deviations, where losses become linear."""


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

    def losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The same sample by sample, (B,)."""
        ...

    def expected(self, target: Tensor) -> Tensor:
        """The value (B,) of a target."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What the head remembers."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...

    def forget(self) -> None:
        """Begin anew."""
        ...


class _Forgetful:
    """A head without a state."""

    def forget(self) -> None: ...

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        del state


class _Categorical(_Forgetful):
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
        return self.losses(outputs, target).mean()

    def losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        return -(target * F.log_softmax(outputs, -1)).sum((0, 2))

    def expected(self, target: Tensor) -> Tensor:
        return target @ self.support


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


class Scalar(_Forgetful):
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
        return self.losses(outputs, target).mean()

    def losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        return (outputs - target).square().sum((0, 2))

    def expected(self, target: Tensor) -> Tensor:
        return target[:, 0]


class Gaussian:
    """Mean and standard deviation of the return, with the three refinements of DSAC-T.

    The mean regresses on the expected target; the target is that of the critic with the smaller mean; how far a sampled
    return may pull at the deviation, and how much all gradients weigh, is relative to the mean deviation so far. Unlike
    in the released program σ comes to be the standard deviation, not its 1/√2: Huber's loss has a factor of ½.

    Attributes:
        deviation: (K,) running average of each critic's σ; 0 before the first update.
        generator: for sampled returns.
    """

    outputs = 2
    generator: torch.Generator | None = None

    def __init__(self, atoms: int, v_min: float, v_max: float, device: torch.device) -> None:
        del atoms, v_min, v_max  # unbounded
        self.device = device
        self.deviation = torch.zeros(0, device=device)

    def initial_bias(self) -> Tensor:
        return torch.zeros(2, device=self.device)

    def value(self, outputs: Tensor) -> Tensor:
        return outputs[..., 0]

    def target(self, reward: Tensor, discount: Tensor, following: Tensor, pessimistic: bool) -> Tensor:
        """(B, 2): the expected return, and a sampled one for σ."""
        mean, sigma = following[..., 0], F.softplus(following[..., 1])
        if pessimistic:
            chosen = mean.argmin(0, keepdim=True)
            mean, sigma = mean.gather(0, chosen)[0], sigma.gather(0, chosen)[0]
        else:
            mean, sigma = mean.mean(0), sigma.mean(0)
        noise = torch.randn(len(reward), generator=self.generator, device=self.device).clamp_(-3.0, 3.0)
        return torch.stack((reward + discount * mean, reward + discount * (mean + sigma * noise)), 1)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        return self.losses(outputs, target).mean()

    def losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        q, sigma = outputs[..., 0], F.softplus(outputs[..., 1])
        value, sampled = target[:, 0], target[:, 1]
        constant = sigma.detach()
        with torch.no_grad():
            self._follow(constant.mean(1))
            b = self.deviation[:, None]
            weight = (b.square() / (constant.square() + GAUSSIAN_BIAS)).clamp(0.1, 10.0)
            bounded = q + torch.minimum(torch.maximum(sampled - q, -3.0 * b), 3.0 * b)
            surplus = (constant.square() - 2.0 * _huber(q, bounded)) / (constant + GAUSSIAN_BIAS)
        return (weight * (_huber(q, value) + sigma * surplus)).sum(0)

    def _follow(self, deviation: Tensor) -> None:
        self.deviation = torch.lerp(self.deviation, deviation, GAUSSIAN_RATE) if len(self.deviation) else deviation

    def expected(self, target: Tensor) -> Tensor:
        return target[:, 0]

    def forget(self) -> None:
        self.deviation = torch.zeros(0, device=self.device)

    def state_dict(self) -> dict[str, Tensor]:
        return {"deviation": self.deviation.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.deviation = state["deviation"].to(self.device)


def _huber(a: Tensor, b: Tensor) -> Tensor:
    return F.huber_loss(a, b.expand_as(a), reduction="none", delta=GAUSSIAN_DELTA)


VALUE_HEADS: dict[str, type[C51] | type[HlGauss] | type[Scalar] | type[Gaussian]] = {
    "c51": C51, "hl-gauss": HlGauss, "scalar": Scalar, "gaussian": Gaussian,
}  # fmt: skip
