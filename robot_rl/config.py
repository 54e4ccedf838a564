"""Configuration as frozen dataclasses and differences to them; every value from outside is checked here, once.

A YAML file or `--set a.b=c` only holds differences. Ranges stand in the field's metadata: `{"min": 0, "max": 1}`.
Not for ROS parameters or policy files, which have borders of their own.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from robot_rl.errors import ConfigError, UnknownName

T = TypeVar("T")


@dataclass(frozen=True)
class Leaf:
    """One value of a nested configuration: present value, declared type, and the metadata of its field."""

    value: Any
    type: Any
    metadata: Mapping[str, Any]


def overlay(config: T, changes: Mapping[str, Any]) -> T:
    """A copy of `config` with some values replaced; `config` is not changed.

    Args:
        config: a dataclass instance, nested dataclasses included.
        changes: `{"a.b": value}` or nested `{"a": {"b": value}}`; later entries win.

    Raises:
        UnknownName: there is no such key; lists the valid ones with their full path.
        ConfigError: wrong type, out of range, or refused by the dataclass itself.
    """
    return _overlaid(config, changes, "", sorted(leaves(config)))


def leaves(config: Any, prefix: str = "") -> dict[str, Leaf]:
    """Every value with its full path: `{"sim.dt": Leaf(...), ...}` in the order of the fields."""
    found: dict[str, Leaf] = {}
    hints = _hints(type(config))
    for item in dataclasses.fields(config):
        path, value = prefix + item.name, getattr(config, item.name)
        if _is_dataclass(value):
            found |= leaves(value, f"{path}.")
        else:
            found[path] = Leaf(value, hints[item.name], item.metadata)
    return found


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain data (dict, list, str, numbers, None) that YAML, JSON and `overlay` take back."""
    return {item.name: _plain(getattr(config, item.name)) for item in dataclasses.fields(config)}


def parse_set(items: Sequence[str]) -> dict[str, Any]:
    """`["a.b=1e-3", "name=x", "sizes=[64, 64]"]` → `{"a.b": 0.001, ...}`; values are YAML.

    Raises:
        ConfigError: no `=`, an empty key, or a value that is not YAML.
    """
    changes: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"--set '{item}' is not of the form key=value, for example --set sim.dt=0.01")
        changes[key] = _yaml(text, f"--set '{item}'")
    return changes


def from_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The differences in a YAML file, as nested data for `overlay`. An empty file changes nothing.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or does not hold keys at the top level.
    """
    data = parse_yaml(path)
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ConfigError(f"configuration '{os.fspath(path)}' must hold 'key: value' lines, not {type(data).__name__}")
    return data


def parse_yaml(path: str | os.PathLike[str]) -> Any:
    """What a YAML file holds, whatever it is.

    Raises:
        ConfigError: the file cannot be read or is not YAML.
    """
    where = f"configuration '{os.fspath(path)}'"
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} cannot be read: {error}") from error
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror or error}") from error
    return _yaml(text, where)


def _overlaid(config: Any, changes: Mapping[str, Any], prefix: str, valid: list[str]) -> Any:
    hints = _hints(type(config))
    names = {item.name: item for item in dataclasses.fields(config) if item.init}
    nested: dict[str, dict[str, Any]] = {}
    replaced: dict[str, Any] = {}
    for key, value in changes.items():
        name, dot, rest = str(key).partition(".")
        if name not in names:
            raise UnknownName("configuration key", prefix + str(key), valid)
        path, current = prefix + name, getattr(config, name)
        if dot or (_is_dataclass(current) and isinstance(value, Mapping)):
            if not _is_dataclass(current):
                raise UnknownName("configuration key", prefix + str(key), valid)
            nested.setdefault(name, {}).update({rest: value} if dot else value)
            continue
        if _is_dataclass(current):
            keys = ", ".join(f"{path}.{item.name}" for item in dataclasses.fields(current))
            raise ConfigError(f"{path} is {value!r}; it is a section: set one of {keys}")
        replaced[name] = _in_range(_typed(value, hints[name], path), names[name].metadata, path)
    for name, inner in nested.items():
        replaced[name] = _overlaid(replaced.get(name, getattr(config, name)), inner, f"{prefix}{name}.", valid)
    try:
        return dataclasses.replace(config, **replaced)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{prefix or 'configuration '}{sorted(replaced)}: {error}") from error


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _plain(value: Any) -> Any:
    if _is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _typed(value: Any, wanted: Any, path: str) -> Any:
    """`value` as the declared type `wanted`, converted where nothing is lost, else ConfigError."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(value, arguments, wanted, path)
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
        raise ConfigError(f"{path} is {value!r}; allowed: {', '.join(map(str, arguments))}")
    if origin in (tuple, list) or wanted in (tuple, list):
        return _sequence(value, origin or wanted, arguments, wanted, path)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {k: _typed(v, arguments[1], f"{path}.{k}") for k, v in value.items()}
    if wanted is Path and isinstance(value, str):
        return Path(value)
    if wanted is float:
        return _float(value, path)
    if wanted is int and isinstance(value, float) and value.is_integer():
        return int(value)
    accepted = isinstance(wanted, type) and isinstance(value, wanted) and (wanted is bool or type(value) is not bool)
    if accepted:
        return value
    raise _wrong_type(value, wanted, path)


def _float(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong_type(value, float, path)
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ConfigError(f"{path} is {value}; it must be a finite number")
    return result


def _one_of(value: Any, choices: tuple[Any, ...], wanted: Any, path: str) -> Any:
    if value is None and type(None) in choices:
        return None
    # An exact type first: 3 stays an int for `int | float`.
    exact = [c for c in choices if isinstance(c, type) and type(value) is c]
    for choice in exact or [c for c in choices if c is not type(None)]:
        try:
            return _typed(value, choice, path)
        except ConfigError:
            continue
    raise _wrong_type(value, wanted, path)


def _sequence(value: Any, kind: type, arguments: tuple[Any, ...], wanted: Any, path: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _wrong_type(value, wanted, path)
    if not arguments:
        return kind(value)
    if kind is list or (len(arguments) == 2 and arguments[1] is Ellipsis):
        types_ = [arguments[0]] * len(value)
    else:
        types_ = list(arguments)
    if len(types_) != len(value):
        raise ConfigError(f"{path} has {len(value)} entries; it needs {len(types_)}: {_type_name(wanted)}")
    return kind(_typed(v, t, f"{path}[{i}]") for i, (v, t) in enumerate(zip(value, types_, strict=True)))


def _in_range(value: Any, metadata: Mapping[str, Any], path: str) -> Any:
    low, high = metadata.get("min"), metadata.get("max")
    numbers = value if isinstance(value, (tuple, list)) else [value]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        if (low is not None and number < low) or (high is not None and number > high):
            raise ConfigError(
                f"{path} is {value}; allowed is {'-∞' if low is None else low} … {'∞' if high is None else high}"
            )
    return value


def _wrong_type(value: Any, wanted: Any, path: str) -> ConfigError:
    return ConfigError(f"{path} is {value!r} ({type(value).__name__}); it must be {_type_name(wanted)}")


def _type_name(wanted: Any) -> str:
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
    if wanted in names:
        return names[wanted]
    return wanted.__name__ if isinstance(wanted, type) and not get_args(wanted) else str(wanted).replace("typing.", "")


def _yaml(text: str, where: str) -> Any:
    import yaml

    try:
        return yaml.load(text, Loader=_loader())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not valid YAML: {error}") from error


def _loader() -> Any:
    """YAML's safe loader, but with YAML 1.2's numbers (1e-3) and booleans (`off` is a text) and no repeated keys."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [self.construct_object(k, deep=True) for k, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise yaml.constructor.ConstructorError(None, None, f"key '{key}' stands twice", node.start_mark)
            return super().construct_mapping(node, deep=deep)

    Loader.yaml_implicit_resolvers = {}
    for tag, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+0123456789."),
        ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first))
    return Loader
