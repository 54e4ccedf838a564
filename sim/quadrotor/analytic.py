"""The flight task for gradient training: a batch of vehicles that hands back the loss of a window and its gradient.

It resets and randomises between windows; `objective.py` has the equations, `fused.py` the native kernel and its torch
twin.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot_rl.config import overlay
from robot_rl.errors import ConfigError, MissingDependency
from robot_rl.registry import load
from robot_rl.sim.quadrotor import equations as eq
from robot_rl.sim.quadrotor import objective as ob
from robot_rl.sim.quadrotor import observer_equations as oe
from robot_rl.sim.quadrotor.flight_observer import FlightObserver, nominal_of
from robot_rl.sim.quadrotor.fused import GROUP, fused_rollout, torch_rollout
from robot_rl.sim.quadrotor.options import FlightOptions
from robot_rl.sim.quadrotor.params import VehicleParams
from robot_rl.sim.task_spec import TaskSpec

log = logging.getLogger(__name__)
ROW = {name: i for i, name in enumerate(ob.VEHICLE)}
MIXER = torch.tensor([[1.0, y, -x, s] for x, y, s in zip(eq.ROTOR_X, eq.ROTOR_Y, eq.ROTOR_SPIN, strict=True)])


@dataclass(frozen=True)
class AnalyticConfig:
    """What the vehicles of gradient training meet.

    Attributes:
        horizon: steps per window, after which states continue but gradients do not.
        delay_max: command delays are uniform in [0, delay_max] s, at most 0.03.
        randomised: fraction of vehicles whose mass, inertia, motors and thrust are drawn anew (see `_random_vehicle`).
        moving: fraction of vehicles whose target moves (Langevin).
        target_acc: standard deviation of a moving target's push is uniform in [0, target_acc] m/s².
        smoothness: weight of squared action changes.
        fine: 1/m, weight of the last centimetres; barrier: 1/m², of being far out. A short training needs less of both.
        strong: fraction of vehicles whose external force is up to three times as strong.
        gradient_decay: factor on state gradients per step.
        max_age: steps after which a vehicle is reset.
        kernel: `native`, `torch`, or `auto` (native where there is a C++ compiler).
    """

    horizon: int = 48
    delay_max: float = 0.03
    randomised: float = 0.7
    moving: float = 0.5
    target_acc: float = 4.0
    smoothness: float = 0.5
    fine: float = 33.0
    barrier: float = 60.0
    strong: float = 0.5
    gradient_decay: float = 0.99
    max_age: int = 300
    kernel: str = "auto"

    def __post_init__(self) -> None:
        bounds = {
            "horizon": (1, 512), "delay_max": (0, 0.03), "randomised": (0, 1), "moving": (0, 1), "strong": (0, 1),
            "target_acc": (0, 20), "smoothness": (0, 1e3), "fine": (0, 1e4), "barrier": (0, 1e4),
            "gradient_decay": (0, 1), "max_age": (1, 10**6),
        }  # fmt: skip
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"task.{name} = {getattr(self, name)}; allowed: {low} … {high}")
        if self.kernel not in ("auto", "native", "torch"):
            raise ConfigError(f"task.kernel = '{self.kernel}'; allowed: auto, native, torch")


class AnalyticFlight:
    """N vehicles hovering at, or following, a target; see DifferentiableTask.

    Attributes:
        num_envs, obs_dim, action_dim: sizes.
        observer: the module that sees the same on a robot.
        action_mix: (4, 4) collective, roll, pitch, yaw → rotors; action_bias: (4,) hover. The policy's last layer is
            learnt in these coordinates: action = tanh(action_mix · y + action_bias).
    """

    obs_dim, action_dim = oe.OBS_SIZE, 4
    max_episode_steps, control_dt = 500, ob.CONTROL_DT

    def __init__(self, vehicle: VehicleParams, num_envs: int, config: AnalyticConfig) -> None:
        if num_envs < GROUP or num_envs % GROUP:
            raise ConfigError(f"num_envs = {num_envs}; gradient training needs a multiple of {GROUP}")
        self.vehicle, self.num_envs, self.config = vehicle, num_envs, config
        self.device = torch.device("cpu")
        self.observer = FlightObserver(vehicle)
        hover = vehicle.hover_rotor
        # Slope 1 from mixer output to rotor fraction at hover: d/dx ½ tanh(k x + b) = k · 2h(1 − h).
        self.action_mix = MIXER / (4 * hover * (1 - hover)) * 2
        self.action_bias = torch.full((4,), float(np.arctanh(2 * hover - 1)))
        self._nominal = nominal_of(vehicle)
        self._carry = torch.zeros(ob.CARRY_SIZE, num_envs)
        self._vehicles = torch.zeros(len(ob.VEHICLE), num_envs)
        self._noise = torch.empty(config.horizon, ob.NOISE_ROWS, num_envs)
        self._age = np.zeros(num_envs, dtype=np.int64)
        self.kernel = self._chosen_kernel()
        self.reset(0)

    def _chosen_kernel(self) -> str:
        if self.config.kernel == "torch":
            return "torch"
        try:
            fused_rollout(self._nominal, (64, 64))
        except MissingDependency as error:
            if self.config.kernel == "native":
                raise
            log.warning("%s Training goes on in plain torch, about 20 times slower.", error)
            return "torch"
        return "native"

    def reset(self, seed: int | None = None) -> None:
        """Start all vehicles anew, with staggered ages so that resets spread over the windows."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
            self._noise_state = self._rng.integers(1, 2**32, 32, dtype=np.uint32)
        self._restart(np.arange(self.num_envs))
        self._age = self._rng.integers(0, self.config.max_age, self.num_envs)

    def loss_and_gradient(self, layers: list[Tensor]) -> tuple[float, list[Tensor]]:
        """Fly one window with the tanh network W1, b1, W2, b2, W3, b3; mean loss and its gradient by layer."""
        shapes = [tuple(x.shape) for x in layers]
        self._restart(np.flatnonzero(self._over()))
        self._fill_noise()
        self._age += self.config.horizon
        if self.kernel == "torch":
            leaves = [x.detach().requires_grad_() for x in layers]
            loss, carry = torch_rollout(
                self._carry, self._vehicles, self._noise, leaves, self._nominal, self.config.gradient_decay
            )
            gradient = torch.autograd.grad(loss, leaves)
            self._carry = carry.detach()
            return float(loss.detach()), list(gradient)
        run = fused_rollout(self._nominal, (shapes[0][0], shapes[2][0]))
        flat = torch.cat([x.detach().reshape(-1) for x in layers])
        gradient = torch.empty_like(flat)
        loss = run(self._carry, self._vehicles, self._noise, flat, gradient, self.config.gradient_decay)
        parts = gradient.split([x.numel() for x in layers])
        return loss, [g.view(s) for g, s in zip(parts, shapes, strict=True)]

    def metrics(self) -> dict[str, float]:
        """Where the vehicles are now: median distance to the target (m) and the fraction outside the 0.6 m box."""
        pos = self._carry[0:3]
        return {
            "flight/median_error_m": float(pos.norm(dim=0).median()),
            "flight/outside_box": float((pos.abs().amax(0) > 0.6).float().mean()),
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "carry": self._carry.clone(),
            "vehicles": self._vehicles.clone(),
            "age": torch.from_numpy(self._age.copy()),
            "noise_state": torch.from_numpy(self._noise_state.astype(np.int64)),
            "rng": _plain_generator(self._rng),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._carry, self._vehicles = state["carry"].clone(), state["vehicles"].clone()
        self._age = state["age"].numpy().copy()
        self._noise_state = state["noise_state"].numpy().astype(np.uint32)
        self._rng = _generator(state["rng"])

    def _over(self) -> np.ndarray:
        pos, omega = self._carry[0:3].numpy(), self._carry[10:13].numpy()
        lost = (np.abs(pos).max(0) > 1.5) | (np.abs(omega).max(0) > 40.0) | ~np.isfinite(self._carry.numpy()).all(0)
        return lost | (self._age >= self.config.max_age)

    def _fill_noise(self) -> None:
        if self.kernel == "native":
            fused_rollout(self._nominal, (64, 64)).fill_noise(self._noise_state, self._noise)
        else:
            self._noise.copy_(torch.from_numpy(self._rng.standard_normal(self._noise.shape, dtype=np.float32)))

    def _restart(self, ids: np.ndarray) -> None:
        if not len(ids):
            return
        n, rng = len(ids), self._rng
        carry = np.zeros((ob.CARRY_SIZE, n))
        carry[0:3], carry[3:7] = rng.uniform(-0.2, 0.2, (3, n)), _tilted(rng, n)
        carry[7:13], carry[13:17] = rng.uniform(-1, 1, (6, n)), 0.5
        guided = rng.random(n) < 0.1
        carry[0:7, guided] = np.array([0, 0, 0, 1, 0, 0, 0])[:, None]
        self._age[ids] = 0
        at = torch.from_numpy(ids)
        self._carry[:, at] = torch.from_numpy(carry).float()
        self._vehicles[:, at] = torch.from_numpy(self._draw_vehicles(n)).float()

    def _draw_vehicles(self, n: int) -> np.ndarray:
        """Rows as `ob.VEHICLE`: nominal vehicles, a fraction of them randomised.

        The disturbance is that of Learning to Fly in Seconds.
        """
        rng, c, v = self._rng, self.config, self.vehicle
        column = v.column()
        out = np.zeros((len(ob.VEHICLE), n))
        for name in ob.VEHICLE[: ROW["torque_ratio"] + 1]:
            out[ROW[name]] = column[eq.PARAMS.index(name)]
        _randomise_vehicles(rng, out, rng.random(n) < c.randomised)
        weight = v.mass * eq.GRAVITY
        strength = np.where(rng.random(n) < c.strong, rng.uniform(1, 3, n), 1.0)
        out[ROW["fx"] : ROW["fz"] + 1] = strength * rng.normal(0, weight / 20, (3, n))
        out[ROW["tx"] : ROW["tz"] + 1] = rng.normal(0, weight / 10_000, (3, n))
        delay = rng.uniform(0, c.delay_max, n) / ob.CONTROL_DT
        for j in range(4):
            out[ROW["delay0"] + j] = np.maximum(0, 1 - np.abs(delay - j))
        c0, c1, c2 = out[ROW["thrust0"] : ROW["thrust2"] + 1]
        need = out[ROW["mass"]] * eq.GRAVITY / 4
        out[ROW["hover"]] = (-c1 + np.sqrt(c1 * c1 - 4 * c2 * (c0 - need))) / (2 * c2)
        out[ROW["target_sigma"]] = np.where(rng.random(n) < c.moving, rng.uniform(0, c.target_acc, n), 0.0)
        for name in ("smoothness", "fine", "barrier"):
            out[ROW[name]] = getattr(c, name)
        return out


def _randomise_vehicles(rng: np.random.Generator, out: np.ndarray, chosen: np.ndarray) -> None:
    """Replace the columns `chosen` by vehicles between the published identifications of the Crazyflie, and beyond."""
    n = int(chosen.sum())
    inertia = out[ROW["jx"] : ROW["jz"] + 1, chosen]
    inertia = inertia * rng.uniform(0.8, 4.5, n) * rng.uniform(0.9, 1.1, (3, n))
    inertia[2] *= rng.uniform(0.8, 1.3, n)
    rise = np.exp(rng.uniform(np.log(0.045), np.log(0.18), n))
    slower = np.where(rng.random(n) < 0.5, rng.uniform(1, 4, n), 1.0)
    full = out[ROW["thrust2"], chosen] * rng.uniform(0.70, 1.05, n)
    constant, linear = rng.uniform(0, 0.03, n), rng.uniform(0, 0.15, n)
    out[ROW["mass"], chosen] *= rng.uniform(0.9, 1.2, n)
    out[ROW["jx"] : ROW["jz"] + 1, chosen] = inertia
    out[ROW["tau_rise"], chosen], out[ROW["tau_fall"], chosen] = rise, np.maximum(rise, np.minimum(rise * slower, 0.26))
    out[ROW["thrust0"], chosen], out[ROW["thrust1"], chosen] = full * constant, full * linear
    out[ROW["thrust2"], chosen] = full * (1 - constant - linear)
    out[ROW["torque_ratio"], chosen] *= rng.uniform(0.7, 1.3, n)


def _tilted(rng: np.random.Generator, n: int) -> np.ndarray:
    """Quaternions (4, n) uniform on the rotations by at most 90°."""
    out = np.empty((4, n))
    todo = np.ones(n, dtype=bool)
    while todo.any():
        q = rng.normal(size=(4, int(todo.sum())))
        out[:, todo] = q / np.linalg.norm(q, axis=0)
        todo = np.abs(out[0]) < np.cos(np.pi / 4)
    return out * np.sign(out[0])


def _plain_generator(rng: np.random.Generator) -> dict[str, Any]:
    state = rng.bit_generator.state
    return {**state, "state": {k: str(v) for k, v in state["state"].items()}}


def _generator(plain: Mapping[str, Any]) -> np.random.Generator:
    rng = np.random.default_rng()
    rng.bit_generator.state = {**plain, "state": {k: int(v) for k, v in plain["state"].items()}}
    return rng


_NOT_FLOWN = ("altitude", "dropout", "bias", "latency", "wind", "battery")


def make_analytic_flight(task: TaskSpec, num_envs: int, changes: Mapping[str, Any]) -> AnalyticFlight:
    """What the flight tasks name as `differentiable`: their vehicle under this module's own, robust conditions.

    What the task asks for beyond them is not simulated in training, and a warning says so.
    """
    ideal = FlightOptions()
    ignored = [name for name in _NOT_FLOWN if getattr(task.options, name) != getattr(ideal, name)]
    if ignored:
        log.warning("training by analytic gradient does not simulate the task's %s", ", ".join(ignored))
    vehicle = load("robot", task.robot).parameters(task.options.vehicle)
    return AnalyticFlight(vehicle, num_envs, overlay(AnalyticConfig(), changes))
