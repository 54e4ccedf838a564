"""Errors of the project: each says what is wrong, which value, what is allowed and what to do.

Only error types live here; they are raised where the problem is seen and printed once, by the command line.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class RobotRlError(Exception):
    """Base of every error a user can cause or mend. The command line prints its text and exits with 2."""


class UnknownName(RobotRlError):
    """A task, algorithm, driver, key, … that does not exist; the message lists those that do."""

    def __init__(self, kind: str, name: str, available: Iterable[str]) -> None:
        names = sorted(available)
        near = get_close_matches(name, names, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        super().__init__(f"unknown {kind} '{name}'.{hint} Available: {', '.join(names) or 'none'}.")
        self.name, self.available = name, names


class ConfigError(RobotRlError):
    """A configuration value has the wrong type or lies outside its range."""


class ContractError(RobotRlError):
    """A policy file's contract is missing, damaged, of another schema, or does not describe its graph."""


class ContractMismatch(ContractError):
    """Policy and robot (or two targets) do not fit together; `differences` lists each point."""

    def __init__(self, what: str, differences: Iterable[str]) -> None:
        self.differences = list(differences)
        lines = "".join(f"\n  - {d}" for d in self.differences)
        super().__init__(f"{what}:{lines}")


class DriverError(RobotRlError):
    """A robot could not be reached, read or commanded."""


class ExportError(RobotRlError):
    """A policy cannot be exported or translated; the message names the node and the reason."""


class MissingDependency(RobotRlError):
    """An optional package or program is absent; the message gives the command that installs it."""

    def __init__(self, what: str, needed_for: str, install: str) -> None:
        super().__init__(f"{what} is not installed; it is needed for {needed_for}. Install it with: {install}")


class CheckpointError(RobotRlError):
    """A checkpoint or run folder is missing, damaged, or belongs to something else."""


class NumericalError(RobotRlError):
    """A NaN or infinity appeared; the message names the tensor and where its state was dumped."""


class SimulatorError(RobotRlError):
    """A simulator of another project raised, died or gave no answer; the message has the end of what it printed."""


class SignalError(RobotRlError):
    """Signals given to a policy are missing, of the wrong shape or kind; the message says what was expected."""


class NonFiniteSignal(SignalError):
    """A signal, or what the policy made of it, is NaN or infinite; `name` says which.

    The control loop turns it into a fault.
    """

    def __init__(self, name: str, where: str = "signal") -> None:
        super().__init__(
            f"{where} '{name}' is NaN or infinite; the policy was not run on it and its memory is unchanged. "
            "Check the sensor or estimator that provides it."
            if where == "signal"
            else f"{where} '{name}' of the policy is NaN or infinite although every signal was finite; "
            "its memory is unchanged. Check the ranges of the signals."
        )
        self.name = name
