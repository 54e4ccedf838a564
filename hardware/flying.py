"""Flying robots: they take off to a height, follow positions with the policy leading throughout, and land."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot_rl.contract import Command
from robot_rl.hardware.monitors import STATE_SIGNALS, Observation, flight_conditions, touching_down, yaw
from robot_rl.hardware.reference import FlightReference
from robot_rl.hardware.setpoints import Setpoint
from robot_rl.hardware.supervisor_config import RobotState, SupervisorConfig
from robot_rl.protocols import Array

_STILL = 0.3  # m/s: faster than this is not standing on the ground


class Flying:
    """See `robot_kind.RobotKind`.

    Attributes:
        reference: what the policy follows. ground: height in m of the ground, noted when arming.
    """

    rising, running, descending = RobotState.TAKING_OFF, RobotState.FLYING, RobotState.LANDING
    rise, descend = "take off", "land"
    state_signals = STATE_SIGNALS
    own_rates: Mapping[str, tuple[float, ...]] = {}

    def __init__(
        self, commands: tuple[Command, ...], config: SupervisorConfig, reference: FlightReference | None = None
    ) -> None:
        self._commands, self._config = commands, config
        self.reference = reference or FlightReference()
        self.ground = 0.0
        self._touch_since: float | None = None

    def conditions(self, obs: Observation, state: RobotState) -> dict[str, str]:
        return flight_conditions(obs, self._config, state, self.ground)

    def arm_refusal(self, obs: Observation) -> str:
        still = obs.signals["base_lin_vel_w"]
        if float(np.linalg.norm(still)) > _STILL:
            return f"the robot must stand still (velocity {still} m/s)"
        self.ground = float(obs.signals["base_pos_w"][2])
        return ""

    def start(self, obs: Observation) -> None:
        del obs  # the rotors stand still

    def entered(self, before: RobotState, state: RobotState) -> None:
        del before, state
        self._touch_since = None

    def progress(self, obs: Observation, state: RobotState, now: float) -> tuple[RobotState, str] | None:
        """Take-off ends at its height, landing on the ground."""
        if state is RobotState.TAKING_OFF and obs.complete and isinstance(obs.reference, Setpoint):
            goal = self.ground + self._config.take_off_height
            at_height = abs(float(obs.signals["base_pos_w"][2]) - goal) < self._config.take_off_tolerance
            if at_height and abs(float(obs.reference.pos_w[2]) - goal) < 0.02:
                return RobotState.FLYING, "at height"
        if state is RobotState.LANDING:
            if not touching_down(obs, self._config):
                self._touch_since = None
            elif self._touch_since is None:
                self._touch_since = now
            if self._touch_since is not None and now - self._touch_since >= self._config.touch_time:
                return RobotState.DISARMED, "landed"
        return None

    def policy_leads(self, state: RobotState) -> bool:
        return state.moving

    def own_command(self, state: RobotState, sent: Mapping[str, Array], dt: float) -> None:
        del state, sent, dt  # in the air only the policy keeps it up

    def rest(self) -> dict[str, Array]:
        return {c.name: np.asarray(c.idle, np.float32) for c in self._commands}

    def guide(self, state: RobotState, entered: bool, signals: Mapping[str, Array], dt: float) -> Setpoint:
        """On the ground the reference stays with the vehicle."""
        if not state.moving:
            pos = signals.get("base_pos_w", np.zeros(3, np.float32))
            quat = signals.get("base_quat_wxyz", np.array([1, 0, 0, 0], np.float32))
            return self.reference.start_at(pos.astype(np.float64), yaw(quat))
        if entered and state is RobotState.TAKING_OFF:
            self.reference.take_off(self.ground + self._config.take_off_height)
        if entered and state is RobotState.LANDING:
            self.reference.land(self.ground)
        return self.reference.step(dt)
