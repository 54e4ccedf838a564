"""Draw vehicles and starting states: what differs between environments and episodes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robot_rl.sim.quadrotor.equations import GRAVITY, STATE, STATE_SIZE
from robot_rl.sim.quadrotor.options import Disturbance, Randomize, Reset
from robot_rl.sim.quadrotor.params import FORCE, GAIN, INERTIA, MASS, ROW, TORQUE, VehicleParams
from robot_rl.sim.ranges import Range


def uniform(bounds: Range, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform numbers of a range."""
    low, high = bounds
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def log_uniform(bounds: Range, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers whose logarithm is uniform in a range."""
    return torch.exp(uniform((math.log(bounds[0]), math.log(bounds[1])), shape, generator))


def sample_vehicles(vehicle: VehicleParams, ranges: Randomize, n: int, generator: torch.Generator) -> Tensor:
    """Parameters (P, n), rows as `equations.PARAMS`, without disturbance; a share `fraction` differs from `vehicle`."""
    column = torch.tensor(vehicle.column(), dtype=torch.float32, device=generator.device)
    nominal = column[:, None].repeat(1, n)
    if ranges.fraction <= 0:
        return nominal
    drawn = _drawn(vehicle, ranges, nominal, generator)
    chosen = torch.rand(n, generator=generator, device=generator.device) < ranges.fraction
    return torch.where(chosen, drawn, nominal)


def _drawn(vehicle: VehicleParams, ranges: Randomize, nominal: Tensor, generator: torch.Generator) -> Tensor:
    n, p = nominal.shape[1], nominal.clone()

    def factor(bounds: Range, rows: int = 1) -> Tensor:
        return uniform(bounds, (rows, n), generator)

    p[MASS] *= factor(ranges.mass)[0]
    p[INERTIA] *= factor(ranges.inertia) * factor(ranges.inertia_axis, 3)
    p[ROW["jz"]] *= factor(ranges.inertia_z)[0]
    rise = log_uniform(ranges.tau_rise, (n,), generator)
    asymmetric = torch.rand(n, generator=generator, device=generator.device) < 0.5
    fall = rise * torch.where(asymmetric, factor(ranges.tau_fall)[0], torch.ones_like(rise))
    p[ROW["tau_rise"]] = rise
    p[ROW["tau_fall"]] = torch.maximum(torch.clamp(fall, max=ranges.tau_fall_max), rise)
    moved = vehicle.max_thrust * torch.stack([factor(ranges.thrust_constant)[0], factor(ranges.thrust_linear)[0]])
    thrust = [p[ROW["thrust0"]] + moved[0], p[ROW["thrust1"]] + moved[1], p[ROW["thrust2"]] - moved.sum(0)]
    p[ROW["thrust0"] : ROW["thrust2"] + 1] = torch.stack(thrust) * factor(ranges.thrust)
    p[ROW["torque_ratio"]] *= factor(ranges.torque_ratio)[0]
    p[GAIN] *= factor(ranges.rotor_gain, 4)
    p[[ROW["drag_xy"], ROW["drag_z"]]] *= factor(ranges.drag)
    return p


def sample_disturbance(
    params: Tensor, vehicle: VehicleParams, options: Disturbance, generator: torch.Generator
) -> None:
    """Write a constant force and torque per column into `params` (P, n)."""
    weight, n = vehicle.mass * GRAVITY, params.shape[1]
    draw = torch.randn(6, n, generator=generator, device=generator.device)
    params[FORCE] = options.force * weight * draw[:3]
    params[TORQUE] = options.torque * weight * draw[3:]


def sample_rotation(max_angle: float, n: int, generator: torch.Generator) -> Tensor:
    """Quaternions (4, n), uniform on the rotations by at most `max_angle` rad.

    The angle's density there is proportional to 1 − cos; its distribution function is inverted by Newton's method. The
    axis is uniform on the sphere. Same law as rejecting uniform rotations, without a random number of draws.
    """
    share = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)
    wanted = share * (max_angle - math.sin(max_angle))
    angle = (6 * wanted) ** (1 / 3)  # exact for small angles
    for _ in range(6):
        angle = torch.clamp(angle, 1e-6, math.pi)
        angle = angle - (angle - torch.sin(angle) - wanted) / (1 - torch.cos(angle))
    angle = torch.clamp(angle, 0.0, max_angle)
    axis = torch.randn(3, n, generator=generator, device=generator.device, dtype=torch.float64)
    axis = axis / torch.clamp(torch.linalg.vector_norm(axis, dim=0, keepdim=True), min=1e-9)
    return torch.cat([torch.cos(angle / 2)[None], axis * torch.sin(angle / 2)]).float()


def sample_start(options: Reset, n: int, generator: torch.Generator) -> Tensor:
    """States (17, n) relative to the target at rest."""
    state = torch.zeros(STATE_SIZE, n, device=generator.device)
    easy = torch.rand(n, generator=generator, device=generator.device) < options.guidance
    pos = uniform((-options.position, options.position), (3, n), generator)
    quat = sample_rotation(options.max_angle, n, generator)
    upright = torch.tensor([1.0, 0.0, 0.0, 0.0], device=generator.device)[:, None]
    state[STATE["pos"]] = torch.where(easy, torch.zeros_like(pos), pos)
    state[STATE["quat"]] = torch.where(easy, upright, quat)
    state[STATE["vel"]] = uniform((-options.velocity, options.velocity), (3, n), generator)
    state[STATE["omega"]] = uniform((-options.body_rate, options.body_rate), (3, n), generator)
    state[STATE["rotor"]] = options.rotor
    return state
