"""Linear-quadratic regulator about hover, with motor lag and integral action, following the flat reference attitude.

States (20): position, velocity, attitude error, body rate (3 each), four rotor speeds, integrals of position (3) and
of yaw (1). Designed for the time step it is called with; gains are cached per step. Not a trajectory optimiser:
constraints are handled by clipping errors and by the mixer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.policies.base.flight.controller import (
    CONTROL_DT,
    FlightController,
    FlightState,
    clipped,
    flat_attitude,
    limited_tilt,
)
from robot_rl.policies.base.flight.gains import check_gains, gain, tuned
from robot_rl.policies.base.flight.rotations import Floats, log_map
from robot_rl.policies.base.flight.vehicle import CRAZYFLIE, Vehicle

NUM_STATES = 20


@dataclass(frozen=True)
class LqrConfig:
    """Weights, each one over the square of an acceptable deviation; command deviations of 1 (full range) weigh 1.

    The defaults are where tuning starts; the tuned ones stand in `config/base/lqr.yaml`.

    Attributes:
        position, velocity, attitude, yaw, rate, yaw_rate: weights on the errors, SI.
        rotor: weight on rotor speed deviation (normalised), which also stands for effort.
        integral, yaw_integral: weights on the integrals.
        max_position_error: m, max_velocity_error: m/s; errors beyond are shortened.
        max_tilt: rad, of the attitude the reference acceleration asks for.
        feed_forward: share of the reference's acceleration and jerk that is used.
    """

    position: float = gain(0.2054, 0.02, 200.0)
    velocity: float = gain(0.08311, 0.005, 30.0)
    attitude: float = gain(0.01766, 0.003, 100.0)
    yaw: float = gain(0.6704, 0.003, 100.0)
    rate: float = gain(0.004398, 1e-5, 1.0)
    yaw_rate: float = gain(0.002392, 1e-5, 1.0)
    rotor: float = gain(0.2799, 0.001, 30.0)
    integral: float = gain(5.711, 0.01, 200.0)
    yaw_integral: float = gain(0.4969, 0.003, 30.0)
    max_position_error: float = gain(0.2833, 0.05, 2.0)
    max_velocity_error: float = gain(1.047, 0.3, 6.0)
    max_tilt: float = gain(0.743, 0.3, 1.5)
    feed_forward: float = gain(0.9604, 0.3, 1.5)

    def __post_init__(self) -> None:
        check_gains(self)


class LqrController(FlightController):
    """See the module docstring."""

    config: LqrConfig

    def __init__(self, config: LqrConfig | None = None, vehicle: Vehicle = CRAZYFLIE) -> None:
        super().__init__(tuned(LqrConfig(), "lqr") if config is None else config, vehicle)
        self._gains: dict[float, Floats] = {}

    def _memory_sizes(self) -> dict[str, int]:
        return {"integral": 4}

    def gain_matrix(self, dt: float = CONTROL_DT) -> Floats:
        """(4, 20) feedback u = u_hover − K·x for the time step `dt` in s."""
        key = round(float(dt), 5)
        if key not in self._gains:
            self._gains[key] = design(self.vehicle, self.config, key)
        return self._gains[key]

    def _command(self, state: FlightState) -> Floats:
        g, vehicle = self.config, self.vehicle
        wanted = g.feed_forward * state.target_acceleration
        wanted[:, 2] += vehicle.gravity
        wanted = limited_tilt(wanted, g.max_tilt, 0.2 * vehicle.gravity)
        attitude, rate = flat_attitude(wanted, g.feed_forward * state.target_jerk, state.target_yaw)
        relative = np.swapaxes(attitude, -1, -2) @ state.attitude
        attitude_error = log_map(relative)
        rate_error = state.body_rate - np.einsum("nji,nj->ni", relative, rate)
        force = vehicle.mass * np.linalg.norm(wanted, axis=1, keepdims=True)
        reference_speed = vehicle.speed_for(np.repeat(force / 4, 4, axis=1))
        heading = _to_heading(state.target_yaw)
        position_error = np.einsum("nij,nj->ni", heading, state.position_error)
        velocity_error = np.einsum("nij,nj->ni", heading, state.velocity_error)
        integral = self._integrate(position_error, attitude_error[:, 2:], state.dt)
        x = np.concatenate(
            [
                clipped(position_error, g.max_position_error),
                clipped(velocity_error, g.max_velocity_error),
                attitude_error,
                rate_error,
                state.rotor_speed - reference_speed,
                integral,
            ],
            axis=1,
        )  # (N, 20)
        return self.mixer.limited(reference_speed - x @ self.gain_matrix(float(np.median(state.dt))).T)

    def _integrate(self, position_error: Floats, yaw_error: Floats, dt: Floats) -> Floats:
        integral = self._memory["integral"]
        error = np.concatenate([position_error, yaw_error], axis=1)
        near = np.linalg.norm(position_error, axis=1, keepdims=True) < self.config.max_position_error
        integral += near * dt * error
        np.clip(integral, -1.0, 1.0, out=integral)
        return integral


def _to_heading(yaw: Floats) -> Floats:
    """(N, 3, 3) world → frame turned by `yaw` about the vertical."""
    c, s, zero, one = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw), np.ones_like(yaw)
    rows = [np.stack([c, s, zero], -1), np.stack([-s, c, zero], -1), np.stack([zero, zero, one], -1)]
    return np.stack(rows, axis=-2)


def linear_model(vehicle: Vehicle) -> tuple[Floats, Floats]:
    """Continuous ẋ = A x + B u about hover, shapes (20, 20) and (20, 4); order as in the module docstring."""
    a, b = np.zeros((NUM_STATES, NUM_STATES)), np.zeros((NUM_STATES, 4))
    a[0:3, 3:6] = np.eye(3)
    a[3, 7], a[4, 6] = vehicle.gravity, -vehicle.gravity
    a[6:9, 9:12] = np.eye(3)
    _, c1, c2 = vehicle.thrust_curve
    slope = c1 + 2 * c2 * vehicle.hover_speed  # N per unit of normalised speed
    wrench = vehicle.allocation() * slope
    a[5, 12:16] = wrench[0] / vehicle.mass
    a[9:12, 12:16] = wrench[1:] / np.array(vehicle.inertia)[:, None]
    tau = np.sqrt(vehicle.tau_rise * vehicle.tau_fall)
    a[12:16, 12:16] = -np.eye(4) / tau
    b[12:16] = np.eye(4) / tau
    a[16:19, 0:3] = np.eye(3)
    a[19, 8] = 1.0
    return a, b


def design(vehicle: Vehicle, config: LqrConfig, dt: float) -> Floats:
    """Gain (4, 20) from the discrete algebraic Riccati equation at step `dt` in s.

    Raises:
        ConfigError: the equation has no stabilising solution for these weights.
    """
    from scipy.linalg import LinAlgError, expm, solve_discrete_are

    a, b = linear_model(vehicle)
    block = np.zeros((NUM_STATES + 4, NUM_STATES + 4))
    block[:NUM_STATES, :NUM_STATES], block[:NUM_STATES, NUM_STATES:] = a * dt, b * dt
    exact = expm(block)  # zero-order hold
    ad, bd = exact[:NUM_STATES, :NUM_STATES], exact[:NUM_STATES, NUM_STATES:]
    c = config
    weights = [c.position] * 3 + [c.velocity] * 3 + [c.attitude] * 2 + [c.yaw] + [c.rate] * 2 + [c.yaw_rate]
    weights += [c.rotor] * 4 + [c.integral] * 3 + [c.yaw_integral]
    r = np.eye(4) * dt
    try:
        p = solve_discrete_are(ad, bd, np.diag(weights) * dt, r)
    except (LinAlgError, ValueError) as error:
        raise ConfigError(f"no stabilising LQR gain for {config} at dt = {dt} s: {error}") from error
    return np.linalg.solve(r + bd.T @ p @ bd, bd.T @ p @ ad)


CONFIG = LqrConfig
BASE = LqrController
