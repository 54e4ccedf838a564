"""Settings with a range and a description, kept in frozen dataclasses and checked once, at the border.

A field made by `setting` may be a bool, int, float, str or a tuple of floats; a field whose type is another such
dataclass is a group, and its fields are named `group.field` from outside. ROS parameters and the command line read
these tables.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from robot_rl.errors import ConfigError, UnknownName

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """One value from outside: `low` and `high` are inclusive and bound each element; `choices` bound a string."""

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def allowed(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.low is not None:
            return f"in [{self.low:g}, {self.high:g}]"
        return {bool: "true or false", str: "a text"}.get(type(self.default), "any")

    def checked(self, value: Any) -> Any:
        """`value` as this setting's type.

        Raises:
            ConfigError: wrong type, not finite, or out of range; names the setting, the value and what is allowed.
        """
        kind = type(self.default)
        try:
            if kind is tuple:
                if isinstance(value, str) or len(value) != len(self.default):
                    raise TypeError
                return tuple(self._number(v, float) for v in value)
            if kind in (int, float):
                return self._number(value, kind)
        except TypeError as error:
            size = f"{len(self.default)} numbers" if kind is tuple else f"a {kind.__name__}"
            raise ConfigError(f"{self.name} = {value!r}: must be {size} {self.allowed()}") from error
        if not isinstance(value, kind):
            raise ConfigError(f"{self.name} = {value!r}: must be {self.allowed()}")
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.name} = {value!r}: must be {self.allowed()}")
        return value

    def _number(self, value: Any, kind: type) -> Any:
        if isinstance(value, (bool, str)) or not isinstance(value, (int, float)):
            raise TypeError
        if not math.isfinite(value) or (self.low is not None and not self.low <= value <= (self.high or 0.0)):
            raise ConfigError(f"{self.name} = {value!r}: must be {self.allowed()}")
        if kind is int and value != int(value):
            raise TypeError
        return kind(value)


def setting(
    default: Any, description: str, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()
) -> Any:
    """A dataclass field with a description and a range (both ends or none)."""
    meta = {"description": description, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=meta)


def settings_of(group: Any, prefix: str = "") -> Iterator[Setting]:
    """Every setting of a dataclass (type or instance) in order; an instance's values are the defaults."""
    instance = group() if isinstance(group, type) else group
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if dataclasses.is_dataclass(value):
            yield from settings_of(value, f"{prefix}{field.name}.")
        else:
            yield Setting(f"{prefix}{field.name}", value, **field.metadata)


def with_values(group: T, values: Mapping[str, Any]) -> T:
    """A copy of a dataclass instance with `values` by dotted name, each checked.

    Raises:
        UnknownName: there is no such setting; the message lists those there are.
        ConfigError: a value of the wrong type or out of its range.
    """
    known = {s.name: s for s in settings_of(group)}
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise UnknownName("setting", name, known)
        checked[name] = known[name].checked(value)
    return _replaced(group, checked, "")


def check_settings(group: Any) -> None:
    """Raise ConfigError if a value of a dataclass instance is out of its range; for use in `__post_init__`."""
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if not dataclasses.is_dataclass(value):
            default = field.default
            Setting(field.name, default, **field.metadata).checked(value)


def _replaced(group: T, values: Mapping[str, Any], prefix: str) -> T:
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(group):  # type: ignore[arg-type]
        name, value = f"{prefix}{field.name}", getattr(group, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _replaced(value, values, f"{name}.")
        elif name in values:
            changes[field.name] = values[name]
    return dataclasses.replace(group, **changes)  # type: ignore[type-var]
