"""From the name of a driver to the driver: ours or a user's own, checked before anything relies on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robot_rl import registry
from robot_rl.contract import Contract
from robot_rl.errors import ConfigError, RobotRlError
from robot_rl.hardware.clock import Clock
from robot_rl.hardware.node_settings import parse_driver_options
from robot_rl.hardware.parameters import with_values
from robot_rl.protocols import Driver

_MEMBERS = ("name", "robot", "signals", "commands", "connect", "read", "write", "stop")


def make_driver(
    name: str, options: Mapping[str, Any] | str = "", clock: Clock | None = None, policy: Contract | None = None
) -> Driver:
    """The driver called `name`, made with its `Options` if it has any; touches no hardware.

    Args:
        name: one of `robot-rl list driver`, or `package.module:NAME`.
        options: settings of the driver by name, or as text: `"vehicle=l2f, noise=false"`.
        clock: only for the driver `sim`, the one that can run in another time than the computer's.
        policy: the driver `sim` simulates the robot that it is made for, among the objects of its task.

    Raises:
        UnknownName: no such driver, or no such option. MissingDependency: it needs an extra that is not installed.
        ConfigError: it cannot be imported or made, is no driver, or an option has a wrong value.
    """
    try:
        driver_type = registry.load("driver", name)
        made_for = {} if policy is None else {"robot": policy.robot, "task": policy.task}
        simulated = {"clock": clock, **made_for} if name == "sim" else {}
        driver = driver_type(*_arguments(name, driver_type, options), **simulated)
        missing = [member for member in _MEMBERS if not hasattr(driver, member)]
    except RobotRlError:
        raise
    except ImportError as error:
        raise ConfigError(
            f"driver '{name}' cannot be imported: {error}; install what it needs, and import it inside connect()"
        ) from error
    except Exception as error:  # a user's code: whatever it raises, the user must see which driver it was
        raise ConfigError(f"driver '{name}' cannot be made: {type(error).__name__}: {error}") from error
    if missing:
        raise ConfigError(f"driver '{name}' lacks {', '.join(missing)}; a driver has {', '.join(_MEMBERS)}")
    return driver


def _arguments(name: str, driver_type: Any, options: Mapping[str, Any] | str) -> tuple[Any, ...]:
    """The one argument of the driver's constructor, its options; none when it has no class `Options`."""
    kind = getattr(driver_type, "Options", None)
    if kind is None:
        if options:
            raise ConfigError(f"driver '{name}' has no options, but was given {options!r}")
        return ()
    values = parse_driver_options(options, kind) if isinstance(options, str) else options
    return (with_values(kind(), values),)
