"""Geometric tracking controller on SO(3) with flatness feed-forward, disturbance integrators and motor-lag lead.

Source: Lee, Leok and McClamroch, "Geometric tracking control of a quadrotor UAV on SE(3)", CDC 2010; integral terms
after Goodarzi, Lee and Lee, "Geometric nonlinear PID control of a quadrotor UAV on SE(3)", ECC 2013. Gains are divided
by mass and inertia, so their units are 1/s², 1/s, ….
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_rl.policies.base.flight.controller import FlightController, FlightState, clipped, flat_attitude, limited_tilt
from robot_rl.policies.base.flight.gains import check_gains, gain, tuned
from robot_rl.policies.base.flight.rotations import Floats, cross
from robot_rl.policies.base.flight.vehicle import CRAZYFLIE, Vehicle


@dataclass(frozen=True)
class LeeConfig:
    """Gains. The defaults are where tuning starts; the tuned ones stand in `config/base/lee.yaml`.

    Attributes:
        position: 1/s², velocity: 1/s, on the errors in the world frame; `vertical` multiplies both for z.
        integral: 1/s, slides the disturbance estimate towards the filtered error.
        attitude: 1/s², rate: 1/s, on roll and pitch; `yaw_attitude`, `yaw_rate` on yaw.
        torque_integral: 1/s, of the torque disturbance estimate.
        lead: how far the rotor command overshoots to beat the motor lag; 1 is off.
        max_tilt: rad. max_position_error: m. Beyond these the error is shortened, not the direction.
        feed_forward: share of the reference's acceleration and jerk that is used.
    """

    position: float = gain(8.66, 1.0, 60.0)
    velocity: float = gain(4.49, 1.0, 30.0)
    vertical: float = gain(1.2, 0.5, 4.0)
    integral: float = gain(1.5, 0.05, 6.0)
    attitude: float = gain(200.0, 10.0, 2000.0)
    rate: float = gain(25.0, 3.0, 120.0)
    yaw_attitude: float = gain(36.0, 0.5, 300.0)
    yaw_rate: float = gain(8.0, 0.5, 60.0)
    torque_integral: float = gain(0.12, 0.05, 20.0)
    lead: float = gain(5.4, 1.0, 15.0)
    max_tilt: float = gain(1.2, 0.3, 1.5)
    max_position_error: float = gain(0.5, 0.1, 2.0)
    feed_forward: float = gain(1.0, 0.3, 1.5)

    def __post_init__(self) -> None:
        check_gains(self)


class LeeController(FlightController):
    """See the module docstring."""

    config: LeeConfig

    def __init__(self, config: LeeConfig | None = None, vehicle: Vehicle = CRAZYFLIE) -> None:
        super().__init__(tuned(LeeConfig(), "lee") if config is None else config, vehicle)

    def _memory_sizes(self) -> dict[str, int]:
        return {"force": 3, "torque": 3}

    def _command(self, state: FlightState) -> Floats:
        g, vehicle = self.config, self.vehicle
        wanted = self._specific_thrust(state)
        attitude, rate = flat_attitude(wanted, g.feed_forward * state.target_jerk, state.target_yaw)
        # Eq. 15 of Lee et al.: collective thrust is the wanted force seen along the true body z axis.
        thrust = vehicle.mass * np.sum(wanted * state.attitude[..., 2], axis=1)
        torque = self._torque(state, attitude, rate)
        return self.mixer.command(thrust, torque, state.rotor_speed, g.lead)

    def _specific_thrust(self, state: FlightState) -> Floats:
        """Wanted acceleration plus gravity (N, 3) m/s², with the disturbance estimate taken off."""
        g, force = self.config, self._memory["force"]
        axes = np.array([1.0, 1.0, g.vertical])
        error = clipped(state.position_error, g.max_position_error)
        feedback = axes * (g.position * error + g.velocity * state.velocity_error)
        near = np.linalg.norm(state.position_error, axis=1, keepdims=True) < g.max_position_error
        force += near * state.dt * g.integral * feedback
        np.clip(force, -5.0, 5.0, out=force)
        wanted = g.feed_forward * state.target_acceleration - feedback - force
        wanted[:, 2] += self.vehicle.gravity
        return limited_tilt(wanted, g.max_tilt, 0.2 * self.vehicle.gravity)

    def _torque(self, state: FlightState, attitude: Floats, rate: Floats) -> Floats:
        g, integral = self.config, self._memory["torque"]
        inertia = np.array(self.vehicle.inertia)
        relative = np.swapaxes(attitude, -1, -2) @ state.attitude
        error = _attitude_error(relative)
        wanted_rate = np.einsum("nji,nj->ni", relative, rate)
        rate_error = state.body_rate - wanted_rate
        attitude_gain = np.array([g.attitude, g.attitude, g.yaw_attitude])
        rate_gain = np.array([g.rate, g.rate, g.yaw_rate])
        feedback = attitude_gain * error + rate_gain * rate_error
        small = np.linalg.norm(error, axis=1, keepdims=True) < 0.5
        integral += small * state.dt * g.torque_integral * feedback
        np.clip(integral, -60.0, 60.0, out=integral)
        gyroscopic = cross(state.body_rate, inertia * state.body_rate)
        return -inertia * (feedback + integral) + gyroscopic


def _attitude_error(relative: Floats) -> Floats:
    """(N, 3): Lee's ½ vee(RdᵀR − RᵀRd), divided by √(1 + tr)/2 so that it keeps growing up to 180°.

    Source: Lee, "Exponential stability of an attitude tracking control system on SO(3) for large-angle rotational
    maneuvers", Systems & Control Letters 2012.
    """
    skew = 0.5 * (relative - np.swapaxes(relative, -1, -2))
    error = np.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], axis=-1)
    trace = np.trace(relative, axis1=-2, axis2=-1)
    return 2.0 * error / np.sqrt(np.maximum(1.0 + trace, 0.05))[:, None]


CONFIG = LeeConfig
BASE = LeeController
