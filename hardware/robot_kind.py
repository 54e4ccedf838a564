"""What differs between kinds of robots around the one supervisor and the one control loop, as a type only.

`flying.py` and `jointed.py` implement it; `kind_of.py` chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from robot_rl.hardware.monitors import Observation
from robot_rl.hardware.setpoints import AnySetpoint
from robot_rl.hardware.supervisor_config import RobotState
from robot_rl.protocols import Array


class RobotKind(Protocol):
    """How one robot gets up, is led, comes down and rests. The supervisor asks in each tick.

    Attributes:
        rising, running, descending: this kind's names of the three moving states.
        rise, descend: what people call these changes.
        state_signals: what must be measured for anything to be known.
        own_rates: command → largest change per second where the robot moves by itself; empty: not limited.
    """

    @property
    def rising(self) -> RobotState: ...
    @property
    def running(self) -> RobotState: ...
    @property
    def descending(self) -> RobotState: ...
    @property
    def rise(self) -> str: ...
    @property
    def descend(self) -> str: ...
    @property
    def state_signals(self) -> tuple[str, ...]: ...
    @property
    def own_rates(self) -> Mapping[str, tuple[float, ...]]: ...

    def conditions(self, obs: Observation, state: RobotState) -> dict[str, str]:
        """The conditions that only this kind of robot shows, each with the numbers for the report."""
        ...

    def arm_refusal(self, obs: Observation) -> str:
        """Why a robot with complete signals must not be armed now, or empty; remembers where it was when it may."""
        ...

    def start(self, obs: Observation) -> dict[str, Array] | None:
        """The command that the robot follows before it gets up; None: idle."""
        ...

    def entered(self, before: RobotState, state: RobotState) -> None:
        """The state has just changed."""
        ...

    def progress(self, obs: Observation, state: RobotState, now: float) -> tuple[RobotState, str] | None:
        """The next state and why, where getting up or coming down is over at `now` s."""
        ...

    def policy_leads(self, state: RobotState) -> bool:
        """Whether the policy decides about the command now."""
        ...

    def own_command(self, state: RobotState, sent: Mapping[str, Array], dt: float) -> dict[str, Array] | None:
        """The robot's own command `dt` s after the last one, `sent`; None where the policy leads."""
        ...

    def rest(self) -> dict[str, Array] | None:
        """The command that moves nothing; None: the driver damps the joints."""
        ...

    def guide(self, state: RobotState, entered: bool, signals: Mapping[str, Array], dt: float) -> AnySetpoint:
        """Move the reference on by `dt` s."""
        ...
