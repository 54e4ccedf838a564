"""A flying simulator in numpy alone, for the robot's side: the `sim` driver and processor-in-the-loop tests.

It runs the equations of motion that training runs, with a ground, a battery and sensors. Tasks, rewards and gradients
are in `env.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_rl.errors import ConfigError
from robot_rl.sim.quadrotor.battery import BatteryModel
from robot_rl.sim.quadrotor.equations import (
    GRAVITY,
    ROTOR_SPEED_MAX,
    STATE,
    STATE_SIZE,
    Params,
    acceleration,
    rk4_rows,
    rotation,
)
from robot_rl.sim.quadrotor.options import Noise
from robot_rl.sim.quadrotor.params import FORCE, GROUND_Z, TORQUE, WIND, VehicleParams
from robot_rl.sim.quadrotor.rows import ScalarRows, rest_on_ground

Array = NDArray[np.float32]
FULL_VOLTAGE = 4.2  # V, one LiPo cell; reported when no battery is modelled


@dataclass(frozen=True)
class NumpySimOptions:
    """What a real flight has beyond the rigid body.

    Attributes:
        noise: white sensor noise, fresh at each call of `signals`; `Noise(scale=0)` for none.
        bias: constant sensor errors by signal name, for example `{"base_pos_w": (0.02, 0, 0)}`.
        command_delay, sensor_latency: s, rounded to whole steps of the simulator; until the first command arrives the
            rotors keep the speed they were reset with.
        battery: None for a battery that never sags.
        ground: whether there is a floor at `ground_z` m.
        force: constant external force, world frame, N; torque: body frame, N m; wind: air velocity, world frame, m/s;
            each (3,) or, one row per vehicle, (N, 3).
    """

    noise: Noise = field(default_factory=Noise)
    bias: Mapping[str, Sequence[float]] = field(default_factory=dict)
    command_delay: float = 0.0
    sensor_latency: float = 0.0
    battery: BatteryModel | None = None
    ground: bool = True
    ground_z: float = 0.0
    force: ArrayLike = (0.0, 0.0, 0.0)
    torque: ArrayLike = (0.0, 0.0, 0.0)
    wind: ArrayLike = (0.0, 0.0, 0.0)


class NumpyQuadrotor:
    """N quadrotors advanced by fixed steps of `dt` seconds; with N = 1 it computes on Python floats, for speed.

    Attributes:
        time: simulated seconds since the last full reset.
        on_ground: (N,) bool.
        charge: (N,) state of charge of the battery, 0 to 1.
    """

    def __init__(
        self,
        vehicle: str | VehicleParams = "l2f",
        num_envs: int = 1,
        dt: float = 0.002,
        seed: int = 0,
        options: NumpySimOptions | None = None,
    ) -> None:
        """Raises ConfigError for an impossible size or step, UnknownName for an unknown vehicle."""
        if num_envs < 1:
            raise ConfigError(f"num_envs = {num_envs}; it must be ≥ 1")
        if not 0 < dt <= 0.02:
            raise ConfigError(f"dt = {dt} s; the integrator needs 0 < dt ≤ 0.02")
        self.vehicle = _vehicle(vehicle)
        self.num_envs, self.dt = num_envs, dt
        self.options = options or NumpySimOptions()
        unknown = sorted(set(self.options.bias) - set(_SENSED))
        if unknown:
            raise ConfigError(f"bias for unknown signals {unknown}; allowed: {', '.join(_SENSED)}")
        self._rng = np.random.default_rng(seed)
        self._xp: Any = ScalarRows if num_envs == 1 else np
        self._params = self._initial_params()
        self._commands: deque[list[Any]] = deque()
        self._sensed: deque[NDArray[np.float64]] = deque()
        self.reset()

    def reset(
        self,
        pos_w: ArrayLike = (0.0, 0.0, 0.0),
        quat_wxyz: ArrayLike = (1.0, 0.0, 0.0, 0.0),
        lin_vel_w: ArrayLike = (0.0, 0.0, 0.0),
        ang_vel_b: ArrayLike = (0.0, 0.0, 0.0),
        rotor_speed: ArrayLike = 0.0,
    ) -> None:
        """Put every vehicle into a state and recharge its battery; each argument has shape (k,) or (N, k), SI units."""
        state = np.zeros((STATE_SIZE, self.num_envs))
        for name, value in (("pos", pos_w), ("quat", quat_wxyz), ("vel", lin_vel_w), ("omega", ang_vel_b)):
            size = STATE[name].stop - STATE[name].start
            state[STATE[name]] = np.broadcast_to(np.asarray(value, dtype=float), (self.num_envs, size)).T
        speed = np.broadcast_to(np.asarray(rotor_speed, dtype=float), (self.num_envs, 4)).T / ROTOR_SPEED_MAX
        state[STATE["rotor"]] = np.clip(speed, 0.0, 1.0)
        norm = np.linalg.norm(state[STATE["quat"]], axis=0)
        if not np.all(np.isfinite(state)) or np.any(norm < 1e-6):
            raise ConfigError(f"reset state must be finite with non-zero quaternions, got {state.T.tolist()}")
        state[STATE["quat"]] /= norm
        self._rows = self._to_rows(state)
        self._before_commands = self._to_rows(state[STATE["rotor"]])
        low = state[2:3] <= (self.options.ground_z if self.options.ground else -np.inf)
        self._touching: Any = self._to_rows(low)[0]
        self.time = 0.0
        battery = self.options.battery
        self.charge = np.full(self.num_envs, battery.charge if battery else 1.0)
        self._voltage = np.full(self.num_envs, FULL_VOLTAGE)
        self._update_battery(0.0)
        self._commands.clear()
        self._sensed.clear()
        self._sensed.append(state)

    def step(self, rotor_speed_target: ArrayLike) -> None:
        """One step of `dt` under a command of shape (4,) or (N, 4) in rad/s, clipped to what the rotors can do.

        Raises:
            ConfigError: wrong shape, NaN or infinity.
        """
        command = np.asarray(rotor_speed_target, dtype=float)
        if command.shape not in ((4,), (self.num_envs, 4)) or not np.all(np.isfinite(command)):
            raise ConfigError(f"rotor_speed_target must be 4 finite rad/s per vehicle, got {command.tolist()}")
        fraction = np.clip(np.broadcast_to(command, (self.num_envs, 4)).T / ROTOR_SPEED_MAX, 0.0, 1.0)
        self._commands.append(self._to_rows(fraction))
        delay = round(self.options.command_delay / self.dt)
        arrived = len(self._commands) > delay
        active = self._commands.popleft() if arrived else self._before_commands
        rows = rk4_rows(self._xp, self._rows, self._params, active, self.dt)
        if self.options.ground:
            rows, self._touching = rest_on_ground(self._xp, rows, self.options.ground_z, self.dt)
        self._rows = rows
        self._update_battery(self.dt)
        self.time += self.dt
        if self.options.sensor_latency > 0:
            self._sensed.append(self.state)
            while len(self._sensed) > round(self.options.sensor_latency / self.dt) + 1:
                self._sensed.popleft()

    def advance(self, rotor_speed_target: ArrayLike, duration: float) -> None:
        """As many steps as make up `duration` seconds (at least one) under one command."""
        for _ in range(max(1, round(duration / self.dt))):
            self.step(rotor_speed_target)

    @property
    def state(self) -> NDArray[np.float64]:
        """The true state (17, N) in the order of `equations.STATE`, a copy."""
        return np.array(self._rows, dtype=float).reshape(STATE_SIZE, self.num_envs)

    @property
    def on_ground(self) -> NDArray[np.bool_]:
        return np.array(self._touching, dtype=bool).reshape(self.num_envs)

    @property
    def battery_voltage(self) -> NDArray[np.float64]:
        """(N,) V at the terminals."""
        return self._voltage.copy()

    def signals(self) -> dict[str, Array]:
        """What the sensors say now: noisy, biased, late. Name → (N, k) float32, SI units."""
        noise, rng = self.options.noise, self._rng
        late = self._sensed[0] if self.options.sensor_latency > 0 else self.state
        values = self._named(late)
        if noise.scale > 0:
            attitude = rng.normal(0.0, noise.scale * noise.attitude, (self.num_envs, 3))
            values["base_quat_wxyz"] = _perturbed(values["base_quat_wxyz"], attitude)
            for name, std in zip(_VECTORS, (noise.position, noise.velocity, noise.body_rate), strict=True):
                values[name] = values[name] + rng.normal(0.0, noise.scale * std, (self.num_envs, 3))
        for name, offset in self.options.bias.items():
            values[name] = values[name] + np.asarray(offset, dtype=float)
        return {name: np.ascontiguousarray(v, dtype=np.float32) for name, v in values.items()}

    def true_signals(self) -> dict[str, Array]:
        """The same without noise, bias and latency, and `rotor_speed` (N, 4) rad/s."""
        values = self._named(self.state)
        values["rotor_speed"] = self.state[STATE["rotor"]].T * ROTOR_SPEED_MAX
        return {name: np.ascontiguousarray(v, dtype=np.float32) for name, v in values.items()}

    def _initial_params(self) -> Params:
        column = self.vehicle.column()
        column[GROUND_Z] = self.options.ground_z if self.options.ground else -1e3
        table = np.repeat(column[:, None], self.num_envs, axis=1)
        options = self.options
        for rows, value in ((FORCE, options.force), (TORQUE, options.torque), (WIND, options.wind)):
            table[rows] = np.broadcast_to(np.asarray(value, dtype=float), (self.num_envs, 3)).T
        return Params(*self._to_rows(table))

    def _to_rows(self, array: NDArray[Any]) -> list[Any]:
        return array[:, 0].tolist() if self.num_envs == 1 else list(array)

    def _update_battery(self, dt: float) -> None:
        battery = self.options.battery
        if battery is None:
            return
        current = battery.current(self._rows[STATE["rotor"]])
        self.charge = np.clip(self.charge - current * dt / (3600 * battery.capacity), 0.0, 1.0)
        self._voltage = battery.voltage(self.charge, current)
        supply = battery.supply(self._voltage)
        self._params = self._params._replace(supply=float(supply[0]) if self.num_envs == 1 else supply)

    def _named(self, state: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        rows = list(state)
        params = Params(*(np.asarray(p, dtype=float) for p in self._params))
        acc, _ = acceleration(np, rows[0:3], rows[3:7], rows[7:10], rows[10:13], rows[13:17], params)
        felt = [acc[0], acc[1], np.where(self.on_ground, np.maximum(acc[2], 0.0), acc[2]) + GRAVITY]
        R = rotation(*rows[3:7])
        return {
            "base_pos_w": state[STATE["pos"]].T,
            "base_quat_wxyz": state[STATE["quat"]].T,
            "base_lin_vel_w": state[STATE["vel"]].T,
            "base_ang_vel_b": state[STATE["omega"]].T,
            "base_lin_acc_b": np.stack([sum(R[i][j] * felt[i] for i in range(3)) for j in range(3)], axis=1),
            "battery_voltage": self._voltage[:, None].copy(),
        }


_VECTORS = ("base_pos_w", "base_lin_vel_w", "base_ang_vel_b")
_SENSED = (*_VECTORS, "base_lin_acc_b", "battery_voltage")


def _vehicle(vehicle: str | VehicleParams) -> VehicleParams:
    if isinstance(vehicle, VehicleParams):
        return vehicle
    from robot_rl.sim.robots.crazyflie import ROBOT

    return ROBOT.parameters(vehicle)


def _perturbed(quat: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quaternions (N, 4) turned by small body-frame rotation vectors (N, 3) in rad."""
    qw, qx, qy, qz = quat.T
    hx, hy, hz = 0.5 * angle.T
    turned = np.stack(
        [
            qw - qx * hx - qy * hy - qz * hz,
            qx + qw * hx + qy * hz - qz * hy,
            qy + qw * hy + qz * hx - qx * hz,
            qz + qw * hz + qx * hy - qy * hx,
        ],
        axis=1,
    )
    return turned / np.linalg.norm(turned, axis=1, keepdims=True)
