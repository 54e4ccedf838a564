"""Driver of a simulated Crazyflie at real time, with real faults on request; the default, and numpy alone.

The vehicle moves on with its clock whenever it is read or written, so it flies, and falls, at the speed of the clock.
It is not a flight model: that is `robot_rl.sim.quadrotor.numpy_sim`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rl.contract import Command
from robot_rl.errors import ConfigError, DriverError
from robot_rl.hardware.clock import Clock, MonotonicClock
from robot_rl.hardware.parameters import check_settings, setting, with_values
from robot_rl.protocols import Array, Reading
from robot_rl.signals import FLIGHT_SIGNALS, Signal

if TYPE_CHECKING:
    from robot_rl.sim.quadrotor.numpy_sim import NumpyQuadrotor

FAULTS = ("none", "stale", "nan", "battery", "motor", "read_error", "write_error")
_AIRBORNE = 0.1  # m above the start, from where `fault_after` counts
_MAX_CATCH_UP = 2.0  # s; a computer that slept longer finds the vehicle where it was, not after minutes of falling


@dataclass(frozen=True)
class SimOptions:
    """How the simulated robot differs from an ideal one."""

    vehicle: str = setting("l2f", "parameter set of the vehicle")
    noise: bool = setting(True, "sensor noise")
    battery: bool = setting(False, "a battery that empties and sags")
    seed: int = setting(0, "seed of the sensor noise", 0, 2**31 - 1)
    start_pos: tuple[float, float, float] = setting((0.0, 0.0, 0.0), "start position in m, world", -100.0, 100.0)
    physics_dt: float = setting(0.002, "integration step in s", 0.0005, 0.01)
    command_timeout: float = setting(
        0.5, "seconds without a command after which the robot stops its motors", 0.05, 10.0
    )
    fault: str = setting("none", "what breaks", choices=FAULTS)
    fault_after: float = setting(0.0, "seconds after leaving the ground at which it breaks", 0.0, 1e6)

    def __post_init__(self) -> None:
        check_settings(self)


class SimDriver:
    """A Crazyflie that exists only as numbers; satisfies `robot_rl.protocols.Driver`.

    Faults, from `fault_after` s after leaving the ground or from `inject` on: `stale` repeats old samples, `nan` puts
    NaN into the body rate, `battery` reports 2.9 V, `motor` stops the front-right rotor, `read_error` and `write_error`
    raise.
    """

    name = "sim"
    robot = "crazyflie"
    Options = SimOptions

    def __init__(self, options: Mapping[str, Any] | SimOptions | None = None, clock: Clock | None = None) -> None:
        """`options`: settings of `SimOptions` by name. Raises ConfigError or UnknownName for a wrong one."""
        self.options = options if isinstance(options, SimOptions) else with_values(SimOptions(), options or {})
        self._clock = clock or MonotonicClock()
        self._lock = threading.Lock()
        self._sim: NumpyQuadrotor | None = None
        self._fault = self.options.fault if self.options.fault_after == 0.0 else "none"
        self._airborne_at: float | None = None
        self._held: Reading | None = None

    @cached_property
    def signals(self) -> tuple[Signal, ...]:
        """What `read` gives."""
        state = tuple(s for name, s in FLIGHT_SIGNALS.items() if name.startswith("base_"))
        return (
            *state,
            Signal("base_lin_acc_b", (3,), "m/s^2", "body"),
            Signal("battery_voltage", (1,), "V", "", 1.0),
        )

    @cached_property
    def commands(self) -> tuple[Command, ...]:
        """What `write` takes."""
        from robot_rl.sim.robots.crazyflie import ROBOT

        return ROBOT.commands

    def connect(self) -> None:
        """Put a resting vehicle at `start_pos`. Raises DriverError for an unknown vehicle."""
        from robot_rl.sim.quadrotor.battery import BatteryModel
        from robot_rl.sim.quadrotor.numpy_sim import NumpyQuadrotor, NumpySimOptions
        from robot_rl.sim.quadrotor.options import Noise

        opts = self.options
        model = NumpySimOptions(
            noise=Noise(scale=1.0 if opts.noise else 0.0),
            battery=BatteryModel() if opts.battery else None,
            ground_z=opts.start_pos[2],
        )
        with self._lock:
            try:
                self._sim = NumpyQuadrotor(vehicle=opts.vehicle, dt=opts.physics_dt, seed=opts.seed, options=model)
            except ConfigError as error:
                raise DriverError(f"driver sim: {error}") from error
            self._sim.reset(pos_w=opts.start_pos)
            self._target = np.zeros(4)
            self._time = self._command_time = self._clock.now()

    def read(self) -> Reading:
        """The present signals. Raises DriverError when not connected, or when `read_error` was asked for."""
        with self._lock:
            sim = self._advance()
            if self._fault == "read_error":
                raise DriverError("driver sim: no answer from the robot (injected read_error)")
            if self._fault == "stale" and self._held is not None:
                return self._held
            sampled = {name: value[0] for name, value in sim.signals().items()}
            if self._fault == "nan":
                sampled["base_ang_vel_b"] = np.full(3, np.nan, np.float32)
            if self._fault == "battery":
                sampled["battery_voltage"] = np.array([2.9], np.float32)
            self._held = Reading(sampled, dict.fromkeys(sampled, self._time))
            return self._held

    def write(self, command: Mapping[str, Array]) -> dict[str, Array]:
        """Turn the rotors to (4,) rad/s; returns what the rotors were told, within their limits.

        Raises:
            DriverError: not connected, not four finite numbers, or `write_error` was asked for.
        """
        (spec,) = self.commands
        with self._lock:
            self._advance()
            if self._fault == "write_error":
                raise DriverError("driver sim: the robot did not take the command (injected write_error)")
            wanted = np.asarray(command.get(spec.name, ()), np.float32)
            if wanted.shape != (4,) or not np.all(np.isfinite(wanted)):
                raise DriverError(f"driver sim: {spec.name} must be 4 finite rad/s, got {np.array2string(wanted)}")
            sent = np.clip(wanted, np.asarray(spec.lower, np.float32), np.asarray(spec.upper, np.float32))
            self._target = sent.astype(np.float64)
            self._command_time = self._clock.now()
            return {spec.name: sent}

    def stop(self) -> None:
        """Motors idle and disconnected."""
        with self._lock:
            self._target = np.zeros(4)
            self._sim = None

    def inject(self, fault: str) -> None:
        """Break something now, or mend it with `none`. Raises ConfigError for an unknown fault."""
        if fault not in FAULTS:
            raise ConfigError(f"fault '{fault}': must be one of {', '.join(FAULTS)}")
        with self._lock:
            self._fault = fault

    def _advance(self) -> NumpyQuadrotor:
        """Fly up to the present."""
        sim, now = self._sim, self._clock.now()
        if sim is None:
            raise DriverError("driver sim: not connected; call connect() first")
        self._time = max(self._time, now - _MAX_CATCH_UP)
        while self._time + sim.dt <= now + 1e-9:
            silent = self._time - self._command_time > self.options.command_timeout
            target = np.zeros(4) if silent else self._target
            sim.step(target * (0.0, 1.0, 1.0, 1.0) if self._fault == "motor" else target)
            self._time += sim.dt
        self._break_when_due(sim)
        return sim

    def _break_when_due(self, sim: NumpyQuadrotor) -> None:
        height = float(sim.state[2, 0]) - self.options.start_pos[2]
        if self._airborne_at is None and height > _AIRBORNE:
            self._airborne_at = self._time
        if self._airborne_at is not None and self.options.fault != "none":
            due = self._time - self._airborne_at >= self.options.fault_after
            self._fault = self.options.fault if due and self._fault == "none" else self._fault


DRIVER = SimDriver
