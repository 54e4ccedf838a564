"""What all formats of other projects share: the options, what a reader finds, names, rows and the robot's own notes.

A reader gives arrays under our names with the rows that its format has. `episode_of` makes an `Episode` of them:
where no observation was kept after the last step, the one before is repeated or the step dropped, as the options say.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import DTYPES, SEEN, DataError, DataSpec, Episode, Feature, unfit_facts
from robot_rl.data.store import EpisodeStore, spec_from_json, spec_to_json
from robot_rl.errors import MissingDependency

OWN_VERSION = 1
_WIDER = {"float16": "float32", "int8": "int32", "int16": "int32", "uint16": "int32", "uint32": "int64"}


@dataclass(frozen=True)
class Options:
    """How to read or write a data set.

    Attributes:
        control_dt: s between steps, for formats that do not tell; it replaces what a format tells.
        rename: old name → new name; on import the old one is the source's, on export it is ours.
        last: `repeat` or `drop`, where the observation after the last step is not known.
        skip_damaged: leave out episodes that cannot be read, with a note, instead of stopping at the first.
    """

    control_dt: float | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    last: str = "repeat"
    skip_damaged: bool = False

    def __post_init__(self) -> None:
        if self.last not in ("repeat", "drop"):
            raise DataError(f"last = '{self.last}'; allowed: repeat, drop")


class Notes:
    """What the user should know, each sentence once, with how many episodes it holds for."""

    def __init__(self) -> None:
        self._count: dict[str, int] = {}

    def add(self, text: str) -> None:
        """Once for the whole data set."""
        self._count.setdefault(text, 0)

    def episode(self, text: str) -> None:
        """Holds for one more episode."""
        self._count[text] = self._count.get(text, 0) + 1

    def lines(self) -> list[str]:
        return [f"{text} ({n} episode{'s' * (n > 1)})" if n else text for text, n in self._count.items()]


@dataclass(frozen=True)
class Loaded:
    """One episode as its format has it: arrays by our name, with T or T + 1 rows; T is `steps`."""

    arrays: Mapping[str, NDArray[Any]]
    steps: int
    terminated: bool
    truncated: bool
    success: bool | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """A data set of another format, open for reading.

    Attributes:
        count: of episodes. load: gives one, raises DataError where it is damaged.
        control_dt: s, None where the format does not tell. task, robot, facts: for the spec.
        features: what they were before an export of ours, by our name; arrays are put back into those shapes.
        elements: names of an array's elements, by our name, where the format has them.
    """

    count: int
    load: Callable[[int], Loaded]
    control_dt: float | None
    task: str = ""
    robot: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, Feature] = field(default_factory=dict)
    elements: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Own:
    """What an export keeps beside the format's own data, so that our import gives the same again.

    Attributes:
        spec: of the exported file. names: their name → ours.
    """

    spec: DataSpec
    names: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return {"version": OWN_VERSION, "spec": spec_to_json(self.spec), "names": dict(self.names)}

    @staticmethod
    def from_json(data: Any, where: str) -> Own:
        """Raises DataError where it is not what `to_json` gave."""
        try:
            data = json.loads(data) if isinstance(data, (str, bytes)) else data
            if data["version"] != OWN_VERSION:
                raise DataError(f"version {data['version']}, allowed: {OWN_VERSION}")
            return Own(spec_from_json(data["spec"]), dict(data["names"]))
        except (ValueError, KeyError, TypeError, AttributeError, DataError) as error:
            raise DataError(f"{where} cannot be read ({error}); delete it to import without it") from error


def library(module: str, needed_for: str) -> Any:
    """A module of the extra `data`.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"PIL": "pillow"}.get(module.split(".")[0], module.split(".")[0])
        raise MissingDependency(f"the package '{package}'", needed_for, "pip install 'robot-rl[data]'") from error


def named(defaults: Mapping[str, str | None], rename: Mapping[str, str], notes: Notes) -> dict[str, str]:
    """Old name → new name of everything that is kept.

    Args:
        defaults: old name → its new name, or None where it has no place in the other format.
        rename: of the user, by the old name or by the new one it would have had.
        notes: gets a line for what is left out.

    Raises:
        DataError: `rename` names nothing that is there, or two would get one name.
    """
    unused = set(rename) - set(defaults) - {name for name in defaults.values() if name}
    if unused:
        raise DataError(f"--rename {', '.join(sorted(unused))}: no such feature; there are: {', '.join(defaults)}")
    kept: dict[str, str] = {}
    for old, default in defaults.items():
        new = rename.get(old) or rename.get(default or "") or default
        if new is None:
            notes.add(f"left out: {old} (no place for it; --rename {old}=NAME gives it one)")
        elif new in kept.values():
            twin = next(o for o, n in kept.items() if n == new)
            raise DataError(f"'{twin}' and '{old}' would both be called '{new}'; give one another name with --rename")
        else:
            kept[old] = new
    return kept


def plain(array: NDArray[Any], name: str) -> NDArray[Any]:
    """The same numbers in a dtype that episodes have. Raises DataError where there is none."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    dtype = _WIDER.get(str(array.dtype), str(array.dtype))
    if dtype not in DTYPES:
        raise DataError(
            f"'{name}' is {array.dtype}; allowed: {', '.join((*DTYPES, *_WIDER))}; leave it out, or convert it"
        )
    return array.astype(dtype, copy=False)


def as_described(array: NDArray[Any], feature: Feature, name: str) -> NDArray[Any]:
    """Rows and numbers as a feature of ours says, (T, …); formats widen scalars to (T, 1) and flags to numbers.

    Raises:
        DataError: it has another number of elements, or would lose something.
    """
    if array.size != len(array) * int(np.prod(feature.shape, dtype=int)):
        raise DataError(
            f"'{name}' has rows of shape {array.shape[1:]}, but {feature.shape} was exported; was it changed?"
        )
    cast = array.astype(feature.dtype)
    if array.dtype.kind != "f" and not np.array_equal(cast.astype(array.dtype), array):
        raise DataError(f"'{name}' does not fit {feature.dtype}, which was exported; was it changed?")
    return cast.reshape(len(array), *feature.shape)


def episode_of(loaded: Loaded, features: Mapping[str, Feature], last: str, notes: Notes) -> Episode:
    """Rows put right: T + 1 of what is seen, T of the rest.

    Raises:
        DataError: an array has another number of rows, no step is left, or a dtype is not known here.
    """
    steps, arrays, ends = loaded.steps, dict[str, NDArray[Any]](), dict[str, Any]()
    unseen = [n for n, a in loaded.arrays.items() if n.startswith(SEEN) and len(a) == steps]
    dropped = bool(unseen) and last == "drop"
    for name, array in loaded.arrays.items():
        if len(array) not in (steps, steps + 1):
            raise DataError(f"'{name}' has {len(array)} rows; {steps} steps need {steps} or {steps + 1}")
        if not name.startswith(SEEN):
            array = array[len(array) - steps :]  # what came with the reset belongs to no step
        elif len(array) == steps and not dropped:
            array = np.concatenate([array, array[-1:]]) if steps else array
        if dropped and (name not in unseen):
            array = array[:-1]
        array = plain(array, name)
        arrays[name] = as_described(array, features[name], name) if name in features else array
    if unseen:
        what = f"the observation after the last step is not known ({', '.join(sorted(unseen))})"
        notes.episode(f"{what}: {'the last step was dropped' if dropped else 'the last one was repeated'}")
        ends = {"last_seen": "last step dropped" if dropped else "repeated"}
    if steps - dropped < 1:
        raise DataError(f"it has {steps} steps; {1 + dropped} or more are needed")
    return Episode(
        arrays, loaded.terminated and not dropped, loaded.truncated or dropped, loaded.success,
        {**_as_json(loaded.facts, notes), **ends},
    )  # fmt: skip


def _as_json(facts: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """Facts that can be kept; what JSON cannot hold of them becomes a text."""
    kept = dict(facts)
    for name, value in facts.items():
        if unfit_facts({name: value}):
            kept[name] = json.loads(json.dumps(value, default=str), parse_constant=str)
            notes.add(f"the fact '{name}' was kept with a text where JSON cannot hold the value")
    return kept


def spec_of(found: Found, first: Episode, options: Options, notes: Notes) -> DataSpec:
    """The spec of the new file, from the first episode and from what the format tells.

    Raises:
        DataError: nobody tells the time between steps, or a feature has a name that means nothing here.
    """
    control_dt = options.control_dt if options.control_dt is not None else found.control_dt
    if control_dt is None:
        raise DataError("this data set does not say how long a step takes; give it with --control-dt SECONDS")
    features = dict[str, Feature]()
    for name, array in first.arrays.items():
        shape, names = array.shape[1:], found.elements.get(name, ())
        fits = len(names) == int(np.prod(shape, dtype=int))
        features[name] = found.features.get(name) or Feature(str(array.dtype), shape, "", names if fits else ())
    return DataSpec(control_dt, features, found.task, found.robot, _as_json(found.facts, notes))


def exportable(store: EpisodeStore) -> None:
    """Raises DataError where there is nothing that another project could use."""
    if not len(store):
        raise DataError(f"'{store.path}' has no episodes; there is nothing to export")
    if "action" not in store.spec.features:
        raise DataError(f"'{store.path}' has no feature 'action', which every other format requires")


def end_to_json(episode: Episode) -> dict[str, Any]:
    """What belongs to an episode as a whole, for `Own`."""
    return {
        "terminated": episode.terminated, "truncated": episode.truncated, "success": episode.success,
        "facts": dict(episode.facts),
    }  # fmt: skip
