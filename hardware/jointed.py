"""Robots whose joints follow targets: damped at rest, moved slowly into their standing pose, then led by the policy.

Coming down: the policy stands still, the joints move slowly into the standing and then into the resting pose, and are
damped. Damping is no command that a policy could give: it is the driver's own mode, `JointDriver.damp`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot_rl.contract import Command
from robot_rl.hardware.monitors import Observation, joint_conditions
from robot_rl.hardware.pose_motion import PoseMotion
from robot_rl.hardware.pose_reference import PoseReference
from robot_rl.hardware.setpoints import PoseSetpoint, Vector, VelocitySetpoint
from robot_rl.hardware.supervisor_config import RobotState, SupervisorConfig
from robot_rl.hardware.velocity_reference import VelocityReference
from robot_rl.protocols import Array

JOINT_KIND = "joint_pos"
"""`Command.kind` of the command that joints follow; a robot that has one is of this kind."""

JOINT_SIGNALS = ("joint_pos", "joint_vel")
ATTITUDE_SIGNALS = ("base_quat_wxyz", "base_ang_vel_b")


class Jointed:
    """See `robot_kind.RobotKind`.

    Attributes:
        reference: the velocity that a walking policy follows, or the pose that one that handles things does.
        joints: the command of all joints. Its idle values are the standing pose.
    """

    rising, running, descending = RobotState.STANDING_UP, RobotState.RUNNING, RobotState.LYING_DOWN
    rise, descend = "stand up", "lie down"

    def __init__(
        self,
        commands: tuple[Command, ...],
        config: SupervisorConfig,
        rest_pose: tuple[float, ...],
        reference: VelocityReference | PoseReference | None = None,
        attitude: bool = True,
    ) -> None:
        """Args:
        commands: of robot and policy together. rest_pose: (J,) rad, where the robot needs no stiffness.
        attitude: whether the robot measures it; one that is bolted down does not.
        """
        self._commands, self._config = commands, config
        self.reference: VelocityReference | PoseReference = reference or VelocityReference()
        self.joints = next(c for c in commands if c.kind == JOINT_KIND)
        self.state_signals = (*JOINT_SIGNALS, *(ATTITUDE_SIGNALS if attitude else ()))
        self.own_rates = {self.joints.name: (config.max_joint_rate,) * len(self.joints.elements)}
        self._stand, self._rest = np.asarray(self.joints.idle), np.asarray(rest_pose)
        self._plan: list[tuple[Vector, float]] = []
        self._motion: PoseMotion | None = None
        self._target: Vector | None = None
        self._settling = 0.0

    def conditions(self, obs: Observation, state: RobotState) -> dict[str, str]:
        found = joint_conditions(obs, self._config, self.joints)
        if state is RobotState.STANDING_UP and obs.complete and self._target is not None:
            error = np.abs(obs.signals["joint_pos"] - self._target)
            worst = int(np.argmax(error))
            if error[worst] > self._config.max_pose_error:
                most = self._config.max_pose_error
                found["pose"] = f"{self.joints.elements[worst]} {error[worst]:.2f} rad off, allowed {most:g} rad"
        return found

    def arm_refusal(self, obs: Observation) -> str:
        away, worst = self._away(obs), int(np.argmax(self._away(obs)))
        if away[worst] > self._config.arm_distance:
            most = self._config.arm_distance
            return (
                f"{self.joints.elements[worst]} is {away[worst]:.2f} rad from the standing pose, allowed {most:g} rad; "
                "move it by hand"
            )
        return ""

    def start(self, obs: Observation) -> dict[str, Array]:
        return self._with_pose(obs.signals["joint_pos"])

    def entered(self, before: RobotState, state: RobotState) -> None:
        c = self._config
        self._motion = self._target = None
        self._settling = c.settle_time if before is RobotState.RUNNING and state is RobotState.LYING_DOWN else 0.0
        stand, lie = (self._stand, c.stand_time), (self._rest, c.lie_time)
        if state is RobotState.STANDING_UP:
            self._plan = [stand]
        elif state is RobotState.LYING_DOWN:
            # A policy may leave the robot between two steps, where it tips over if held there: quickly onto its feet.
            self._plan = [(self._stand, c.gather_time), lie] if before is RobotState.RUNNING else [lie]

    def progress(self, obs: Observation, state: RobotState, now: float) -> tuple[RobotState, str] | None:
        """Standing up ends near its pose, lying down with its motion."""
        del now
        if self._motion is None or not self._motion.done:
            return None
        if state is RobotState.STANDING_UP and obs.complete:
            near = float(self._away(obs).max()) < self._config.stand_tolerance
            return (RobotState.RUNNING, "standing") if near else None
        return (RobotState.DISARMED, "lying") if state is RobotState.LYING_DOWN else None

    def policy_leads(self, state: RobotState) -> bool:
        return state is RobotState.RUNNING or (state is RobotState.LYING_DOWN and self._settling > 0.0)

    def own_command(self, state: RobotState, sent: Mapping[str, Array], dt: float) -> dict[str, Array] | None:
        if self.policy_leads(state):
            self._settling -= dt
            return None
        if self._motion is None:
            self._motion = PoseMotion(sent[self.joints.name].astype(np.float64), self._plan)
        self._target = self._motion.step(dt)
        return self._with_pose(self._target)

    def rest(self) -> None:
        """None: damped."""

    def guide(
        self, state: RobotState, entered: bool, signals: Mapping[str, Array], dt: float
    ) -> VelocitySetpoint | PoseSetpoint:
        """Only a running robot is asked for anything."""
        if not self.policy_leads(state):
            return self.reference.rest(signals)
        if entered and state is RobotState.LYING_DOWN:
            self.reference.halt()
        return self.reference.step(dt)

    def _away(self, obs: Observation) -> Vector:
        return np.abs(obs.signals["joint_pos"].astype(np.float64) - self._stand)

    def _with_pose(self, pose: Vector | Array) -> dict[str, Array]:
        """The command for a pose (J,); what is no joint stays at its idle value."""
        out = {c.name: np.asarray(c.idle, np.float32) for c in self._commands}
        return out | {self.joints.name: np.asarray(pose, np.float32)}
