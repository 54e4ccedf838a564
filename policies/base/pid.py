"""Cascaded PID as on the Crazyflie: position → velocity → attitude → body rate, each loop feeding the next.

Structure after the cascade of bitcraze/crazyflie-firmware (position_controller_pid.c, attitude_pid_controller.c), in SI
units and radians and with torques scaled by the inertia; not its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_rl.policies.base.flight.controller import FlightController, FlightState, clipped
from robot_rl.policies.base.flight.gains import check_gains, gain, tuned
from robot_rl.policies.base.flight.rotations import Floats, euler_zyx, wrapped
from robot_rl.policies.base.flight.vehicle import CRAZYFLIE, Vehicle


@dataclass(frozen=True)
class PidConfig:
    """Gains. The defaults are where tuning starts; the tuned ones stand in `config/base/pid.yaml`.

    Attributes:
        position: 1/s, position error → velocity set-point; `position_z` for height.
        velocity, velocity_z: 1/s; velocity_integral: 1/s².
        attitude, yaw: 1/s, angle error → rate set-point.
        rate, yaw_rate: 1/s; rate_integral: 1/s²; rate_derivative: dimensionless, on the filtered measured rate.
        max_speed: m/s, of the velocity correction. max_tilt: rad.
        lead: how far the rotor command overshoots to beat the motor lag; 1 is off.
        feed_forward: share of the reference's acceleration that is used.
    """

    position: float = gain(2.732, 0.5, 10.0)
    position_z: float = gain(2.284, 0.5, 10.0)
    velocity: float = gain(8.51, 1.0, 30.0)
    velocity_z: float = gain(5.764, 1.0, 40.0)
    velocity_integral: float = gain(9.299, 0.1, 40.0)
    attitude: float = gain(15.72, 2.0, 40.0)
    yaw: float = gain(5.029, 0.3, 20.0)
    rate: float = gain(25.04, 3.0, 120.0)
    rate_integral: float = gain(37.84, 0.1, 400.0)
    rate_derivative: float = gain(0.0693, 0.001, 2.0)
    yaw_rate: float = gain(15.44, 0.5, 60.0)
    max_speed: float = gain(2.898, 0.2, 4.0)
    max_tilt: float = gain(0.6552, 0.3, 1.4)
    lead: float = gain(11.21, 1.0, 15.0)
    feed_forward: float = gain(0.7492, 0.3, 2.5)

    def __post_init__(self) -> None:
        check_gains(self)


# Time constant of the low-pass on the measured rate that feeds the derivative term, s.
_DERIVATIVE_FILTER = 0.02


class PidController(FlightController):
    """See the module docstring."""

    config: PidConfig

    def __init__(self, config: PidConfig | None = None, vehicle: Vehicle = CRAZYFLIE) -> None:
        super().__init__(tuned(PidConfig(), "pid") if config is None else config, vehicle)

    def _memory_sizes(self) -> dict[str, int]:
        return {"velocity": 3, "rate": 3, "filtered_rate": 3}

    def _command(self, state: FlightState) -> Floats:
        acceleration = self._wanted_acceleration(state)
        thrust, angles = self._thrust_and_angles(acceleration, state)
        torque = self._torque(angles, state)
        return self.mixer.command(thrust, torque, state.rotor_speed, self.config.lead)

    def _wanted_acceleration(self, state: FlightState) -> Floats:
        """(N, 3) world, m/s²: the two outer loops."""
        g, integral = self.config, self._memory["velocity"]
        correction = -np.array([g.position, g.position, g.position_z]) * state.position_error
        error = clipped(correction, g.max_speed) - state.velocity_error
        unsaturated = np.linalg.norm(correction, axis=1, keepdims=True) < g.max_speed
        integral += unsaturated * state.dt * g.velocity_integral * error
        np.clip(integral, -5.0, 5.0, out=integral)
        gains = np.array([g.velocity, g.velocity, g.velocity_z])
        return gains * error + integral + g.feed_forward * state.target_acceleration

    def _thrust_and_angles(self, acceleration: Floats, state: FlightState) -> tuple[Floats, Floats]:
        """Collective (N,) N and roll, pitch, yaw set-points (N, 3) rad."""
        gravity, limit = self.vehicle.gravity, self.config.max_tilt
        yaw = np.arctan2(state.attitude[:, 1, 0], state.attitude[:, 0, 0])
        forward = acceleration[:, 0] * np.cos(yaw) + acceleration[:, 1] * np.sin(yaw)
        left = -acceleration[:, 0] * np.sin(yaw) + acceleration[:, 1] * np.cos(yaw)
        vertical = np.maximum(acceleration[:, 2] + gravity, 0.2 * gravity)
        pitch = np.clip(np.arctan2(forward, vertical), -limit, limit)
        roll = np.clip(np.arctan2(-left * np.cos(pitch), vertical), -limit, limit)
        upright = np.maximum(state.attitude[:, 2, 2], 0.4)
        thrust = self.vehicle.mass * vertical / upright
        return thrust, np.stack([roll, pitch, state.target_yaw], axis=1)

    def _torque(self, angles: Floats, state: FlightState) -> Floats:
        """(N, 3) N m: the two inner loops."""
        g, integral, filtered = self.config, self._memory["rate"], self._memory["filtered_rate"]
        wanted_rate = np.array([g.attitude, g.attitude, g.yaw]) * wrapped(angles - euler_zyx(state.attitude))
        error = wanted_rate - state.body_rate
        small = np.linalg.norm(error, axis=1, keepdims=True) < 5.0
        integral += small * state.dt * g.rate_integral * error
        np.clip(integral, -60.0, 60.0, out=integral)
        slope = (state.body_rate - filtered) / _DERIVATIVE_FILTER
        filtered += (1 - np.exp(-state.dt / _DERIVATIVE_FILTER)) * (state.body_rate - filtered)
        proportional = np.array([g.rate, g.rate, g.yaw_rate]) * error
        return np.array(self.vehicle.inertia) * (proportional + integral - g.rate_derivative * slope)


CONFIG = PidConfig
BASE = PidController
