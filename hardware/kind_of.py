"""From a driver to the kind of robot behind it: one that follows joint positions has joints, any other flies."""

from __future__ import annotations

from typing import cast

from robot_rl.contract import Command, Contract
from robot_rl.hardware.flying import Flying
from robot_rl.hardware.jointed import ATTITUDE_SIGNALS, JOINT_KIND, JOINT_SIGNALS, Jointed
from robot_rl.hardware.monitors import STATE_SIGNALS
from robot_rl.hardware.pose_reference import PoseReference
from robot_rl.hardware.reference import FlightReference
from robot_rl.hardware.setpoints import ReferenceLimits, VelocityLimits
from robot_rl.hardware.supervisor_config import SupervisorConfig
from robot_rl.hardware.velocity_reference import VelocityReference
from robot_rl.protocols import Driver, JointDriver
from robot_rl.signals import POSE_TARGETS


def has_joints(driver: Driver) -> bool:
    """Whether the robot follows joint positions."""
    return any(c.kind == JOINT_KIND for c in driver.commands)


def state_signals(driver: Driver) -> tuple[str, ...]:
    """What the supervisor must measure on this robot, whatever the policy looks at."""
    if not has_joints(driver):
        return STATE_SIGNALS
    return (*JOINT_SIGNALS, *(ATTITUDE_SIGNALS if _has_attitude(driver) else ()))


def kind_of(
    driver: Driver,
    contract: Contract,
    commands: tuple[Command, ...],
    config: SupervisorConfig,
    reference: ReferenceLimits | None = None,
    velocity: VelocityLimits | None = None,
) -> Flying | Jointed:
    """The robot behind `driver` under a policy; `commands`: what the two agree on."""
    if not has_joints(driver):
        return Flying(commands, config, FlightReference(reference))
    names = {s.name for s in contract.signals}
    asked = PoseReference(names, reference) if names & set(POSE_TARGETS) else VelocityReference(velocity)
    pose = cast(JointDriver, driver).rest_pose
    return Jointed(commands, config, pose, asked, attitude=_has_attitude(driver))


def _has_attitude(driver: Driver) -> bool:
    return any(s.name in ATTITUDE_SIGNALS for s in driver.signals)
