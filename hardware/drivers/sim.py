"""Driver of a simulated robot at real time, with real faults on request; the default.

It serves every robot there is: what flies with numpy alone, what has joints with MuJoCo. The robot moves on with its
clock whenever it is read or written, so it flies, walks and falls at the speed of the clock. It is no model itself:
those are `robot_rl.sim.quadrotor.numpy_sim` and `robot_rl.sim.articulated.single_robot`. Neither loads torch.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from robot_rl.contract import Command
from robot_rl.errors import ConfigError, DriverError
from robot_rl.hardware.clock import Clock, MonotonicClock
from robot_rl.hardware.parameters import check_settings, setting, with_values
from robot_rl.protocols import Array, Reading
from robot_rl.registry import load, names
from robot_rl.signals import FLIGHT_SIGNALS, Signal

if TYPE_CHECKING:
    from robot_rl.sim.articulated.sensor_errors import SensorError
    from robot_rl.sim.robot_spec import RobotSpec
    from robot_rl.sim.task_spec import TaskSpec

FAULTS = ("none", "stale", "nan", "battery", "motor", "read_error", "write_error")
_AIRBORNE = 0.1  # m above the start, from where `fault_after` counts
_MAX_CATCH_UP = 2.0  # s; a computer that slept longer finds the robot where it was, not after minutes of falling
_BASE_SIGNALS = {name: s for name, s in FLIGHT_SIGNALS.items() if name.startswith("base_")}


@dataclass(frozen=True)
class SimOptions:
    """How the simulated robot differs from an ideal one."""

    robot: str = setting("", "the simulated robot, see `robot-rl list robots`; empty: the one the policy is made for")
    task: str = setting(
        "", "the task whose objects stand around the robot, see `robot-rl list tasks`; empty: the policy's"
    )
    vehicle: str = setting("", "parameter set of the robot; empty: its default one")
    noise: bool = setting(True, "sensor noise")
    battery: bool = setting(False, "a battery that empties and sags (flying robots)")
    seed: int = setting(0, "seed of the sensor noise", 0, 2**31 - 1)
    start: str = setting("lying", "how a walking robot starts", choices=("lying", "standing", "upside_down"))
    start_pos: tuple[float, float, float] = setting(
        (0.0, 0.0, 0.0), "where a flying robot starts, m, world", -100.0, 100.0
    )
    physics_dt: float = setting(0.0, "integration step in s; 0: the robot's own", 0.0, 0.01)
    latency: float = setting(0.0, "seconds from a command to the drives of joints", 0.0, 0.1)
    command_timeout: float = setting(
        0.5, "seconds without a command after which rotors stop and joints are damped", 0.05, 10.0
    )
    fault: str = setting("none", "what breaks", choices=FAULTS)
    fault_after: float = setting(
        0.0, "seconds at which it breaks, after leaving the ground or after the first joint targets", 0.0, 1e6
    )

    def __post_init__(self) -> None:
        check_settings(self)


class _Body(Protocol):
    """One simulated robot as the driver needs it. A target of None is rest: idle rotors, damped joints."""

    dt: float

    def step(self, target: Array | None, extra: Mapping[str, Array], broken: bool) -> None: ...

    def signals(self) -> dict[str, Array]: ...

    def started(self) -> bool:
        """Whether the time until a fault is running."""
        ...


class _FlyingBody:
    """The Crazyflie in numpy; a broken motor is the front-right rotor."""

    def __init__(self, opts: SimOptions, spec: RobotSpec, task: TaskSpec | None) -> None:
        del task  # there is nothing but air and ground
        from robot_rl.sim.quadrotor.battery import BatteryModel
        from robot_rl.sim.quadrotor.numpy_sim import NumpyQuadrotor, NumpySimOptions
        from robot_rl.sim.quadrotor.options import Noise

        model = NumpySimOptions(
            noise=Noise(scale=1.0 if opts.noise else 0.0),
            battery=BatteryModel() if opts.battery else None,
            ground_z=opts.start_pos[2],
        )
        self.dt = opts.physics_dt or 0.002
        self._sim = NumpyQuadrotor(vehicle=opts.vehicle or spec.default_set, dt=self.dt, seed=opts.seed, options=model)
        self._sim.reset(pos_w=opts.start_pos)
        self._ground = opts.start_pos[2]

    def step(self, target: Array | None, extra: Mapping[str, Array], broken: bool) -> None:
        del extra
        speeds = np.zeros(4) if target is None else target.astype(np.float64)
        self._sim.step(speeds * (0.0, 1.0, 1.0, 1.0) if broken else speeds)

    def signals(self) -> dict[str, Array]:
        return {name: value[0] for name, value in self._sim.signals().items()}

    def started(self) -> bool:
        return float(self._sim.state[2, 0]) - self._ground > _AIRBORNE


class _JointedBody:
    """A robot with joints in MuJoCo; a broken motor is the last joint of the first leg or finger."""

    def __init__(self, opts: SimOptions, spec: RobotSpec, task: TaskSpec | None) -> None:
        from robot_rl.sim.articulated.single_robot import SingleRobot

        parameters = spec.parameters(opts.vehicle or None)
        scene = None if task is None else task.make_scene(parameters)
        self._robot = SingleRobot(
            parameters,
            scene=scene,
            dt=opts.physics_dt,
            latency=opts.latency,
            errors=_errors(opts, spec, task),
            seed=opts.seed,
        )
        self._robot.reset(opts.start)
        self.dt = self._robot.dt
        self._fingers, self._moved = len(self._robot.robot.gripper), False

    def step(self, target: Array | None, extra: Mapping[str, Array], broken: bool) -> None:
        """A gripper's width is shared equally by its fingers."""
        self._robot.dead = {2} if broken else set()
        if target is None:
            self._robot.step(None)
            return
        self._moved = True
        width = next(iter(extra.values()), np.zeros(1, np.float32))
        fingers = np.full(self._fingers, float(width[0]) / max(self._fingers, 1))
        self._robot.step(np.concatenate([target.astype(np.float64), fingers]))

    def signals(self) -> dict[str, Array]:
        return self._robot.signals()

    def started(self) -> bool:
        return self._moved


class SimDriver:
    """A robot that exists only as numbers; satisfies `robot_rl.protocols.Driver`, and with joints `JointDriver`.

    Faults, from `fault_after` on or from `inject`: `stale` repeats old samples, `nan` puts NaN into the body rate, or
    the joint velocities where no body turns, `battery` reports 2.9 V, `motor` stops the front-right rotor or one joint,
    `read_error` and `write_error` raise.

    Attributes:
        robot: its name. signals: what `read` gives. commands: what `write` takes. gains, rest_pose: see `JointDriver`;
            empty for a flying robot.
    """

    name = "sim"
    Options = SimOptions

    def __init__(
        self,
        options: Mapping[str, Any] | SimOptions | None = None,
        clock: Clock | None = None,
        robot: str = "",
        task: str = "",
    ) -> None:
        """Args:
            options: settings of `SimOptions` by name.
            clock: default: the computer's.
            robot: if the options do not say; default crazyflie.
            task: likewise; one that is not ours, or of another robot, has no objects.

        Raises:
            ConfigError, UnknownName: a wrong option, or no such robot.
        """
        self.options = options if isinstance(options, SimOptions) else with_values(SimOptions(), options or {})
        self.robot = self.options.robot or robot or "crazyflie"
        self._policys_task = task
        self._clock = clock or MonotonicClock()
        self._lock = threading.Lock()
        self._body: _Body | None = None
        self._fault = self.options.fault if self.options.fault_after == 0.0 else "none"
        self._started_at: float | None = None
        self._held: Reading | None = None

    @cached_property
    def _spec(self) -> RobotSpec:
        return load("robot", self.robot)

    @cached_property
    def _has_joints(self) -> bool:
        from robot_rl.sim.articulated.jointed_robot import JointedRobot

        return isinstance(self._spec.parameters(), JointedRobot)

    @cached_property
    def signals(self) -> tuple[Signal, ...]:
        """What `read` gives: the robot's own signals as far as they are simulated, and odometry."""
        if not self._has_joints:
            own = (Signal("base_lin_acc_b", (3,), "m/s^2", "body"), Signal("battery_voltage", (1,), "V", "", 1.0))
            return (*_BASE_SIGNALS.values(), *own)
        from robot_rl.sim.articulated.single_robot import SingleRobot

        task, parameters = self._task, self._parameters
        about = () if task is None else (s for s in task.signals if not s.name.startswith("target_"))
        known = _BASE_SIGNALS | {s.name: s for s in (*self._spec.signals, *about)}
        scene = None if task is None else task.make_scene(parameters)
        return tuple(known[name] for name in SingleRobot(parameters, scene=scene).names if name in known)

    @cached_property
    def commands(self) -> tuple[Command, ...]:
        """What `write` takes."""
        return self._spec.commands

    @cached_property
    def gains(self) -> Mapping[str, tuple[float, ...]]:
        """Stiffness and damping of the drives' own PD loops."""
        return self._parameters.gains() if self._has_joints else {}

    @cached_property
    def rest_pose(self) -> tuple[float, ...]:
        """Where the joints need no stiffness, rad."""
        return self._parameters.rest_pose[: len(self.commands[0].elements)] if self._has_joints else ()

    def connect(self) -> None:
        """Put a resting robot where it starts. Raises DriverError for an unknown parameter set."""
        with self._lock:
            try:
                body_type = _JointedBody if self._has_joints else _FlyingBody
                self._body = body_type(self.options, self._spec, self._task)
            except ConfigError as error:
                raise DriverError(f"driver sim: {error}") from error
            self._target: dict[str, Array] | None = None
            self._time = self._command_time = self._clock.now()

    def read(self) -> Reading:
        """The present signals. Raises DriverError when not connected, or when `read_error` was asked for."""
        with self._lock:
            body = self._advance()
            if self._fault == "read_error":
                raise DriverError("driver sim: no answer from the robot (injected read_error)")
            if self._fault == "stale" and self._held is not None:
                return self._held
            sampled = body.signals()
            if self._fault == "nan":
                spoilt = "base_ang_vel_b" if "base_ang_vel_b" in sampled else "joint_vel"
                sampled[spoilt] = np.full_like(sampled[spoilt], np.nan)
            if self._fault == "battery":
                sampled["battery_voltage"] = np.array([2.9], np.float32)
            self._held = Reading(sampled, dict.fromkeys(sampled, self._time))
            return self._held

    def write(self, command: Mapping[str, Array]) -> dict[str, Array]:
        """Turn rotors or follow joint targets; returns what was told, within the limits of `commands`.

        Raises:
            DriverError: not connected, not finite numbers of the right count, or `write_error` was asked for.
        """
        with self._lock:
            self._advance()
            if self._fault == "write_error":
                raise DriverError("driver sim: the robot did not take the command (injected write_error)")
            sent = {spec.name: _checked(spec, command.get(spec.name, ())) for spec in self.commands}
            self._target, self._command_time = sent, self._clock.now()
            return dict(sent)

    def damp(self) -> None:
        """Joints without stiffness, until the next `write`. Raises DriverError as `write`."""
        with self._lock:
            self._advance()
            if self._fault == "write_error":
                raise DriverError("driver sim: the robot did not take the command (injected write_error)")
            self._target = None

    def stop(self) -> None:
        """Rotors idle, joints damped, and disconnected."""
        with self._lock:
            self._target = None
            self._body = None

    def inject(self, fault: str) -> None:
        """Break something now, or mend it with `none`. Raises ConfigError for an unknown fault."""
        if fault not in FAULTS:
            raise ConfigError(f"fault '{fault}': must be one of {', '.join(FAULTS)}")
        with self._lock:
            self._fault = fault

    @cached_property
    def _task(self) -> TaskSpec | None:
        """The task with objects around this robot, or None."""
        if self.options.task:
            wanted: TaskSpec = load("task", self.options.task)
            if wanted.robot != self.robot:
                raise ConfigError(f"task '{wanted.name}' is one of robot '{wanted.robot}', not of '{self.robot}'")
            return wanted
        known = self._policys_task in names("task")
        task: TaskSpec | None = load("task", self._policys_task) if known else None
        return task if task is not None and task.robot == self.robot else None

    @property
    def _parameters(self) -> Any:
        return self._spec.parameters(self.options.vehicle or None)

    def _advance(self) -> _Body:
        """Move up to the present."""
        body, now = self._body, self._clock.now()
        if body is None:
            raise DriverError("driver sim: not connected; call connect() first")
        self._time = max(self._time, now - _MAX_CATCH_UP)
        while self._time + body.dt <= now + 1e-9:
            silent = self._time - self._command_time > self.options.command_timeout
            first, *others = self.commands
            target = None if silent or self._target is None else self._target[first.name]
            extra = {} if self._target is None else {c.name: self._target[c.name] for c in others}
            body.step(target, extra, self._fault == "motor")
            self._time += body.dt
        self._break_when_due(body)
        return body

    def _break_when_due(self, body: _Body) -> None:
        if self._started_at is None and body.started():
            self._started_at = self._time
        if self._started_at is not None and self.options.fault != "none":
            due = self._time - self._started_at >= self.options.fault_after
            self._fault = self.options.fault if due and self._fault == "none" else self._fault


def _errors(opts: SimOptions, spec: RobotSpec, task: TaskSpec | None) -> Mapping[str, SensorError]:
    """Those of the policy's task, else of the first task of this robot."""
    of_robot = (t for t in map(partial(load, "task"), names("task")) if t.robot == spec.name)
    known = task or next(of_robot, None)
    return known.options.noise.errors() if opts.noise and known is not None else {}


def _checked(spec: Command, value: Any) -> Array:
    """A command within its limits. Raises DriverError."""
    wanted, count = np.asarray(value, np.float32), len(spec.elements)
    if wanted.shape != (count,) or not np.all(np.isfinite(wanted)):
        raise DriverError(f"driver sim: {spec.name} must be {count} finite {spec.unit}, got {np.array2string(wanted)}")
    return np.clip(wanted, np.asarray(spec.lower, np.float32), np.asarray(spec.upper, np.float32))


DRIVER = SimDriver
