"""The file system is the registry: a robot, task, algorithm, driver or board is one file that defines one name.

Nothing is imported until it is asked for, so listing needs neither torch nor MuJoCo nor ROS.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from robot_rl.errors import ConfigError, MissingDependency, UnknownName


class Kind(NamedTuple):
    """Where things of one kind live: the package and the name that each of its files defines."""

    package: str
    attribute: str


KINDS: dict[str, Kind] = {
    "robot": Kind("robot_rl.sim.robots", "ROBOT"),
    "task": Kind("robot_rl.sim.tasks", "TASK"),
    "physics": Kind("robot_rl.sim.physics", "PHYSICS"),
    "algorithm": Kind("robot_rl.policies.algorithms", "ALGORITHM"),
    "base": Kind("robot_rl.policies.base", "BASE"),
    "driver": Kind("robot_rl.hardware.drivers", "DRIVER"),
    "board": Kind("robot_rl.firmware_export.boards", "BOARD"),
}


SCHEMES: dict[str, tuple[str, str]] = {
    "gym": ("robot_rl.sim.foreign.task", "foreign_task"),
    "envpool": ("robot_rl.sim.foreign.task", "foreign_task"),
}
"""Tasks that have no file: what stands before the colon of their name, and the function that makes one of the name."""

EXTRAS = {
    "torch": "sim",
    "gymnasium": "sim",
    "scipy": "sim",
    "mujoco": "sim",
    "pybullet": "sim",
    "mujoco_warp": "gpu",
    "warp": "gpu",
    "onnxscript": "train",
    "tensorboard": "train",
    "rich": "train",
    "viser": "view",
    "stable_baselines3": "train",
    "rclpy": "ros",
}
"""Which extra of this package installs what."""


def names(kind: str) -> list[str]:
    """Names of one kind, sorted; file `quadrotor_hover.py` is called `quadrotor-hover`."""
    if kind not in KINDS:
        raise UnknownName("kind", kind, KINDS)
    return sorted(_files(kind))


def described(kind: str) -> dict[str, str]:
    """Name → what its file says of itself first, without importing it.

    Raises:
        UnknownName: no such kind.
    """
    if kind not in KINDS:
        raise UnknownName("kind", kind, KINDS)
    found = {}
    for name, path in sorted(_files(kind).items()):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[name] = " ".join(text.split("\n\n")[0].split())
    return found


def _files(kind: str) -> dict[str, Path]:
    spec = importlib.util.find_spec(KINDS[kind].package)
    folders = spec.submodule_search_locations if spec else None
    files = (f for folder in folders or () for f in Path(folder).glob("*.py"))
    return {f.stem.replace("_", "-"): f for f in files if not f.stem.startswith("_")}


def load(kind: str, name: str) -> Any:
    """The object called `name`, or `package.module:ATTRIBUTE` for a user's own; tasks also by a scheme, `gym:ID`.

    Raises:
        UnknownName: there is no such file; the message lists those there are.
        ConfigError: the module exists but does not define the expected name.
        MissingDependency: it needs a package of an extra that is not installed.
    """
    if kind == "task" and is_foreign(name):
        maker, function = SCHEMES[name.partition(":")[0]]
        return getattr(importlib.import_module(maker), function)(name)
    if ":" in name:
        if kind not in KINDS:
            raise UnknownName("kind", kind, KINDS)
        module_name, attribute = name.split(":", 1)
        module = _users_own(kind, name, module_name)
    else:
        available = names(kind)
        if name not in available:
            raise UnknownName(kind, name, available)
        package, attribute = KINDS[kind]
        module = _imported(kind, name, f"{package}.{name.replace('-', '_')}")
    if not hasattr(module, attribute):
        raise ConfigError(f"{kind} '{name}': module {module.__name__} does not define '{attribute}'")
    return getattr(module, attribute)


def is_foreign(task: str) -> bool:
    """Whether a task's name begins with a scheme: environments of another project."""
    scheme, colon, _ = task.partition(":")
    return bool(colon) and scheme in SCHEMES


def _users_own(kind: str, name: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(f"{kind} '{name}': no module '{error.name}'; is it on PYTHONPATH?") from error
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{kind} '{name}' is not of the form package.module:NAME: {error}") from error


def _imported(kind: str, name: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        needed_for = f"{kind} '{name}'"
        raise MissingDependency(f"'{error.name}'", needed_for, f"pip install 'robot-rl[{extra}]'") from error
