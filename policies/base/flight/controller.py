"""What every classical flight controller does around its own law: read signals, guess rotor speeds, remember, answer.

The law itself is in `lee.py`, `pid.py` and `lqr.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ContractError
from robot_rl.policies.base.flight.mixer import Mixer, rotor_speed_after
from robot_rl.policies.base.flight.rotations import Floats, attitude_from_thrust, matrix_from_quat
from robot_rl.policies.base.flight.vehicle import CRAZYFLIE, Vehicle

COMMAND = "rotor_speed_target"
NEEDED = ("base_pos_w", "base_quat_wxyz", "base_lin_vel_w", "base_ang_vel_b", "target_pos_w")
CONTROL_DT = 0.01
# A reference that jumps has no jerk worth following; the figure-eight of 2 m × 1 m in 3.5 s stays below 15 m/s³.
MAX_REFERENCE_JERK = 30.0


@dataclass(frozen=True)
class FlightState:
    """What a law sees. N vehicles, float64, SI.

    Attributes:
        position_error, velocity_error: measured − target, (N, 3), world.
        attitude: (N, 3, 3) body → world.
        body_rate: (N, 3), body.
        target_acceleration, target_jerk: (N, 3), world.
        target_velocity: (N, 3), world.
        target_yaw: (N,) rad.
        dt: (N, 1) s since the previous call.
        rotor_speed: (N, 4) estimated, normalised.
    """

    position_error: Floats
    velocity_error: Floats
    attitude: Floats
    body_rate: Floats
    target_velocity: Floats
    target_acceleration: Floats
    target_jerk: Floats
    target_yaw: Floats
    dt: Floats
    rotor_speed: Floats


class FlightController:
    """Base of the classical controllers; a `BasePolicy`. A subclass computes normalised rotor commands.

    Rotor speeds are not measured: they are predicted from the commands with the vehicle's motor model, starting from
    half speed, as L2F's action history does.
    """

    def __init__(self, config: Any, vehicle: Vehicle = CRAZYFLIE) -> None:
        self.config = config
        self.vehicle = vehicle
        self.mixer = Mixer(vehicle)
        self.reset()

    def reset(self, num_envs: int = 1, env_ids: NDArray[np.integer] | None = None) -> None:
        """Forget everything; with `env_ids` only for those vehicles (the number of vehicles then stays)."""
        if env_ids is None:
            self.num_envs = num_envs
            self._memory = {name: np.zeros((num_envs, size)) for name, size in self._memory_sizes().items()}
            self._rotor_speed = np.full((num_envs, 4), 0.5)
            self._last_acceleration = np.full((num_envs, 3), np.nan)
            return
        for value in self._memory.values():
            value[env_ids] = 0.0
        self._rotor_speed[env_ids] = 0.5
        self._last_acceleration[env_ids] = np.nan

    def act(
        self, signals: Mapping[str, NDArray[Any]], instruction: str | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Signals (N, …) in SI units → `rotor_speed_target` (N, 4) in rad/s, float32.

        Targets other than `target_pos_w` default to zero, `time_step` to 0.01 s.

        Raises:
            ContractError: a signal is missing or the number of vehicles is not the one given to `reset`.
        """
        del instruction  # A set-point controller takes no words.
        state = self._state(signals)
        command = np.clip(np.nan_to_num(self._command(state), nan=0.0), 0.0, 1.0)
        self._rotor_speed = rotor_speed_after(self._rotor_speed, command, state.dt, self.vehicle)
        return {COMMAND: (command * self.vehicle.max_rotor_speed).astype(np.float32)}

    def _memory_sizes(self) -> dict[str, int]:
        """Names and widths of the integrators and filters kept per vehicle; all start at zero."""
        return {}

    def _command(self, state: FlightState) -> Floats:
        """(N, 4) normalised rotor commands."""
        raise NotImplementedError

    def _state(self, signals: Mapping[str, NDArray[Any]]) -> FlightState:
        missing = [name for name in NEEDED if name not in signals]
        if missing:
            raise ContractError(f"controller needs the signals {', '.join(NEEDED)}; missing: {', '.join(missing)}")

        def read(name: str, width: int, default: float = 0.0) -> Floats:
            if name not in signals:
                return np.full((self.num_envs, width), default)
            value = np.asarray(signals[name], dtype=np.float64)
            if value.shape != (self.num_envs, width):
                raise ContractError(
                    f"signal {name}: shape {value.shape}, expected {(self.num_envs, width)}; call reset(num_envs=N)"
                )
            return value

        dt = np.clip(read("time_step", 1, CONTROL_DT), 1e-4, 0.1)
        acceleration = read("target_lin_acc_w", 3)
        last = np.where(np.isnan(self._last_acceleration), acceleration, self._last_acceleration)
        self._last_acceleration = acceleration.copy()
        velocity = read("target_lin_vel_w", 3)
        return FlightState(
            position_error=read("base_pos_w", 3) - read("target_pos_w", 3),
            velocity_error=read("base_lin_vel_w", 3) - velocity,
            attitude=matrix_from_quat(read("base_quat_wxyz", 4)),
            body_rate=read("base_ang_vel_b", 3),
            target_velocity=velocity,
            target_acceleration=acceleration,
            target_jerk=clipped((acceleration - last) / dt, MAX_REFERENCE_JERK),
            target_yaw=read("target_yaw", 1)[:, 0],
            dt=dt,
            rotor_speed=self._rotor_speed,
        )


def clipped(vector: Floats, length: float) -> Floats:
    """Vectors (N, 3) shortened to at most `length`; those far beyond (a jump) keep their direction."""
    norm = np.linalg.norm(vector, axis=-1, keepdims=True)
    return vector * np.minimum(1.0, length / np.maximum(norm, 1e-12))


def limited_tilt(acceleration: Floats, max_tilt: float, min_vertical: float) -> Floats:
    """Specific thrust (N, 3) in m/s², at least `min_vertical` upwards and at most `max_tilt` rad from the vertical."""
    vertical = np.maximum(acceleration[:, 2:], min_vertical)
    horizontal = acceleration[:, :2]
    length = np.linalg.norm(horizontal, axis=1, keepdims=True)
    horizontal = horizontal * np.minimum(1.0, np.tan(max_tilt) * vertical / np.maximum(length, 1e-12))
    return np.concatenate([horizontal, vertical], axis=1)


def flat_attitude(specific_thrust: Floats, jerk: Floats, yaw: Floats) -> tuple[Floats, Floats]:
    """Attitude (N, 3, 3) and body rate (N, 3) rad/s that a flat trajectory asks for.

    Args:
        specific_thrust: (N, 3) wanted acceleration plus gravity, m/s².
        jerk: (N, 3) of the reference, m/s³. The yaw rate is taken as zero.
    """
    attitude = attitude_from_thrust(specific_thrust, yaw)
    length = np.maximum(np.linalg.norm(specific_thrust, axis=1, keepdims=True), 1e-6)
    x, y, z = attitude[..., 0], attitude[..., 1], attitude[..., 2]
    turn = (jerk - np.sum(z * jerk, axis=1, keepdims=True) * z) / length
    rate = np.stack([-np.sum(turn * y, axis=1), np.sum(turn * x, axis=1), np.zeros(len(yaw))], axis=1)
    return attitude, rate
