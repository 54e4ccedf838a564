"""The supervisor: a state machine around every policy that decides whether, and with what, the motors may turn.

Deterministic in its inputs: it owns no clock and no driver. The control loop calls `watch` and then `command` in each
tick; people's requests come in between. What it hands out is always finite and within the contract's limits, and rest
unless the robot is getting up, led by its policy, or coming down. The conditions and reactions stand in
`supervisor_config.py`, what differs between kinds of robots in `robot_kind.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from robot_rl.contract import Command
from robot_rl.hardware.flying import Flying
from robot_rl.hardware.monitors import Observation, common_conditions, tilt
from robot_rl.hardware.robot_kind import RobotKind
from robot_rl.hardware.supervisor_config import Reaction, RobotState, SupervisorConfig
from robot_rl.protocols import Array
from robot_rl.safety import SafetyFilter

# Condition → (raw condition it follows from, setting that says how long that must have held), where they differ.
_DELAYED: dict[str, tuple[str, str]] = {
    "tilt": ("tilt", "confirm_time"),
    "body_rate": ("body_rate", "confirm_time"),
    "speed": ("speed", "confirm_time"),
    "tracking": ("tracking", "confirm_time"),
    "joint_limit": ("joint_limit", "confirm_time"),
    "joint_speed": ("joint_speed", "confirm_time"),
    "pose": ("pose", "confirm_time"),
    "battery_low": ("battery_low", "battery_confirm"),
    "battery_low_long": ("battery_low", "battery_land_after"),
    "battery_critical": ("battery_critical", "battery_confirm"),
    "ground_contact": ("ground_contact", "contact_time"),
    "driver_failure": ("driver_failure", "driver_hold"),
    "policy_lost": ("policy_failure", "policy_hold"),
}
_DERIVED = ("battery_low_long", "policy_lost")
_UPRIGHT = np.array([1, 0, 0, 0], np.float32)


@dataclass(frozen=True)
class Answer:
    """Whether a request was accepted, and why not or what follows."""

    accepted: bool
    message: str


@dataclass(frozen=True)
class Transition:
    """A change of state at `time` s on the loop's clock, with its cause in words."""

    time: float
    before: RobotState
    after: RobotState
    cause: str


@dataclass(frozen=True)
class Decision:
    """What is sent: command name → (n,) in its unit, or None: the joints are damped. `events` are the safety filter's;
    `clipped` counts changed elements.
    """

    command: dict[str, Array] | None
    events: tuple[str, ...]
    clipped: int


class Supervisor:
    """Wraps the safety filter of one set of commands; see the module docstring.

    Attributes:
        state: the present state. kind: flying, or with joints.
        cause: why the state was entered.
        active: condition → detail, for the conditions that hold and count now.
        transitions: the last 100 changes of state; transition_count: how many there were in all.
    """

    def __init__(
        self, commands: tuple[Command, ...], config: SupervisorConfig | None = None, kind: RobotKind | None = None
    ) -> None:
        """`kind`: by default a flying robot."""
        self.config = config or SupervisorConfig()
        self.commands = commands
        self.kind: RobotKind = kind or Flying(commands, self.config)
        self._gentle = tuple(replace(c, max_rate=_slower(c, self.kind.own_rates.get(c.name))) for c in commands)
        self._limits = {c.name: _inner_limits(c) for c in commands}
        self._filter = SafetyFilter(commands, self.config.policy_hold)
        self._since: dict[str, float] = {}
        self._last: Observation | None = None
        self._idled = True  # since it last moved, rest has been handed out
        self.state, self.cause, self.entered = RobotState.DISARMED, "start", 0.0
        self.active: dict[str, str] = {}
        self.policy_error = ""
        self.transitions: deque[Transition] = deque(maxlen=100)
        self.transition_count = 0

    def watch(self, obs: Observation, now: float) -> RobotState:
        """Take in one tick at `now` s and return the state that holds from here on."""
        self._last = obs
        self.active = self._confirmed(obs, now)
        worst, cause = self._worst()
        if self.state.moving:
            if worst is Reaction.IDLE:
                self._enter(RobotState.FAULT, cause, now)
            elif worst is Reaction.LAND and self.state is not self.kind.descending:
                self._enter(self.kind.descending, cause, now)
            else:
                step = self.kind.progress(obs, self.state, now)
                if step is not None:
                    self._enter(*step, now)
        elif self.state is RobotState.ARMED and worst >= Reaction.LAND:
            self._enter(RobotState.DISARMED, cause, now)
        return self.state

    @property
    def policy_leads(self) -> bool:
        """Whether the policy is asked for a proposal now."""
        return self.kind.policy_leads(self.state)

    def command(self, proposed: Mapping[str, Array] | None, dt: float) -> Decision:
        """What to send `dt` s after the last call: the filtered proposal, or the robot's own motion while it gets up
        or comes down, or rest.
        """
        if not self.state.moving:
            self.policy_error, self._idled = "", True
            return Decision(self.kind.rest(), (), 0)
        own = self.kind.own_command(self.state, self._filter.state.sent, dt)
        usable = own or (proposed if isinstance(proposed, Mapping) else None)
        self._filter.commands = self.commands if own is None else self._gentle
        filtered = self._filter.apply(usable, dt)
        self.policy_error = next((e for e in filtered.events if e.startswith("rejected")), "")
        if "idle" in filtered.events and self.kind.rest() is None:  # a pose is no rest for a robot with joints
            return Decision(None, filtered.events, 0)
        command = {c.name: self._bounded(c, filtered.command[c.name]) for c in self.commands}
        clipped = 0
        if usable is not None and not self.policy_error:
            clipped = sum(int(np.sum(np.asarray(usable[n], np.float32) != v)) for n, v in command.items())
        return Decision(command, filtered.events, clipped)

    def rest(self) -> dict[str, Array] | None:
        """The command that moves nothing; None: damped joints."""
        return self.kind.rest()

    def arm(self, now: float, link_present: bool = False) -> Answer:
        """DISARMED → ARMED, if nothing that would end a flight holds now."""
        if self.state is not RobotState.DISARMED:
            hint = "disarm first" if self.state is RobotState.FAULT else "nothing to do"
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
        angle = tilt(self._last.signals.get("base_quat_wxyz", _UPRIGHT))
        if angle > self.config.arm_tilt:
            return Answer(
                False, f"cannot arm: the robot must be upright: tilt {angle:.2f} rad, allowed {self.config.arm_tilt:g}"
            )
        refusal = self.kind.arm_refusal(self._last)
        if refusal:
            return Answer(False, f"cannot arm: {refusal}")
        self._enter(RobotState.ARMED, "requested", now)
        return Answer(True, "armed")

    def disarm(self, now: float) -> Answer:
        """ARMED or FAULT → DISARMED; refused while moving, where only coming down or an emergency stop end it."""
        if self.state.moving:
            return Answer(
                False, f"cannot disarm while {self.state.value}: {self.kind.descend}, or use the emergency stop"
            )
        if self.state is RobotState.DISARMED:
            return Answer(False, "the robot is disarmed already")
        self._enter(RobotState.DISARMED, "requested", now)
        return Answer(True, "disarmed")

    def rise(self, now: float) -> Answer:
        """ARMED → TAKING_OFF, or STANDING_UP."""
        verb = self.kind.rise
        if self.state is not RobotState.ARMED or self._last is None:
            return Answer(False, f"cannot {verb}: the robot is {self.state.value}, it must be armed")
        self._filter.reset(self.kind.start(self._last))
        self._enter(self.kind.rising, "requested", now)
        return Answer(True, self.state.value.replace("_", " "))

    def descend(self, now: float, cause: str = "requested") -> Answer:
        """Getting up or led by the policy → LANDING, or LYING_DOWN."""
        if self.state not in (self.kind.rising, self.kind.running):
            return Answer(False, f"cannot {self.kind.descend}: the robot is {self.state.value}")
        self._enter(self.kind.descending, cause, now)
        return Answer(True, self.state.value.replace("_", " "))

    def emergency_stop(self, now: float, cause: str = "emergency stop") -> Answer:
        """Any state → FAULT: at rest from the next command on, until disarmed and armed again."""
        if self.state is not RobotState.FAULT:
            self._enter(RobotState.FAULT, cause, now)
        return Answer(True, "motors idle or damped; disarm to reset")

    def close(self, now: float, cause: str) -> None:
        """The loop ends: nothing may stay armed, and a motion that was cut short is a FAULT."""
        if self.state.moving:
            self._enter(RobotState.FAULT, f"{cause} while {self.state.value}", now)
        elif self.state is RobotState.ARMED:
            self._enter(RobotState.DISARMED, cause, now)

    def accepts_goals(self) -> Answer:
        """Whether goals, references and velocities are followed now."""
        running = self.state is self.kind.running
        wanted = self.kind.running.value
        return Answer(
            running, "" if running else f"the robot is {self.state.value}, it follows requests only while {wanted}"
        )

    def _confirmed(self, obs: Observation, now: float) -> dict[str, str]:
        raw = common_conditions(obs, self.config, self.state) | self.kind.conditions(obs, self.state)
        self._since = {name: self._since.get(name, now) for name in raw}
        active: dict[str, str] = {}
        for condition in (*raw, *_DERIVED):
            source, delay = _DELAYED.get(condition, (condition, ""))
            held = source in raw and now - self._since[source]
            if source in raw and held >= (getattr(self.config, delay) if delay else 0.0):
                active[condition] = raw[source]
        spent = now - self.entered
        if self.state is self.kind.rising and spent > self.config.take_off_time:
            active["take_off_timeout"] = f"{spent:.1f} s"
        if self.state is self.kind.descending and spent > self.config.landing_time:
            active["landing_timeout"] = f"{spent:.1f} s"
        return active

    def _worst(self) -> tuple[Reaction, str]:
        """The strongest reaction to what is active now and the conditions that call for it."""
        reactions = {name: self.config.reaction.of(name) for name in self.active}
        worst = max(reactions.values(), default=Reaction.IGNORE)
        return worst, "; ".join(f"{n}: {self.active[n]}" for n, r in reactions.items() if r is worst)

    def _enter(self, state: RobotState, cause: str, now: float) -> None:
        self.transitions.append(Transition(now, self.state, state, cause))
        self.transition_count += 1
        self.kind.entered(self.state, state)
        self.state, self.cause, self.entered = state, cause, now
        self._idled = self._idled and not state.moving

    def _bounded(self, command: Command, value: Array) -> Array:
        """Last guard, independent of the filter: right shape, finite, within the limits, or idle."""
        idle = np.asarray(command.idle, np.float32)
        if np.shape(value) != idle.shape or not np.all(np.isfinite(value)):
            return idle
        return np.clip(value, *self._limits[command.name])


def _slower(command: Command, rates: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """The smaller of a command's own rates and `rates`, per element."""
    if rates is None or command.max_rate is None:
        return rates or command.max_rate
    return tuple(map(min, rates, command.max_rate))


def _inner_limits(command: Command) -> tuple[Array, Array]:
    """The limits as float32, rounded inwards so that no float32 between them exceeds the float64 limit."""
    lower, upper = np.asarray(command.lower, np.float64), np.asarray(command.upper, np.float64)
    low, high = lower.astype(np.float32), upper.astype(np.float32)
    inf = np.float32(np.inf)
    return np.where(low < lower, np.nextafter(low, inf), low), np.where(high > upper, np.nextafter(high, -inf), high)
