"""Gains as frozen data: which of them are tuned and over which range, and the YAML files that hold the tuned values.

The files live in `config/base/<controller>.yaml`: data only, with where the numbers came from.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import robot_rl
from robot_rl.errors import ConfigError, UnknownName
from robot_rl.policies.base.flight.vehicle import Floats

Config = TypeVar("Config")


def gain(default: float, lower: float, upper: float) -> Any:
    """A dataclass field that tuning may move on a logarithmic scale within [lower, upper]."""
    return dataclasses.field(default=default, metadata={"range": (lower, upper)})


def ranges(config: Any) -> dict[str, tuple[float, float]]:
    """Tunable fields of a config (class or instance) with their ranges, in order."""
    return {f.name: f.metadata["range"] for f in dataclasses.fields(config) if "range" in f.metadata}


def check_gains(config: Any) -> None:
    """Refuse gains that are not finite or outside their range.

    Raises:
        ConfigError: naming the field, the value and the range.
    """
    for name, (lower, upper) in ranges(config).items():
        value = getattr(config, name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and lower <= value <= upper):
            raise ConfigError(f"{type(config).__name__}.{name} = {value!r}: must be a number in [{lower:g}, {upper:g}]")


def to_unit(config: Any) -> Floats:
    """Tunable gains as coordinates in [0, 1], logarithmic within their ranges. Shape (num_gains,)."""
    return np.array([math.log(getattr(config, n) / lo) / math.log(hi / lo) for n, (lo, hi) in ranges(config).items()])


def from_unit(config: Config, unit: Floats) -> Config:
    """`config` with its tunable gains at the coordinates `unit` in [0, 1]; inverse of `to_unit`."""
    inside = np.clip(unit, 0.0, 1.0)
    values = {n: float(lo * (hi / lo) ** u) for (n, (lo, hi)), u in zip(ranges(config).items(), inside, strict=True)}
    values = {n: float(np.clip(v, *ranges(config)[n])) for n, v in values.items()}
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def gains_file(name: str) -> Path | None:
    """`config/base/<name>.yaml` of the checkout or of the installed share folder; None where there is none."""
    checkout = Path(robot_rl.__file__).resolve().parent.parent / "config"
    installed = Path(sys.prefix) / "share" / "robot_rl" / "config"
    for folder in (checkout, installed):
        path = folder / "base" / f"{name}.yaml"
        if path.is_file():
            return path
    return None


def read_gains(config: Config, path: Path) -> Config:
    """`config` with the gains of a YAML file laid over it.

    Raises:
        ConfigError: not YAML, no mapping `gains`, or a value outside its range.
        UnknownName: a gain that this controller does not have.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read gains from {path}: {error}") from error
    values = document.get("gains") if isinstance(document, Mapping) else None
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: expected a mapping with the key 'gains', as `robot-rl tune` writes it")
    known = {f.name for f in dataclasses.fields(config)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise UnknownName(f"gain in {path}", str(key), known)
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def write_gains(config: Any, path: Path, provenance: Mapping[str, Any]) -> None:
    """Write the gains (7 significant digits) with their provenance; parent folders are made."""
    import yaml

    gains = {f.name: _rounded(getattr(config, f.name)) for f in dataclasses.fields(config)}
    text = "# Written by `robot-rl tune`; loaded by default. Without it the defaults in the code are used.\n"
    text += yaml.safe_dump({"gains": gains, "provenance": dict(provenance)}, sort_keys=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def tuned(config: Config, name: str) -> Config:
    """`config` with the gains of `config/base/<name>.yaml`, or unchanged where that file is absent."""
    path = gains_file(name)
    return config if path is None else read_gains(config, path)


def _rounded(value: Any) -> Any:
    return float(f"{value:.7g}") if isinstance(value, float) else value
