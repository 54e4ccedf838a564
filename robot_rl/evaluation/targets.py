"""One face for everything that can be flown: a policy file, a loaded policy, an emulated chip, a base policy."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError, ContractError, ContractMismatch
from robot_rl.evaluation.scenarios import Scenario

Arrays = Mapping[str, NDArray[Any]]
COMMAND = "rotor_speed_target"


class Target(Protocol):
    """What the rollout flies. `batch` is the number of vehicles served at once, None for any."""

    name: str
    batch: int | None

    def start(self, count: int) -> None:
        """Begin `count` new episodes."""
        ...

    def act(self, signals: Arrays, time_step: float) -> NDArray[Any]:
        """Signals (N, …) → rotor speed targets (N, 4) in rad/s."""
        ...

    def refusal(self, scenario: Scenario) -> str | None:
        """Why this policy cannot fly the scenario at all, or None."""
        ...


class BaseTarget:
    """A `BasePolicy` (controller, script, …): any batch, any rate."""

    batch: int | None = None

    def __init__(self, policy: Any, name: str) -> None:
        self.policy, self.name = policy, name

    def start(self, count: int) -> None:
        self.policy.reset(count)

    def act(self, signals: Arrays, time_step: float) -> NDArray[Any]:
        step = np.full((len(signals["base_pos_w"]), 1), time_step, dtype=np.float32)
        return self.policy.act({**signals, "time_step": step})[COMMAND]

    def refusal(self, scenario: Scenario) -> str | None:
        del scenario  # A base policy is given the time step with every call.
        return None


class RuntimeTarget:
    """Anything with `reset(env_ids)` and `act(signals, time_step)`: `Policy`, or the emulated chip (one vehicle)."""

    def __init__(self, policy: Any, name: str) -> None:
        self.policy, self.name = policy, name
        self.batch: int | None = int(getattr(policy, "num_envs", 1))

    def start(self, count: int) -> None:
        if count != self.batch:
            raise ConfigError(f"policy '{self.name}' serves {self.batch} vehicles at once, not {count}")
        self.policy.reset()

    def act(self, signals: Arrays, time_step: float) -> NDArray[Any]:
        return np.asarray(self.policy.act(signals, time_step)[COMMAND]).reshape(-1, 4)

    def refusal(self, scenario: Scenario) -> str | None:
        return _wrong_rate(getattr(self.policy, "contract", None), scenario)


class FileTarget:
    """An exported policy file, run by onnxruntime with as many vehicles as asked for."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        from robot_rl.policy import Policy

        self.path, self.name = path, name or path.stem
        self._policy = Policy.load(path)
        self.contract = self._policy.contract
        _check_flies(self.contract, str(path))
        try:
            Policy.load(path, num_envs=2, verify=False)
            self.batch: int | None = None
        except ContractError:  # exported for one vehicle
            self.batch = 1

    def start(self, count: int) -> None:
        from robot_rl.policy import Policy

        if count != self._policy.num_envs:
            self._policy = Policy.load(self.path, num_envs=count, verify=False)
        self._policy.reset()

    def act(self, signals: Arrays, time_step: float) -> NDArray[Any]:
        return self._policy.act(signals, time_step)[COMMAND]

    def refusal(self, scenario: Scenario) -> str | None:
        return _wrong_rate(self.contract, scenario)


def as_target(policy: Any, name: str | None = None) -> Target:
    """Wrap what the caller has.

    Args:
        policy: a path to a policy file; `base:<name>` for a tuned base policy; an object with `act` and `reset`.
        name: shown in reports; default from the file or the class.

    Raises:
        ConfigError: none of these. ContractError: the file is refused. UnknownName: no such base policy.
    """
    if isinstance(policy, str) and policy.startswith("base:"):
        from robot_rl.registry import load

        return BaseTarget(load("base", policy.removeprefix("base:"))(), name or policy.removeprefix("base:"))
    if isinstance(policy, (str, Path)):
        return FileTarget(Path(policy), name)
    if hasattr(policy, "start") and hasattr(policy, "refusal"):
        return policy
    if not (callable(getattr(policy, "act", None)) and callable(getattr(policy, "reset", None))):
        raise ConfigError(f"cannot fly {policy!r}: give a policy file, 'base:<name>', or an object with act and reset")
    label = name or type(policy).__name__
    if "time_step" in inspect.signature(policy.act).parameters:
        return RuntimeTarget(policy, label)
    return BaseTarget(policy, label)


def _wrong_rate(contract: Any, scenario: Scenario) -> str | None:
    if contract is None:
        return None
    rate = contract.rate
    if rate.min_dt - 1e-9 <= scenario.control_dt <= rate.max_dt + 1e-9:
        return None
    return (
        f"needs a call every {1e3 * rate.min_dt:g} to {1e3 * rate.max_dt:g} ms, "
        f"the scenario calls every {1e3 * scenario.control_dt:g} ms"
    )


def _check_flies(contract: Any, where: str) -> None:
    """Refuse a policy of another robot before the first step."""
    names = [c.name for c in contract.commands]
    if COMMAND not in names:
        given = f"it commands {', '.join(names) or 'nothing'} (robot '{contract.robot}'), not {COMMAND}"
        raise ContractMismatch(f"'{where}' cannot be flown", [given])
