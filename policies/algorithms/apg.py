"""Analytic policy gradient: descend the gradient of the flight's own loss, through simulator and policy.

Short windows that continue from previous states (truncated back-propagation through time), no value function. The
task hands back loss and gradient (protocols.DifferentiableTask); this file has the network and Adam. After Xu et al.,
"Accelerated Policy Learning with Parallel Differentiable Simulation", 2022 (windows), without their critic; see
docs/algorithms.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.guards import require_finite, require_range
from robot_rl.protocols import DifferentiableTask


@dataclass(frozen=True)
class ApgConfig:
    """Hyper-parameters; the vehicles' are in the task's section.

    Attributes:
        num_envs: vehicles flown at once.
        hidden: sizes of the two tanh layers, multiples of 16.
        updates: windows flown, one Adam step each.
        lr: peak learning rate, reached after `warmup` updates, then linear down to `lr_end` of it.
        betas: of Adam.
        max_gradient: global norm to which gradients are clipped.
        updates_per_iteration: updates between two log lines.
    """

    num_envs: int = 256
    hidden: tuple[int, int] = (64, 64)
    updates: int = 1900
    lr: float = 3e-3
    lr_end: float = 0.05
    warmup: int = 10
    betas: tuple[float, float] = (0.9, 0.95)
    max_gradient: float = 0.5
    updates_per_iteration: int = 20

    def __post_init__(self) -> None:
        require_range("updates", self.updates, 1, 10**7)
        require_range("lr", self.lr, 1e-8, 1.0)
        require_range("lr_end", self.lr_end, 0.0, 1.0)
        require_range("warmup", self.warmup, 1, 10**6)
        require_range("max_gradient", self.max_gradient, 1e-6, 1e6)
        require_range("updates_per_iteration", self.updates_per_iteration, 1, 10**6)


class TanhActor(nn.Module):
    """obs (N, n) → action (N, A): two tanh layers, then tanh(mix · (W₃ h + b₃) + bias) folded into one layer."""

    def __init__(self, layers: list[Tensor]) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for weight, bias in zip(layers[0::2], layers[1::2], strict=True):
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            with torch.no_grad():
                linear.weight.copy_(weight)
                linear.bias.copy_(bias)
            self.layers.extend([linear, nn.Tanh()])
        self.requires_grad_(False)

    def forward(self, obs: Tensor) -> Tensor:
        return self.layers(obs)


class Apg:
    """See the module docstring; `theta` is the flat parameter vector W1, b1, W2, b2, W3, b3 before mixing."""

    def __init__(self, task: DifferentiableTask, config: ApgConfig, seed: int) -> None:
        self.config, self._seed = config, seed
        (h1, h2), n, a = config.hidden, task.obs_dim, task.action_dim
        self._shapes: list[tuple[int, ...]] = [(h1, n), (h1,), (h2, h1), (h2,), (a, h2), (a,)]
        self._mix, self._bias = task.action_mix, task.action_bias
        self.theta = torch.cat([x.reshape(-1) for x in self._initial(torch.Generator().manual_seed(seed))])
        self._mean, self._square = torch.zeros_like(self.theta), torch.zeros_like(self.theta)
        self._update, self._steps_per_update = 0, task.num_envs * task.config.horizon
        self._started = False

    def _initial(self, generator: torch.Generator) -> list[Tensor]:
        """Uniform ±1.7/√fan-in; last layer × 0.03, so training starts from hover thrust on every rotor."""
        layers: list[Tensor] = []
        for shape in self._shapes[0::2]:
            rows, columns = shape
            scale = 1.7 / columns**0.5
            layers += [scale * (2 * torch.rand(rows, columns, generator=generator) - 1), torch.zeros(rows)]
        layers[4] *= 0.03
        return layers

    @property
    def progress(self) -> tuple[int, int]:
        return self._update, self.config.updates

    @property
    def env_steps(self) -> int:
        return self._update * self._steps_per_update

    def layers(self) -> list[Tensor]:
        """W1, b1, W2, b2, W3, b3 as the task flies them: the last layer mixed."""
        sizes = [torch.Size(s).numel() for s in self._shapes]
        parts = [p.view(s) for p, s in zip(self.theta.split(sizes), self._shapes, strict=True)]
        return [*parts[:4], self._mix @ parts[4], self._mix @ parts[5] + self._bias]

    def step(self, env: DifferentiableTask) -> dict[str, float]:
        """`updates_per_iteration` windows, each followed by one Adam step."""
        if not self._started:
            env.reset(self._seed)
            self._started = True
        total, norm, count = 0.0, 0.0, min(self.config.updates_per_iteration, self.config.updates - self._update)
        for _ in range(count):
            loss, gradient = env.loss_and_gradient(self.layers())
            flat = torch.cat(
                [
                    *(g.reshape(-1) for g in gradient[:4]),
                    (self._mix.T @ gradient[4]).reshape(-1),
                    self._mix.T @ gradient[5],
                ]
            )
            norm = float(flat.norm())
            require_finite("gradient", flat)
            self._adam(flat * min(1.0, self.config.max_gradient / max(norm, 1e-12)))
            total += loss
        return {"loss/flight": total / count, "loss/gradient_norm": norm, "train/lr": self._lr(), **env.metrics()}

    def _lr(self) -> float:
        c = self.config
        rising = min(1.0, (self._update + 1) / c.warmup)
        return c.lr * rising * (1 - (1 - c.lr_end) * self._update / c.updates)

    def _adam(self, g: Tensor) -> None:
        (b1, b2), t, lr = self.config.betas, self._update + 1, self._lr()
        self._mean.lerp_(g, 1 - b1)
        self._square.mul_(b2).addcmul_(g, g, value=1 - b2)
        denominator = (self._square / (1 - b2**t)).sqrt_().add_(1e-8)
        self.theta.addcdiv_(self._mean, denominator, value=-lr / (1 - b1**t))
        self._update = t

    def policy(self) -> nn.Module:
        return TanhActor([x.clone() for x in self.layers()])

    def state_dict(self) -> dict[str, Any]:
        return {
            "theta": self.theta.clone(), "mean": self._mean.clone(), "square": self._square.clone(),
            "update": self._update, "started": self._started,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["theta"].shape != self.theta.shape:
            raise ValueError(f"its network has {len(state['theta'])} parameters, here it has {len(self.theta)}")
        self.theta, self._mean, self._square = (state[k].clone() for k in ("theta", "mean", "square"))
        self._update, self._started = state["update"], state["started"]


ALGORITHM = AlgorithmSpec(
    name="apg",
    config_class=ApgConfig,
    create=Apg,  # type: ignore[arg-type]
    task_overrides={"differentiable": True},
    shown=("loss/flight", "flight/median_error_m", "flight/outside_box"),
    summary="analytic policy gradient through the simulator (default)",
)
