"""The file system is the registry: a robot, task, algorithm, driver or board is one file that defines one name.

Nothing is imported until it is asked for, so listing needs neither torch nor MuJoCo nor ROS.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

from robot_rl.errors import ConfigError, UnknownName


class Kind(NamedTuple):
    """Where things of one kind live: the package and the name that each of its files defines."""

    package: str
    attribute: str


KINDS: dict[str, Kind] = {
    "robot": Kind("robot_rl.sim.robots", "ROBOT"),
    "task": Kind("robot_rl.sim.tasks", "TASK"),
    "algorithm": Kind("robot_rl.policies.algorithms", "ALGORITHM"),
    "base": Kind("robot_rl.policies.base", "BASE"),
    "driver": Kind("robot_rl.hardware.drivers", "DRIVER"),
    "board": Kind("robot_rl.firmware_export.boards", "BOARD"),
}


def names(kind: str) -> list[str]:
    """Names of one kind, sorted; file `quadrotor_hover.py` is called `quadrotor-hover`."""
    if kind not in KINDS:
        raise UnknownName("kind", kind, KINDS)
    spec = importlib.util.find_spec(KINDS[kind].package)
    folders = spec.submodule_search_locations if spec else None
    files = (f for folder in folders or () for f in Path(folder).glob("*.py"))
    return sorted({f.stem.replace("_", "-") for f in files if not f.stem.startswith("_")})


def load(kind: str, name: str) -> Any:
    """The object called `name`, or `package.module:ATTRIBUTE` for a user's own.

    Raises:
        UnknownName: there is no such file; the message lists those there are.
        ConfigError: the module exists but does not define the expected name.
    """
    if ":" in name:
        module_name, attribute = name.split(":", 1)
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and module_name.startswith(error.name):
                raise ConfigError(f"{kind} '{name}': no module '{error.name}'; is it on PYTHONPATH?") from error
            raise
    else:
        available = names(kind)
        if name not in available:
            raise UnknownName(kind, name, available)
        package, attribute = KINDS[kind]
        module = importlib.import_module(f"{package}.{name.replace('-', '_')}")
    if not hasattr(module, attribute):
        raise ConfigError(f"{kind} '{name}': module {module.__name__} does not define '{attribute}'")
    return getattr(module, attribute)
