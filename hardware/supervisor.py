"""The supervisor: a state machine around every policy that decides whether, and with what, the motors may turn.

Deterministic in its inputs: it owns no clock and no driver. The control loop calls `watch` and then `command` in each
tick; people's requests come in between. What it hands out is always finite and within the contract's limits, and idle
unless the vehicle is taking off, flying or landing. The conditions and reactions stand in `supervisor_config.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from robot_rl.contract import Command
from robot_rl.hardware.monitors import Observation, raw_conditions, tilt, touching_down
from robot_rl.hardware.supervisor_config import FlightState, Reaction, SupervisorConfig
from robot_rl.protocols import Array
from robot_rl.safety import SafetyFilter

# Condition → (raw condition it follows from, setting that says how long that must have held), where they differ.
_DELAYED: dict[str, tuple[str, str]] = {
    "tilt": ("tilt", "confirm_time"),
    "body_rate": ("body_rate", "confirm_time"),
    "speed": ("speed", "confirm_time"),
    "tracking": ("tracking", "confirm_time"),
    "battery_low": ("battery_low", "battery_confirm"),
    "battery_low_long": ("battery_low", "battery_land_after"),
    "battery_critical": ("battery_critical", "battery_confirm"),
    "ground_contact": ("ground_contact", "contact_time"),
    "driver_failure": ("driver_failure", "driver_hold"),
    "policy_lost": ("policy_failure", "policy_hold"),
}
_DERIVED = ("battery_low_long", "policy_lost")


@dataclass(frozen=True)
class Answer:
    """Whether a request was accepted, and why not or what follows."""

    accepted: bool
    message: str


@dataclass(frozen=True)
class Transition:
    """A change of state at `time` s on the loop's clock, with its cause in words."""

    time: float
    before: FlightState
    after: FlightState
    cause: str


@dataclass(frozen=True)
class Decision:
    """What is sent: command name → (n,) in its unit. `events` are the safety filter's; `clipped` counts changed
    elements.
    """

    command: dict[str, Array]
    events: tuple[str, ...]
    clipped: int


class Supervisor:
    """Wraps the safety filter of one set of commands; see the module docstring.

    Attributes:
        state: the present flight state.
        cause: why the state was entered.
        active: condition → detail, for the conditions that hold and count now.
        ground: height in m of the ground, noted when arming.
        transitions: the last 100 changes of state; transition_count: how many there were in all.
    """

    def __init__(self, commands: tuple[Command, ...], config: SupervisorConfig | None = None) -> None:
        self.config = config or SupervisorConfig()
        self.commands = commands
        self._limits = {c.name: _inner_limits(c) for c in commands}
        self._filter = SafetyFilter(commands, self.config.policy_hold)
        self._since: dict[str, float] = {}
        self._touch_since: float | None = None
        self._last: Observation | None = None
        self._idled = True  # since the last flight, idle has been handed out
        self.state, self.cause, self.entered = FlightState.DISARMED, "start", 0.0
        self.active: dict[str, str] = {}
        self.ground = 0.0
        self.policy_error = ""
        self.transitions: deque[Transition] = deque(maxlen=100)
        self.transition_count = 0

    def watch(self, obs: Observation, now: float) -> FlightState:
        """Take in one tick at `now` s and return the state that holds from here on."""
        self._last = obs
        self.active = self._confirmed(obs, now)
        worst, cause = self._worst()
        if self.state.airborne:
            if worst is Reaction.IDLE:
                self._enter(FlightState.FAULT, cause, now)
            elif worst is Reaction.LAND and self.state is not FlightState.LANDING:
                self._enter(FlightState.LANDING, cause, now)
            else:
                self._progress(obs, now)
        elif self.state is FlightState.ARMED and worst >= Reaction.LAND:
            self._enter(FlightState.DISARMED, cause, now)
        return self.state

    def command(self, proposed: Mapping[str, Array] | None, dt: float) -> Decision:
        """What to send `dt` s after the last call: the filtered proposal while airborne, idle otherwise."""
        if not self.state.airborne:
            self.policy_error, self._idled = "", True
            return Decision(self.idle(), (), 0)
        usable = proposed if isinstance(proposed, Mapping) else None
        filtered = self._filter.apply(usable, dt)
        self.policy_error = next((e for e in filtered.events if e.startswith("rejected")), "")
        command = {c.name: self._bounded(c, filtered.command[c.name]) for c in self.commands}
        clipped = 0
        if usable is not None and not self.policy_error:
            clipped = sum(int(np.sum(np.asarray(usable[n], np.float32) != v)) for n, v in command.items())
        return Decision(command, filtered.events, clipped)

    def idle(self) -> dict[str, Array]:
        """The command that moves nothing."""
        return {c.name: np.asarray(c.idle, np.float32) for c in self.commands}

    def arm(self, now: float, link_present: bool = False) -> Answer:
        """DISARMED → ARMED, if nothing that would end a flight holds now."""
        if self.state is not FlightState.DISARMED:
            hint = "disarm first" if self.state is FlightState.FAULT else "nothing to do"
            return Answer(False, f"cannot arm: the robot is {self.state.value} ({self.cause}); {hint}")
        if self._last is None or not self._last.complete:
            return Answer(False, "cannot arm: not every signal of the robot's state has been received yet")
        if not self._idled:
            return Answer(False, "cannot arm: the motors have not been stopped since the last flight yet; try again")
        if self.config.require_link and not link_present:
            return Answer(False, "cannot arm: no heartbeat from the operator, and require_link is set")
        worst, cause = self._worst()
        if worst >= Reaction.LAND:
            return Answer(False, f"cannot arm: {cause}")
        angle, still = tilt(self._last.signals["base_quat_wxyz"]), self._last.signals["base_lin_vel_w"]
        if angle > 0.35 or float(np.linalg.norm(still)) > 0.3:
            return Answer(
                False,
                f"cannot arm: the robot must stand upright and still (tilt {angle:.2f} rad, velocity {still} m/s)",
            )
        self.ground = float(self._last.signals["base_pos_w"][2])
        self._enter(FlightState.ARMED, "requested", now)
        return Answer(True, "armed")

    def disarm(self, now: float) -> Answer:
        """ARMED or FAULT → DISARMED; refused in flight, where only landing or an emergency stop end it."""
        if self.state.airborne:
            return Answer(False, f"cannot disarm while {self.state.value}: land, or use the emergency stop")
        if self.state is FlightState.DISARMED:
            return Answer(False, "the robot is disarmed already")
        self._enter(FlightState.DISARMED, "requested", now)
        return Answer(True, "disarmed")

    def take_off(self, now: float) -> Answer:
        """ARMED → TAKING_OFF."""
        if self.state is not FlightState.ARMED:
            return Answer(False, f"cannot take off: the robot is {self.state.value}, it must be armed")
        self._filter.reset()
        self._enter(FlightState.TAKING_OFF, "requested", now)
        return Answer(True, f"taking off to {self.config.take_off_height:g} m")

    def land(self, now: float, cause: str = "requested") -> Answer:
        """TAKING_OFF or FLYING → LANDING."""
        if self.state not in (FlightState.TAKING_OFF, FlightState.FLYING):
            return Answer(False, f"cannot land: the robot is {self.state.value}")
        self._enter(FlightState.LANDING, cause, now)
        return Answer(True, "landing")

    def emergency_stop(self, now: float, cause: str = "emergency stop") -> Answer:
        """Any state → FAULT: motors idle from the next command on, until disarmed and armed again."""
        if self.state is not FlightState.FAULT:
            self._enter(FlightState.FAULT, cause, now)
        return Answer(True, "motors idle; disarm to reset")

    def close(self, now: float, cause: str) -> None:
        """The loop ends: nothing may stay armed, and a flight that was cut short is a FAULT."""
        if self.state.airborne:
            self._enter(FlightState.FAULT, f"{cause} in flight", now)
        elif self.state is FlightState.ARMED:
            self._enter(FlightState.DISARMED, cause, now)

    def accepts_goals(self) -> Answer:
        """Whether goals and references are followed now."""
        flying = self.state is FlightState.FLYING
        return Answer(
            flying, "" if flying else f"the robot is {self.state.value}, goals are followed only while flying"
        )

    def _progress(self, obs: Observation, now: float) -> None:
        """Take-off ends at its height, landing on the ground."""
        if self.state is FlightState.TAKING_OFF and obs.complete:
            goal = self.ground + self.config.take_off_height
            at_height = abs(float(obs.signals["base_pos_w"][2]) - goal) < self.config.take_off_tolerance
            if at_height and obs.reference is not None and abs(float(obs.reference.pos_w[2]) - goal) < 0.02:
                self._enter(FlightState.FLYING, "at height", now)
        if self.state is FlightState.LANDING:
            if not touching_down(obs, self.config):
                self._touch_since = None
            elif self._touch_since is None:
                self._touch_since = now
            if self._touch_since is not None and now - self._touch_since >= self.config.touch_time:
                self._enter(FlightState.DISARMED, "landed", now)

    def _confirmed(self, obs: Observation, now: float) -> dict[str, str]:
        raw = raw_conditions(obs, self.config, self.state, self.ground)
        self._since = {name: self._since.get(name, now) for name in raw}
        active: dict[str, str] = {}
        for condition in (*raw, *_DERIVED):
            source, delay = _DELAYED.get(condition, (condition, ""))
            held = source in raw and now - self._since[source]
            if source in raw and held >= (getattr(self.config, delay) if delay else 0.0):
                active[condition] = raw[source]
        spent = now - self.entered
        if self.state is FlightState.TAKING_OFF and spent > self.config.take_off_time:
            active["take_off_timeout"] = f"{spent:.1f} s"
        if self.state is FlightState.LANDING and spent > self.config.landing_time:
            active["landing_timeout"] = f"{spent:.1f} s"
        return active

    def _worst(self) -> tuple[Reaction, str]:
        """The strongest reaction to what is active now and the conditions that call for it."""
        reactions = {name: self.config.reaction.of(name) for name in self.active}
        worst = max(reactions.values(), default=Reaction.IGNORE)
        return worst, "; ".join(f"{n}: {self.active[n]}" for n, r in reactions.items() if r is worst)

    def _enter(self, state: FlightState, cause: str, now: float) -> None:
        self.transitions.append(Transition(now, self.state, state, cause))
        self.transition_count += 1
        self.state, self.cause, self.entered = state, cause, now
        self._touch_since = None
        self._idled = self._idled and not state.airborne

    def _bounded(self, command: Command, value: Array) -> Array:
        """Last guard, independent of the filter: right shape, finite, within the limits, or idle."""
        idle = np.asarray(command.idle, np.float32)
        if np.shape(value) != idle.shape or not np.all(np.isfinite(value)):
            return idle
        return np.clip(value, *self._limits[command.name])


def _inner_limits(command: Command) -> tuple[Array, Array]:
    """The limits as float32, rounded inwards so that no float32 between them exceeds the float64 limit."""
    lower, upper = np.asarray(command.lower, np.float64), np.asarray(command.upper, np.float64)
    low, high = lower.astype(np.float32), upper.astype(np.float32)
    inf = np.float32(np.inf)
    return np.where(low < lower, np.nextafter(low, inf), low), np.where(high > upper, np.nextafter(high, -inf), high)
