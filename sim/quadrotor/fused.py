"""Build the fused native rollout (dynamics, observer, policy and adjoint) from the shared equations."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robot_rl.sim.codegen import symbolic
from robot_rl.sim.codegen.build import compile_library
from robot_rl.sim.codegen.emit import LANES, PRELUDE, function
from robot_rl.sim.quadrotor import objective as ob
from robot_rl.sim.quadrotor import observer_equations as oe

GROUP = 2 * LANES  # environments per pass of the native kernel


def _observe_source(nominal: oe.Nominal) -> str:
    g = symbolic.Graph()
    carry, noise = g.inputs("carry", ob.CARRY_SIZE), g.inputs("noise", ob.NOISE_ROWS)
    obs, memory = ob.observe(symbolic, carry, noise, nominal)
    forward = function("observe", g, ["carry", "noise"], {"obs": list(obs), "memory": list(memory)})
    obs_bar, filter_bar = g.inputs("obs_bar", len(obs)), g.inputs("filter_bar", 12)
    wrt = [*carry[ob.SLICES["state"]], *carry[ob.SLICES["filter"]], *carry[ob.SLICES["action1"]]]
    out = symbolic.gradient([*obs, *memory[:12]], [*obs_bar, *filter_bar], wrt)
    return forward + function("observe_vjp", g, ["carry", "noise", "obs_bar", "filter_bar"], {"out": out})


def _advance_source() -> str:
    g = symbolic.Graph()
    carry, action = g.inputs("carry", ob.CARRY_SIZE), g.inputs("action", 4)
    vehicle, noise = g.inputs("vehicle", len(ob.VEHICLE)), g.inputs("noise", ob.NOISE_ROWS)
    state, target, loss = ob.advance(symbolic, carry, action, vehicle, noise)
    inputs = ["carry", "action", "vehicle", "noise"]
    forward = function("advance", g, inputs, {"state": state, "target": list(target), "cost": [loss]})
    state_bar, cost_bar = g.inputs("state_bar", 17), g.inputs("cost_bar", 1)
    wrt = [*carry[ob.SLICES["state"]], *(x for i in (1, 2, 3) for x in carry[ob.SLICES[f"action{i}"]]), *action]
    out = symbolic.gradient([*state, loss], [*state_bar, *cost_bar], wrt)
    return forward + function("advance_vjp", g, [*inputs, "state_bar", "cost_bar"], {"out": out})


def _sizes(hidden: tuple[int, int]) -> str:
    rows = {
        "N_CARRY": ob.CARRY_SIZE, "N_NOISE": ob.NOISE_ROWS, "N_VEHICLE": len(ob.VEHICLE), "N_OBS": oe.OBS_SIZE,
        "N_MEMORY": sum(ob.CARRY[n] for n in ob.MEMORY), "N_TARGET": ob.CARRY["target"],
        "N_H1": hidden[0], "N_H2": hidden[1], "N_ACT": 4,
    }  # fmt: skip
    starts = {
        "C_STATE": "state", "C_FILTER": "filter", "C_ACTION1": "action1", "C_ACTION2": "action2",
        "C_ACTION3": "action3", "C_LINVEL": "lin_vel", "C_TARGET": "target",
    }  # fmt: skip
    rows |= {name: ob.SLICES[part].start for name, part in starts.items()}
    return "enum { " + ", ".join(f"{n} = {v}" for n, v in rows.items()) + " };\n"


class FusedRollout:
    """The native kernel for one network size. Raises MissingDependency without a C++ compiler."""

    def __init__(self, nominal: oe.Nominal, hidden: tuple[int, int]) -> None:
        if any(h % LANES for h in hidden):
            raise ValueError(f"hidden sizes must be multiples of {LANES}, got {hidden}")
        template = Path(__file__).with_name("native") / "fused.cpp"
        source = PRELUDE + _sizes(hidden) + _observe_source(nominal) + _advance_source() + template.read_text()
        library = compile_library(source, "quadrotor_fused")
        self._run, self._noise = library.loss_and_gradient, library.fill_noise
        self._run.restype, self._noise.restype = ctypes.c_double, None

    def __call__(
        self, carry: Tensor, vehicle: Tensor, noise: Tensor, weights: Tensor, gradient: Tensor, decay: float
    ) -> float:
        """Advance `carry` (CARRY_SIZE, N) in place over noise (H, NOISE_ROWS, N); gives the loss, fills `gradient`."""
        n = carry.shape[1]
        if n % GROUP:
            raise ValueError(f"num_envs must be a multiple of {GROUP}, got {n}")
        pointers = [ctypes.c_void_p(t.data_ptr()) for t in (carry, vehicle, noise, weights, gradient)]
        return float(self._run(ctypes.c_long(n), ctypes.c_long(noise.shape[0]), ctypes.c_float(decay), *pointers))

    def fill_noise(self, state: np.ndarray, out: Tensor) -> None:
        """Fill `out` with near-normal numbers; `state` is the generator's, (32,) uint32, advanced in place."""
        self._noise(ctypes.c_void_p(state.ctypes.data), ctypes.c_void_p(out.data_ptr()), ctypes.c_long(out.numel()))


@lru_cache(maxsize=4)
def fused_rollout(nominal: oe.Nominal, hidden: tuple[int, int]) -> FusedRollout:
    """The kernel for this vehicle and network, built once."""
    return FusedRollout(nominal, hidden)


def torch_rollout(
    carry: Tensor, vehicle: Tensor, noise: Tensor, layers: list[Tensor], nominal: oe.Nominal, decay: float
) -> tuple[Tensor, Tensor]:
    """The same in plain torch: (mean loss that can be differentiated, carry after the window). The readable twin."""
    total = carry.new_zeros(())
    w1, b1, w2, b2, w3, b3 = layers
    for step_noise in noise:
        obs, memory = ob.observe(torch, carry, step_noise, nominal)
        h = torch.tanh(w1 @ obs + b1[:, None])
        h = torch.tanh(w2 @ h + b2[:, None])
        action = torch.tanh(w3 @ h + b3[:, None])
        state, target, loss = ob.advance(torch, carry, action, vehicle, step_noise)
        total = total + loss.mean()
        part = {n: carry[rows] for n, rows in ob.SLICES.items()}
        state_rows = _Decay.apply(torch.stack(state), decay)
        carry = torch.cat(
            [state_rows, memory[:12], action, part["action1"], part["action2"], memory[12:].detach(), target.detach()]
        )
    return total / noise.shape[0], carry


class _Decay(torch.autograd.Function):
    """Identity whose gradient is multiplied by `factor`: damps gradients through long rollouts."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor  # type: ignore[attr-defined]
        return x.clone()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None  # type: ignore[attr-defined]
