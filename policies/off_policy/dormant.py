"""How many hidden units of a network hardly ever do anything, a sign that it has lost the ability to learn.

Sokar et al., The Dormant Neuron Phenomenon in Deep Reinforcement Learning (2023), definition 3.1, τ = 0.025 as in Xu et
al., DrM (2024).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robot_rl.policies.off_policy.ensemble import CriticEnsemble

TAU = 0.025
"""A unit is dormant whose mean activation is at most this share of the mean over its layer."""


@torch.no_grad()
def dormancy(
    actor: nn.Module, actor_input: Tensor, kind: type[nn.Module], critics: CriticEnsemble, critic_input: Tensor
) -> dict[str, float]:
    """For the log: the ratios of the actor, whose activations are modules of that kind, and of all critics together."""
    seen: list[Tensor] = []
    critics(critic_input, seen=seen)
    acting = activations_of(actor, kind, actor_input)
    return {"dormant/critics": dormant_ratio(seen).item(), "dormant/actor": dormant_ratio(acting).item()}


def dormant_ratio(activations: Sequence[Tensor]) -> Tensor:
    """Share (0 … 1, scalar) of dormant units among those of all layers; activations (…, B, width) of each."""
    dormant, units = [], 0
    for activation in activations:
        size = activation.float().abs().mean(-2)
        dormant.append((size <= TAU * size.mean(-1, keepdim=True)).sum())
        units += size.numel()
    return torch.stack(dormant).sum() / units


def activations_of(network: nn.Module, kind: type[nn.Module], x: Tensor) -> list[Tensor]:
    """What the modules of that kind, the activations, give for x."""
    seen: list[Tensor] = []

    def take(_module: nn.Module, _inputs: tuple[Tensor, ...], out: Tensor) -> None:
        seen.append(out)

    hooks = [module.register_forward_hook(take) for module in network.modules() if type(module) is kind]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
