"""One recorded episode and what its arrays mean. numpy only.

Names of features, as in a `Step`: `obs/<signal>` and `image/<camera>` are seen before each step and once after the
last one, so they have T + 1 rows; everything else belongs to a step and has T rows: `action` (executed),
`action_proposed` (by the policy, before any filter or person), `base_action` (of the policy that is refined), `reward`,
`cost/<name>`, `intervention` (a person acted).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import RobotRlError

SEEN = ("obs/", "image/")
STEP_FEATURES = ("action", "action_proposed", "base_action", "reward", "intervention")
PREFIXES = (*SEEN, "cost/")
DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")


class DataError(RobotRlError):
    """Episodes that are damaged, do not fit together, or cannot be written."""


@dataclass(frozen=True)
class Feature:
    """One named array of an episode: `shape` of a row, `unit` (SI), names of its elements where they have some."""

    dtype: str = "float32"
    shape: tuple[int, ...] = ()
    unit: str = ""
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise DataError(f"dtype '{self.dtype}' of a feature; allowed: {', '.join(DTYPES)}")
        if any(n < 1 for n in self.shape):
            raise DataError(f"shape {self.shape} of a feature; every dimension must be at least 1")
        if self.names and len(self.names) != math.prod(self.shape):
            raise DataError(f"{len(self.names)} names for a feature of shape {self.shape}")


@dataclass(frozen=True)
class DataSpec:
    """What all episodes of a file share.

    Attributes:
        control_dt: s between steps. features: by name, see the module docstring.
        task, robot: names, or empty. facts: anything else worth keeping (who, where, which policy), as JSON.
    """

    control_dt: float
    features: Mapping[str, Feature]
    task: str = ""
    robot: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.control_dt) and self.control_dt > 0):
            raise DataError(f"control_dt = {self.control_dt}; it must be a positive number of seconds")
        if not self.features:
            raise DataError("there are no features; name at least one, such as 'action'")
        for name in self.features:
            known = name in STEP_FEATURES or any(name.startswith(p) and len(name) > len(p) for p in PREFIXES)
            if not known:
                allowed = ", ".join((*STEP_FEATURES, *(f"{p}…" for p in PREFIXES)))
                raise DataError(f"feature '{name}' has no meaning here; allowed: {allowed}")
        if found := unfit_facts(self.facts):
            raise DataError("; ".join(found))

    def differences(self, other: DataSpec) -> list[str]:
        """Why episodes of the other cannot stand beside these; empty where they can. Facts may differ."""
        found = [
            f"{name}: {getattr(self, name)!r} and {getattr(other, name)!r}"
            for name in ("control_dt", "task", "robot")
            if getattr(self, name) != getattr(other, name)
        ]
        for name in sorted({*self.features, *other.features}):
            mine, theirs = self.features.get(name), other.features.get(name)
            if mine != theirs:
                found.append(f"feature '{name}': {mine or 'missing'} and {theirs or 'missing'}")
        return found


@dataclass(frozen=True)
class Episode:
    """T steps.

    Attributes:
        arrays: name → (T, …), or (T + 1, …) for what is seen.
        terminated: it failed or was done: no bootstrap. truncated: time ran out. success: None where nobody judged.
        facts: seed, operator, goal, …, as JSON.
    """

    arrays: Mapping[str, NDArray[Any]]
    terminated: bool
    truncated: bool
    success: bool | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        name, array = next(iter(self.arrays.items()))
        return max(len(array) - name.startswith(SEEN), 0)


def unfit_facts(facts: Mapping[str, Any]) -> list[str]:
    """Which facts cannot be kept as JSON, in words; empty where all can."""
    found: list[str] = []
    for key, value in facts.items():
        try:
            json.dumps({key: value}, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            found.append(
                f"the fact '{key}' is a {type(value).__name__} that JSON cannot hold ({error}); make it a number, a "
                "text, a list or a dict of these, such as with int(), str() or .tolist()"
            )
    return found


def problems(episode: Episode, spec: DataSpec) -> list[str]:
    """What is wrong with an episode under this spec, in words; empty where nothing is."""
    found = [f"'{name}' is missing" for name in spec.features if name not in episode.arrays]
    found += [f"'{name}' is not among the features" for name in episode.arrays if name not in spec.features]
    found += [f"'{name}' is one value; it needs a row per step" for name, a in episode.arrays.items() if not a.ndim]
    found += unfit_facts(episode.facts)
    if found or not episode.arrays:
        return found or ["it has no arrays"]
    steps = len(episode)
    if steps < 1:
        return ["it has no steps"]
    for name, feature in spec.features.items():
        array = episode.arrays[name]
        rows = (steps + name.startswith(SEEN), *feature.shape)
        if array.shape != rows or array.dtype != np.dtype(feature.dtype):
            found.append(f"'{name}' is {array.dtype} {array.shape}, expected {feature.dtype} {rows}")
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            found.append(f"'{name}' is not finite in row {row}")
    return found


class EpisodeRecorder:
    """Collects one episode step by step; nothing of it is on disk before `EpisodeStore.append`."""

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self._rows: dict[str, list[NDArray[Any]]] = {name: [] for name in spec.features}

    def begin(self, seen: Mapping[str, Any]) -> None:
        """Start anew with what is seen before the first step: every `obs/…` and `image/…`."""
        self._rows = {name: [] for name in self.spec.features}
        self._add(seen, {name for name in self.spec.features if name.startswith(SEEN)})

    def add(self, step: Mapping[str, Any], seen: Mapping[str, Any]) -> None:
        """One step, and what is seen after it.

        Raises:
            DataError: not begun; a feature is missing, unknown, or has another shape. The recording stays as it was.
        """
        self._check_begun("add")
        self._add({**step, **seen}, set(self.spec.features))

    def end(self, terminated: bool, truncated: bool, success: bool | None = None, **facts: Any) -> Episode:
        """The episode; the recorder is empty again.

        Raises:
            DataError: not begun, or something in it is wrong; the message says what. The recording stays as it was.
        """
        self._check_begun("end")
        arrays = {
            name: np.array(rows, self.spec.features[name].dtype).reshape(-1, *self.spec.features[name].shape)
            for name, rows in self._rows.items()
        }
        episode = Episode(arrays, bool(terminated), bool(truncated), success, facts)
        found = problems(episode, self.spec)
        if found:
            raise DataError("this episode cannot be kept: " + "; ".join(found))
        self._rows = {name: [] for name in self.spec.features}
        return episode

    def _check_begun(self, what: str) -> None:
        if any(not rows for name, rows in self._rows.items() if name.startswith(SEEN)):
            raise DataError(f"{what}() before begin(): what was seen before the first step is not known")

    def _add(self, values: Mapping[str, Any], wanted: set[str]) -> None:
        if set(values) != wanted:
            missing, unknown = sorted(wanted - set(values)), sorted(set(values) - wanted)
            raise DataError(
                f"missing: {', '.join(missing) or 'nothing'}; not expected: {', '.join(unknown) or 'nothing'}"
            )
        rows = {name: _row(value, self.spec.features[name], name) for name, value in values.items()}
        for name, row in rows.items():
            self._rows[name].append(row)


def _row(value: Any, feature: Feature, name: str) -> NDArray[Any]:
    """A copy, since the caller may write into its array again. Raises DataError where it does not fit the feature."""
    try:
        row = np.asarray(value)
    except ValueError as error:
        raise DataError(f"'{name}' is no array of shape {feature.shape}: {error}") from error
    if row.shape != feature.shape:
        raise DataError(f"'{name}' has shape {row.shape}, expected {feature.shape}")
    if not np.can_cast(row.dtype, feature.dtype, "same_kind"):
        raise DataError(f"'{name}' is {row.dtype}, which would be changed as {feature.dtype}; convert it before")
    if np.dtype(feature.dtype).kind in "iu":
        limits = np.iinfo(feature.dtype)
        for extreme in (int(row.min()), int(row.max())):
            if not limits.min <= extreme <= limits.max:
                raise DataError(
                    f"'{name}' has the value {extreme}; {feature.dtype} goes from {limits.min} to {limits.max}"
                )
    return row.astype(feature.dtype)
