"""Does this policy fit this robot? Every difference at once, before anything moves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from robot_rl.contract import Command, Contract
from robot_rl.errors import ContractMismatch
from robot_rl.hardware.jointed import JOINT_KIND
from robot_rl.hardware.kind_of import has_joints, state_signals
from robot_rl.hardware.monitors import BATTERY_SIGNAL
from robot_rl.hardware.setpoints import SETPOINT_NAMES
from robot_rl.protocols import Driver, JointDriver
from robot_rl.signals import FLIGHT_SIGNALS, POSE_TARGETS, WALKING_COMMANDS, Signal

_FLIGHT = {name: FLIGHT_SIGNALS[name] for name in (*SETPOINT_NAMES, "time_step")}
_JOINTED = {**WALKING_COMMANDS, **POSE_TARGETS, "time_step": FLIGHT_SIGNALS["time_step"]}
_GAIN_TOLERANCE = 0.01  # share by which a gain may differ from the one in training
_MEMBERS = ("gains", "rest_pose", "damp")


def check_fit(contract: Contract, driver: Driver, control_dt: float) -> None:
    """Raise ContractMismatch listing each point in which the policy and the robot, or the control rate, do not fit."""
    differences = list(_differences(contract, driver, control_dt))
    if differences:
        raise ContractMismatch(f"policy for task '{contract.task}' does not fit driver '{driver.name}'", differences)


def sensed_names(contract: Contract) -> tuple[str, ...]:
    """The signals of the policy that must come from the driver."""
    return tuple(s.name for s in contract.signals if s.name not in {**_FLIGHT, **_JOINTED})


def agreed_commands(contract: Contract, driver: Driver) -> tuple[Command, ...]:
    """The policy's commands, after `check_fit`, with limits that neither the policy's nor the robot's exceed."""
    robot = {c.name: c for c in driver.commands}
    return tuple(
        replace(
            c,
            lower=tuple(map(max, c.lower, robot[c.name].lower)),
            upper=tuple(map(min, c.upper, robot[c.name].upper)),
            idle=robot[c.name].idle,
        )
        for c in contract.commands
    )


def _differences(contract: Contract, driver: Driver, control_dt: float) -> Iterator[str]:
    if contract.robot != driver.robot:
        yield f"robot: the policy is for '{contract.robot}', the driver is a '{driver.robot}'"
    offered = {s.name: s for s in driver.signals}
    offered.update(_JOINTED if has_joints(driver) else _FLIGHT)
    for wanted in contract.signals:
        if wanted.name not in offered:
            yield f"signal '{wanted.name}' is not provided; the driver has {', '.join(sorted(offered))}"
        else:
            yield from _signal_differences(wanted, offered[wanted.name])
    yield from _supervisor_differences(contract, driver)
    if has_joints(driver):
        yield from _joint_differences(contract, driver)
    accepted = {c.name: c for c in driver.commands}
    for command in contract.commands:
        if command.name not in accepted:
            yield f"command '{command.name}' is not accepted; the driver takes {', '.join(accepted)}"
        else:
            yield from _command_differences(command, accepted.pop(command.name))
    for name in accepted:
        yield f"command '{name}' is expected by the driver; the policy does not give it"
    rate = contract.rate
    if not rate.min_dt * (1 - 1e-6) <= control_dt <= rate.max_dt * (1 + 1e-6):
        yield f"rate: one call each {control_dt:g} s; the policy allows {rate.min_dt:g} … {rate.max_dt:g} s"


def _joint_differences(contract: Contract, driver: Driver) -> Iterator[str]:
    """What a robot with joints needs besides: damping, a pose to lie in, and the gains that the policy learnt with."""
    missing = [name for name in _MEMBERS if not hasattr(driver, name)]
    if missing or not isinstance(driver, JointDriver):
        yield f"driver of a robot with joints: it lacks {', '.join(missing)}"
        return
    joints = next(c for c in driver.commands if c.kind == JOINT_KIND).elements
    if len(driver.rest_pose) != len(joints):
        yield f"rest_pose: {len(driver.rest_pose)} values for {len(joints)} joints"
    for name, trained in contract.gains.items():
        used = tuple(driver.gains.get(name, ()))
        if len(used) != len(trained):
            yield f"gains '{name}': policy {len(trained)} values, robot {len(used)}"
            continue
        for joint, mine, theirs in zip(joints, trained, used, strict=False):
            if abs(mine - theirs) > _GAIN_TOLERANCE * max(abs(mine), abs(theirs)):
                yield f"gains '{name}' of {joint}: policy {mine:g}, robot {theirs:g}"


def _supervisor_differences(contract: Contract, driver: Driver) -> Iterator[str]:
    """What the supervisor watches, whatever the policy looks at."""
    named, offered = {s.name for s in contract.signals}, {s.name: s for s in driver.signals}
    for name in (n for n in state_signals(driver) if n not in named):
        if name not in offered:
            yield f"signal '{name}' is not provided; the supervisor needs it, even if the policy does not"
        elif name in FLIGHT_SIGNALS:
            yield from _signal_differences(FLIGHT_SIGNALS[name], offered[name], "supervisor")
    if BATTERY_SIGNAL in offered and BATTERY_SIGNAL not in named:
        yield from _signal_differences(Signal(BATTERY_SIGNAL, (1,), "V"), offered[BATTERY_SIGNAL], "supervisor")


def _signal_differences(wanted: Signal, offered: Signal, who: str = "policy") -> Iterator[str]:
    for field in ("shape", "unit", "frame"):
        mine, theirs = getattr(wanted, field), getattr(offered, field)
        if mine != theirs:
            yield f"signal '{wanted.name}' {field}: {who} {mine!r}, robot {theirs!r}"


def _command_differences(wanted: Command, accepted: Command) -> Iterator[str]:
    for field in ("kind", "unit", "elements"):
        mine, theirs = getattr(wanted, field), getattr(accepted, field)
        if mine != theirs:
            yield f"command '{wanted.name}' {field}: policy {mine!r}, robot {theirs!r}"
    for i, (low, high, floor, ceiling) in enumerate(
        zip(wanted.lower, wanted.upper, accepted.lower, accepted.upper, strict=False)
    ):
        slack = 1e-6 * (ceiling - floor)
        if low < floor - slack or high > ceiling + slack:
            allowed = f"{floor:g} … {ceiling:g} {accepted.unit}"
            yield f"command '{wanted.name}'[{i}]: policy {low:g} … {high:g}, robot {allowed}"
    if tuple(wanted.idle) != tuple(accepted.idle):
        yield f"command '{wanted.name}' idle: policy {wanted.idle}, robot {accepted.idle}"
    yield from _rate_differences(wanted, accepted)


def _rate_differences(wanted: Command, accepted: Command) -> Iterator[str]:
    for i, most in enumerate(accepted.max_rate or ()):
        rate = math.inf if wanted.max_rate is None else wanted.max_rate[i]
        if rate > most * (1 + 1e-6):
            yield f"command '{wanted.name}'[{i}] max_rate: policy {rate:g}, robot {most:g} {accepted.unit}/s"
