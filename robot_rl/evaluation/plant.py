"""The simulated vehicles of one scenario: starts, disturbances and the reference, all drawn from one seed.

Nothing here depends on the policy, so two policies meet the same starts, disturbances and sensor noise. The flight
itself is `sim.quadrotor.numpy_sim`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.evaluation.scenarios import FORCE_STD, TORQUE_STD, Scenario, vehicle_params

if TYPE_CHECKING:
    from robot_rl.sim.quadrotor.numpy_sim import NumpyQuadrotor

Floats = NDArray[np.float64]
RAMP = 2.0  # s, in which the figure-eight gets up to speed
# Start distribution → largest |position| in m, |velocity| in m/s and |rate| in rad/s per axis, rotation in degrees.
_SPREAD = {"full": (0.2, 1.0, 90.0), "gentle": (0.05, 0.2, 15.0), "rest": (0.0, 0.0, 0.0)}


@dataclass(frozen=True)
class Reference:
    """Target at every control step. K steps; position m, velocity m/s, acceleration m/s², (K, 3), world frame.

    Attributes:
        ramp: s, after which tracking error counts.
    """

    position: Floats
    velocity: Floats
    acceleration: Floats
    times: Floats
    ramp: float = RAMP

    @property
    def settled(self) -> NDArray[np.bool_]:
        """(K,): after the ramp, from where tracking error counts."""
        return self.times > self.ramp


@dataclass(frozen=True)
class Starts:
    """Initial states of N vehicles and their constant disturbances (force N world, torque N m body)."""

    position: Floats
    quat_wxyz: Floats
    velocity: Floats
    body_rate: Floats
    force: Floats
    torque: Floats


def reference(scenario: Scenario) -> Reference:
    """Where the vehicle should be at t = 0, control_dt, … until the end of the episode (that moment included)."""
    from robot_rl.sim.quadrotor.references import Waypoints, figure_eight

    path = Waypoints(scenario.waypoints, scenario.speed) if scenario.task == "waypoints" else None
    if path is not None:
        duration = float(path.times[-1]) + 1.0
    else:
        duration = RAMP + scenario.turns * scenario.period if scenario.tracking else scenario.duration
    steps = round(duration / scenario.control_dt)
    times = scenario.control_dt * np.arange(steps + 1, dtype=np.float64)
    if not scenario.tracking:
        still = np.zeros((len(times), 3))
        return Reference(still, still, still, times)
    if path is not None:
        target = path.sample(np, times)
        return Reference(target.pos.T, target.vel.T, target.acc.T, times, ramp=0.0)
    target = figure_eight(np, times, period=scenario.period, size=1.0, ramp=RAMP)
    return Reference(target.pos.T, target.vel.T, target.acc.T, times)


def starts(scenario: Scenario, count: int, rng: np.random.Generator) -> Starts:
    """Draw initial states relative to the target, and disturbances.

    `full` is L2F's distribution: |p| ≤ 0.2 m and |v|, |ω| ≤ 1 per axis, attitude uniform up to 90° of rotation, one in
    ten upright at the target (with the same velocities). `gentle`: |p| ≤ 5 cm, |v|, |ω| ≤ 0.2, up to 15°. `rest`: none.
    """
    reach, speed, angle = _SPREAD[scenario.start]
    position = rng.uniform(-reach, reach, (count, 3))
    quat = _rotations_within(math.radians(angle), count, rng)
    velocity, body_rate = rng.uniform(-speed, speed, (count, 3)), rng.uniform(-speed, speed, (count, 3))
    guided = rng.random(count) < 0.1
    position[guided] = 0.0
    quat[guided] = (1.0, 0.0, 0.0, 0.0)
    force = scenario.disturbance * FORCE_STD * rng.standard_normal((count, 3))
    torque = scenario.disturbance * TORQUE_STD * rng.standard_normal((count, 3))
    return Starts(position, quat, velocity, body_rate, force, torque)


def plant(
    scenario: Scenario, count: int, seed: int | np.random.SeedSequence, copies: int = 1
) -> tuple[NumpyQuadrotor, Starts]:
    """The simulator with `count` vehicles at their starts; the target of a hover is the origin, way points begin at
    their first one.

    Args:
        copies: into how many blocks of equal starts and disturbances the vehicles fall; divides `count`.

    Raises:
        ConfigError: the scenario's vehicle cannot fly.
    """
    from robot_rl.sim.quadrotor.battery import BatteryModel
    from robot_rl.sim.quadrotor.equations import ROTOR_SPEED_MAX
    from robot_rl.sim.quadrotor.numpy_sim import NumpyQuadrotor, NumpySimOptions
    from robot_rl.sim.quadrotor.options import Noise

    begin_seed, sensor_seed = np.random.SeedSequence(seed).spawn(2) if isinstance(seed, int) else seed.spawn(2)
    begin = _tiled(starts(scenario, count // copies, np.random.default_rng(begin_seed)), copies)
    bias: dict[str, Any] = {}
    if scenario.position_bias:
        bias["base_pos_w"] = (scenario.position_bias,) * 3
    if scenario.rate_bias:
        bias["base_ang_vel_b"] = (scenario.rate_bias,) * 3
    options = NumpySimOptions(
        noise=Noise(scale=scenario.noise),
        bias=bias,
        command_delay=scenario.delay,
        sensor_latency=scenario.latency,
        battery=None if scenario.battery is None else BatteryModel(charge=scenario.battery),
        ground=scenario.ground is not None,
        ground_z=-(scenario.ground or 0.0),
        force=begin.force,
        torque=begin.torque,
        wind=(scenario.wind, 0.0, 0.0),
    )
    vehicle = vehicle_params(scenario)
    dt = integration_step(scenario)
    sim = NumpyQuadrotor(vehicle, count, dt, int(sensor_seed.generate_state(1)[0]), options)
    rotor = vehicle.hover_rotor if scenario.start == "rest" else 0.5
    origin = np.asarray(scenario.waypoints[0] if scenario.waypoints else (0.0, 0.0, 0.0))
    sim.reset(begin.position + origin, begin.quat_wxyz, begin.velocity, begin.body_rate, rotor * ROTOR_SPEED_MAX)
    return sim, begin


def _tiled(begin: Starts, copies: int) -> Starts:
    return Starts(**{f.name: np.tile(getattr(begin, f.name), (copies, 1)) for f in fields(Starts)})


def integration_step(scenario: Scenario) -> float:
    """The largest step in s, at most 10 ms, of which control step, delay and latency are multiples."""
    micro = [round(1e6 * t) for t in (scenario.control_dt, scenario.delay, scenario.latency, 0.01) if t > 0]
    return math.gcd(*micro) * 1e-6


def _rotations_within(angle: float, count: int, rng: np.random.Generator) -> Floats:
    """Quaternions (count, 4) uniform on SO(3) among those of rotation angle ≤ `angle` rad, by inverse sampling.

    Uniform on SO(3) means density ∝ sin²(θ/2) of the angle and a uniform axis.
    """
    grid = np.linspace(0.0, angle, 2001)
    cumulative = grid - np.sin(grid)
    theta = np.interp(rng.random(count) * cumulative[-1], cumulative, grid)
    axis = rng.standard_normal((count, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    return np.concatenate([np.cos(theta / 2)[:, None], np.sin(theta / 2)[:, None] * axis], axis=1)
