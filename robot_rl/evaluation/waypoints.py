"""The user's own path as a scenario: way points from a CSV or YAML file, flown through at rest from the first one."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from robot_rl.config import parse_yaml
from robot_rl.errors import ConfigError
from robot_rl.evaluation.scenarios import Scenario

Point = tuple[float, float, float]
SPEED = 0.8  # m/s, mean on a leg, where nothing else is said
FORMATS = "a CSV file with the columns x,y,z in m, or a YAML file with `waypoints: [[x, y, z], …]` and perhaps `speed:`"


def waypoint_scenario(path: Path, speed: float | None = None) -> Scenario:
    """The scenario `waypoints-<name of the file>`.

    Args:
        path: `.csv` with a row x,y,z in m per point (a header and `#` lines are passed over), or `.yaml` with a list of
            points, or with the keys `waypoints` and `speed`.
        speed: m/s, mean on a leg; None: as the file says, else 0.8.

    Raises:
        ConfigError: the file cannot be read, a row is not three finite numbers, fewer than two points, or a path that
            takes too long.
    """
    if path.suffix.lower() == ".csv":
        points, said = _from_csv(path), None
    elif path.suffix.lower() in (".yaml", ".yml"):
        points, said = _from_yaml(path)
    else:
        raise ConfigError(f"way points '{path}': unknown kind of file '{path.suffix}'; give {FORMATS}")
    if len(points) < 2:
        raise ConfigError(f"way points '{path}': {len(points)} found, at least two are needed; give {FORMATS}")
    chosen = next(s for s in (speed, said, SPEED) if s is not None)
    title = f"Way points of {path.name}, {chosen:g} m/s"
    return Scenario(f"waypoints-{path.stem}", title, task="waypoints", start="rest", waypoints=points, speed=chosen)


def _from_csv(path: Path) -> tuple[Point, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"way points '{path}' cannot be read: {error}") from error
    points: list[Point] = []
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        cells = [cell.strip() for cell in row]
        header = not points and [cell.lower() for cell in cells] == ["x", "y", "z"]
        if not any(cells) or cells[0].startswith("#") or header:
            continue
        points.append(_point(cells, f"way points '{path}', line {number}"))
    return tuple(points)


def _from_yaml(path: Path) -> tuple[tuple[Point, ...], float | None]:
    data: Any = parse_yaml(path)
    speed: Any = None
    if isinstance(data, dict):
        unknown = sorted(set(data) - {"waypoints", "speed"})
        if unknown or "waypoints" not in data:
            raise ConfigError(f"way points '{path}' has the keys {sorted(data)}; give {FORMATS}")
        data, speed = data["waypoints"], data.get("speed")
    if not isinstance(data, list):
        raise ConfigError(f"way points '{path}' holds no list of points; give {FORMATS}")
    if speed is not None and (isinstance(speed, bool) or not isinstance(speed, (int, float))):
        raise ConfigError(f"way points '{path}': speed is {speed!r}; it must be a number in m/s")
    return tuple(_point(p, f"way points '{path}', point {i}") for i, p in enumerate(data, 1)), speed


def _point(cells: Any, where: str) -> Point:
    if not isinstance(cells, list) or len(cells) != 3:
        raise ConfigError(f"{where} is {_shown(cells)}; it must be three numbers x, y, z in m")
    try:
        x, y, z = (math.nan if isinstance(cell, bool) else float(cell) for cell in cells)
    except (TypeError, ValueError):
        raise ConfigError(f"{where} is {_shown(cells)}; it must be three numbers x, y, z in m") from None
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
        raise ConfigError(f"{where} is {_shown(cells)}; the numbers must be finite")
    return x, y, z


def _shown(cells: Any) -> str:
    return ", ".join(map(str, cells)) if isinstance(cells, Iterable) and not isinstance(cells, str) else repr(cells)
