"""The last gate before a driver: whatever a policy proposes, only finite commands within limits and rates pass.

Pure arithmetic in float32 in a fixed order, so that the same vectors test the Python and the C. Whether the robot may
fly at all (tilt, box, stale signals) is the supervisor's business, not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.contract import Command
from robot_rl.errors import ConfigError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Filtered:
    """What to send and what was done to get there.

    Attributes:
        command: name → (elements,), always finite, within limits and rates.
        events: in order; `bad_dt`; `rejected:missing`, `rejected:missing:<name>`, `rejected:kind:<name>`,
            `rejected:shape:<name>` or `rejected:nonfinite:<name>`, then `hold` or `idle`; for each command
            `limited:<name>`, `rate_limited:<name>`.
    """

    command: dict[str, Array]
    events: tuple[str, ...]


@dataclass(frozen=True)
class FilterState:
    """All the filter remembers: the command sent last and for how many seconds it has been held."""

    sent: Mapping[str, Array]
    held: float = 0.0


class SafetyFilter:
    """`filter_command` with its state kept; commands are (elements,) for one robot."""

    def __init__(self, commands: tuple[Command, ...], hold_time: float = 0.1) -> None:
        """Args:
        commands: of the contract.
        hold_time: seconds for which the last command is repeated when no usable proposal comes; then idle is sent.
        """
        if not (
            isinstance(hold_time, (float, int, np.floating, np.integer)) and np.isfinite(hold_time) and hold_time >= 0.0
        ):
            raise ConfigError(f"hold_time is {hold_time!r}; it must be a finite number of seconds, 0 or more")
        self.commands = commands
        self.hold_time = float(hold_time)
        self.state = initial_state(commands)

    def reset(self, sent: Mapping[str, Array] | None = None) -> None:
        """Forget the past. `sent`: what the robot follows now (rates are limited from there); default idle.

        Raises:
            ConfigError: `sent` is incomplete, not finite or of the wrong shape. Outside the limits it is clipped.
        """
        state = initial_state(self.commands)
        if sent is not None:
            reason = _fault(self.commands, sent)
            if reason:
                raise ConfigError(f"the command to start from was {reason}")
            state = FilterState({c.name: _clipped(c, _array(sent[c.name]))[0] for c in self.commands})
        self.state = state

    def apply(self, proposed: Mapping[str, Any] | None, dt: float) -> Filtered:
        """Filter one proposal; never raises on what a policy can produce.

        Args:
            proposed: name → (elements,); None when the policy gave nothing.
            dt: seconds since the previous call; negative, infinite, NaN or no number counts as 0.
        """
        self.state, filtered = filter_command(self.commands, self.hold_time, self.state, proposed, dt)
        return filtered


def initial_state(commands: tuple[Command, ...]) -> FilterState:
    """As if idle had been sent."""
    return FilterState({c.name: np.asarray(c.idle, dtype=np.float32) for c in commands})


def filter_command(
    commands: tuple[Command, ...], hold_time: float, state: FilterState, proposed: Mapping[str, Any] | None, dt: float
) -> tuple[FilterState, Filtered]:
    """The pure function behind `SafetyFilter`: (state, proposal, dt) → (next state, what to send).

    One bad command rejects the whole proposal. Then the last command is held for at most `hold_time`, and idle is sent
    after that. The rate limit holds always, on the way to idle too.
    """
    events: list[str] = []
    if not (isinstance(dt, (float, int, np.floating, np.integer)) and np.isfinite(dt) and dt >= 0.0):
        events.append("bad_dt")
        dt = 0.0
    reason = _fault(commands, proposed)
    held = 0.0
    if reason or proposed is None:
        held = state.held + dt
        holding = held <= hold_time and "bad_dt" not in events
        events += [reason, "hold" if holding else "idle"]
        target = state.sent if holding else {c.name: c.idle for c in commands}
        held = held if holding else max(held, np.nextafter(hold_time, np.inf))
    else:
        target = proposed
    sent: dict[str, Array] = {}
    for command in commands:
        value, limited = _clipped(command, _array(target[command.name]))
        value, slowed = _slowed(command, value, state.sent[command.name], dt)
        sent[command.name] = value
        events += [f"limited:{command.name}"] * limited + [f"rate_limited:{command.name}"] * slowed
    output = {name: value.copy() for name, value in sent.items()}
    return FilterState(sent, held), Filtered(output, tuple(events))


def _array(values: Any) -> Array:
    return np.asarray(values, dtype=np.float32)


def _fault(commands: tuple[Command, ...], proposed: Mapping[str, Any] | None) -> str:
    """Why the proposal cannot be used; empty when it can."""
    if not isinstance(proposed, Mapping):
        return "rejected:missing"
    for command in commands:
        if command.name not in proposed:
            return f"rejected:missing:{command.name}"
        try:
            with np.errstate(over="ignore"):
                value = _array(proposed[command.name])
        except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a torch tensor with a gradient
            return f"rejected:kind:{command.name}"
        if value.shape != (len(command.elements),):
            return f"rejected:shape:{command.name}"
        if not np.isfinite(value).all():
            return f"rejected:nonfinite:{command.name}"
    return ""


def _clipped(command: Command, value: Array) -> tuple[Array, bool]:
    result = np.minimum(np.maximum(value, _array(command.lower)), _array(command.upper))
    return result, bool((result != value).any())


def _slowed(command: Command, value: Array, last: Array, dt: float) -> tuple[Array, bool]:
    if command.max_rate is None:
        return value, False
    with np.errstate(over="ignore"):
        step = _array(command.max_rate) * np.float32(dt)
        result = np.minimum(np.maximum(value, last - step), last + step)
    return result, bool((result != value).any())
