"""Small networks and the tools to train them with little overhead; nothing here knows a task or an algorithm."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from robot_rl.errors import UnknownName
from robot_rl.protocols import Array


class _FastTanhFunction(torch.autograd.Function):
    """fast_tanh with its derivative (1/3 − 4/(x²+3))² by hand: faster than going back through the operations."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        x = x.clamp(-3.0, 3.0)
        denominator = (x * x).add_(3.0)
        ctx.save_for_backward(denominator)
        return (x * (1.0 / 9.0)).addcdiv_(x, denominator, value=8.0 / 3.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (denominator,) = ctx.saved_tensors  # type: ignore[attr-defined]
        root = denominator.reciprocal().mul_(-4.0).add_(1.0 / 3.0)
        return root.mul_(root).mul_(grads[0])


def fast_tanh(x: Tensor) -> Tensor:
    """Rational tanh x(27+x²)/(27+9x²) = x(1/9 + (8/3)/(x²+3)), ±1 beyond ±3; needs no exp. Error below 0.024."""
    if x.requires_grad:
        return _FastTanhFunction.apply(x)  # type: ignore[no-any-return]
    x = x.clamp(-3.0, 3.0)
    return x * ((8.0 / 3.0) / (x * x + 3.0) + 1.0 / 9.0)


def fast_tanh_(x: Tensor) -> Tensor:
    """Overwrites x with fast_tanh(x), without gradient."""
    x.clamp_(-3.0, 3.0)
    denominator = (x * x).add_(3.0)
    return torch.addcdiv(x.mul(1.0 / 9.0), x, denominator, value=8.0 / 3.0, out=x)


class FastTanh(nn.Module):
    """Module form of `fast_tanh`."""

    def forward(self, x: Tensor) -> Tensor:
        return fast_tanh(x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "fast_tanh": FastTanh,
    "none": nn.Identity,
}


def activation(name: str) -> nn.Module:
    """The activation called `name`.

    Raises:
        UnknownName: lists the known ones.
    """
    if name not in ACTIVATIONS:
        raise UnknownName("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def mlp(sizes: Sequence[int], hidden: str, output: str = "none") -> nn.Sequential:
    """Fully connected layers of the given sizes, input first: Linear, hidden, …, Linear, output (if not "none")."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        name = hidden if i < len(sizes) - 2 else output
        layers += [nn.Linear(fan_in, fan_out), *([] if name == "none" else [activation(name)])]
    return nn.Sequential(*layers)


@torch.no_grad()
def orthogonal_init(network: nn.Sequential, gain: float, last_gain: float, generator: torch.Generator) -> None:
    """Orthogonal weights and zero biases; the last layer gets `last_gain` (small, so that training starts near 0)."""
    linears = [m for m in network if isinstance(m, nn.Linear)]
    for i, layer in enumerate(linears):
        nn.init.orthogonal_(layer.weight, last_gain if i == len(linears) - 1 else gain, generator=generator)
        layer.bias.zero_()


@torch.no_grad()
def uniform_fan_in_init(network: nn.Sequential, generator: torch.Generator) -> None:
    """Weights and biases uniform in ±1/√fan_in."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            bound = 1.0 / math.sqrt(layer.in_features)
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def forward_no_grad(network: nn.Sequential, x: Tensor) -> Tensor:
    """What `network(x)` gives for Linear and FastTanh layers, with activations in place and no module calls."""
    for layer in network:
        x = F.linear(x, layer.weight, layer.bias) if isinstance(layer, nn.Linear) else fast_tanh_(x)
    return x


class StackedMlp(nn.Module):
    """`count` equally shaped networks evaluated as one batched matrix product per layer (twin critics).

    Weights are uniform ±1/√fan_in. Hidden layers use fast_tanh, the output is linear.
    """

    def __init__(self, count: int, sizes: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.count = count
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            bound = 1.0 / math.sqrt(fan_in)
            draw = torch.empty(count, fan_in + 1, fan_out).uniform_(-bound, bound, generator=generator)
            self.weights.append(nn.Parameter(draw[:, :-1].clone()))
            self.biases.append(nn.Parameter(draw[:, -1:].clone()))

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate x (B, n), or (count, B, n) with own rows for each network → (count, B, outputs)."""
        h = x.expand(self.count, -1, -1) if x.dim() == 2 else x
        activate = fast_tanh if torch.is_grad_enabled() else fast_tanh_
        *hidden, (weight, bias) = zip(self.weights, self.biases, strict=True)
        for w, b in hidden:
            h = activate(torch.baddbmm(b, h, w))
        if weight.shape[2] == 1:  # A matrix product with one column takes three times as long as this.
            return (h * weight.transpose(1, 2)).sum(2, keepdim=True) + bias
        return torch.baddbmm(bias, h, weight)

    def first(self, x: Tensor) -> Tensor:
        """Network 0 with its weights held constant: x (B, n) → (B, outputs); gradients reach x only."""
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.addmm(bias.detach()[0], x, weight.detach()[0])
            if i < last:
                x = fast_tanh(x)
        return x


class NumpyMlp:
    """Forward pass of a fast_tanh network (hidden and output) in NumPy, on the torch parameters' own memory.

    For one or a few rows, as one environment gives them, it takes a third of torch's time. It follows every change
    of the parameters that is made in place (optimisers, load_state_dict).
    """

    def __init__(self, network: nn.Sequential) -> None:
        linears = [layer for layer in network if isinstance(layer, nn.Linear)]
        self.layers = [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in linears]

    def __call__(self, x: Array) -> Array:
        """Map x (N, n) → (N, outputs) in [−1, 1]."""
        for weight, bias in self.layers:
            x = x @ weight
            x += bias
            np.maximum(x, -3.0, out=x)
            np.minimum(x, 3.0, out=x)
            scale = x * x
            scale += 3.0
            np.divide(8.0 / 3.0, scale, out=scale)
            scale += 1.0 / 9.0
            x *= scale
        return x


class FlatParameters:
    """All parameters of a module as views of one vector, so that an update, an average or a check is one operation.

    Args:
        module: its parameters are moved into `vector` (and their gradients into `vector.grad`); its state_dict
            and load_state_dict work as before.
    """

    def __init__(self, module: nn.Module) -> None:
        parameters = list(module.parameters())
        self.vector = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]))
        self.vector.grad = torch.zeros_like(self.vector)
        self.is_weight = torch.zeros_like(self.vector, requires_grad=False)
        offset = 0
        for name, p in module.named_parameters():
            part = slice(offset, offset + p.numel())
            p.data = self.vector.data[part].view(p.shape)
            p.grad = self.vector.grad[part].view(p.shape)
            self.is_weight[part] = 0.0 if "bias" in name else 1.0
            offset += p.numel()

    @torch.no_grad()
    def average_towards(self, online: FlatParameters, rate: float) -> None:
        """Polyak average: self ← (1 − rate)·self + rate·online."""
        self.vector.lerp_(online.vector, rate)


class FlatAdamW(torch.optim.AdamW):
    """AdamW of one tensor with the kernel and the state of torch's, without what that does around it (5/6 of the time).

    Args:
        parameter: updated where it lies, by its `grad`.
        lr, weight_decay: as torch's.
    """

    def __init__(self, parameter: nn.Parameter, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__([parameter], lr=lr, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update."""
        group = self.param_groups[0]
        parameter = group["params"][0]
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        torch.ops.aten._fused_adamw_(  # pyright: ignore[reportPrivateUsage]
            [parameter], [parameter.grad], [state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"]],
            lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1], weight_decay=group["weight_decay"],
            eps=group["eps"], amsgrad=False, maximize=False,
        )  # fmt: skip

    step.hooked = True  # type: ignore[attr-defined]  # else torch wraps it in a range of its profiler


class DecoupledAdam:
    """Adam with weight decay W ← W − (decay/2)·W in each update, weights only and **not** scaled by the learning rate.

    Source: the optimiser of rl-tools as Learning to Fly in Seconds pins it (AdamW would scale the decay by lr).
    """

    def __init__(self, parameters: FlatParameters, lr: float, decay: float) -> None:
        self.parameters = parameters
        self.adam = torch.optim.Adam([parameters.vector], lr=lr, betas=(0.9, 0.999), eps=1e-8, fused=True)
        self.shrink = 1.0 - 0.5 * decay * parameters.is_weight

    def zero_grad(self) -> None:
        """Zero the gradients in place (they stay views of one vector)."""
        assert self.parameters.vector.grad is not None
        self.parameters.vector.grad.zero_()

    @torch.no_grad()
    def step(self) -> None:
        """Decay, then Adam; the order does not matter, for Adam's step does not depend on the weights."""
        self.parameters.vector.mul_(self.shrink)
        self.adam.step()


class DeterministicActor(nn.Module):
    """The deployed part of a policy: normaliser, network, clamp to [−1, 1]; a frozen copy in evaluation mode."""

    def __init__(self, network: nn.Module, normalizer: nn.Module | None = None) -> None:
        super().__init__()
        self.normalizer = copy.deepcopy(normalizer) if normalizer is not None else nn.Identity()
        self.network = copy.deepcopy(network)
        self.requires_grad_(False).eval()

    def forward(self, obs: Tensor) -> Tensor:
        """Map obs (N, n) → action (N, m) in [−1, 1]."""
        action: Tensor = self.network(self.normalizer(obs)).clamp(-1.0, 1.0)
        return action
