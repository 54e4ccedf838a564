"""robomimic's HDF5: one group per demonstration with actions, rewards, dones, obs and next_obs.

Layout: https://robomimic.github.io/docs/datasets/overview.html. Images are uint8 (H, W, C); observations have T rows,
next_obs, where it is kept, has the T that follow. The time between steps is in `env_args`, as `control_freq` (Hz).
What the layout has no place for stands in a data set `robot_rl`, of the file and of each demonstration, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import SEEN, DataError, Episode
from robot_rl.data.formats.exchange import Found, Loaded, Notes, Options, Own, end_to_json, library, named
from robot_rl.data.formats.hdf5 import (
    flat,
    json_attribute,
    opened_hdf5,
    own_json,
    put_array,
    put_json,
    rows,
    the_group,
    whole,
)  # fmt: skip
from robot_rl.data.store import EpisodeStore

GYM_ENV = 2  # robomimic's number for a Gymnasium environment
_STEP = {"actions": "action", "rewards": "reward"}
_KNOWN = {"dones", "next_obs", "robot_rl"}


@contextmanager
def opened(source: Path, options: Options, notes: Notes) -> Iterator[Found]:
    """The demonstrations of a file, in the order of their numbers.

    Raises:
        DataError: it is not such a file, or damaged.
    """
    with opened_hdf5(source) as file:
        data = the_group(file, "data", f"'{source}'")
        demos = sorted((name for name in data if name.startswith("demo_")), key=_number)
        if not demos:
            raise DataError(f"'{source}' has no demonstrations: 'data' holds no groups demo_0, demo_1, …")
        own = Own.from_json(own_json(file), f"'{source}', robot_rl") if own_json(file) is not None else None
        names = named(_meanings(the_group(data, demos[0], f"'{source}'"), own), options.rename, notes)
        env_args = json_attribute(data, "env_args")
        kwargs = env_args.get("env_kwargs") or {}
        frequency = kwargs.get("control_freq")
        members = {mask: _members(dataset) for mask, dataset in flat(file.get("mask", {})).items()}
        described = {names[t]: own.spec.features[o] for t, o in own.names.items() if t in names} if own else {}
        yield Found(
            len(demos),
            lambda index: _load(the_group(data, demos[index], "data"), names, members, notes),
            own.spec.control_dt if own else 1.0 / float(frequency) if frequency else None,
            own.spec.task if own else str(env_args.get("env_name", "")),
            own.spec.robot if own else "+".join(np.atleast_1d(kwargs.get("robots") or "").tolist()),
            own.spec.facts if own else {"env_args": env_args} if env_args else {},
            described,
        )


def _number(demo: str) -> int:
    try:
        return int(demo.removeprefix("demo_"))
    except ValueError as error:
        raise DataError(f"group '{demo}' has no number; robomimic counts demo_0, demo_1, …") from error


def _members(dataset: Any) -> set[str]:
    return {n.decode() if isinstance(n, bytes) else str(n) for n in dataset[()]}


def _meanings(demo: Any, own: Own | None) -> dict[str, str | None]:
    """Name in the group → our name, None where it means nothing here."""
    found: dict[str, str | None] = {}
    for name, dataset in flat(demo).items():
        top, _, rest = name.partition("/")
        if top in _KNOWN:
            continue
        if own and name in own.names:
            found[name] = own.names[name]
        elif own and name in ("states", "rewards"):
            continue  # the export put them there, because robomimic wants some
        elif name in _STEP:
            found[name] = _STEP[name]
        elif top == "obs" and dataset.dtype.kind in "biuf":
            image = dataset.dtype == np.uint8 and dataset.ndim == 4 and dataset.shape[-1] in (1, 3, 4)
            found[name] = f"{'image' if image else 'obs'}/{rest}"
        else:
            found[name] = None
    if "actions" not in found:
        raise DataError(f"'{demo.name}' has no 'actions'; there are: {', '.join(found) or 'no data sets'}")
    return found


def _load(demo: Any, names: Mapping[str, str], members: Mapping[str, set[str]], notes: Notes) -> Loaded:
    datasets = flat(demo)
    if "actions" not in datasets:
        raise DataError(f"'{demo.name}' has no 'actions'; is it whole?")
    steps = len(datasets["actions"])
    told = demo.attrs.get("num_samples", steps)
    if told != steps:
        raise DataError(f"'{demo.name}' has {steps} actions, but num_samples = {told}")
    arrays: dict[str, NDArray[Any]] = {}
    for theirs, ours in names.items():
        if theirs not in datasets:
            raise DataError(f"'{demo.name}' has no '{theirs}', which the first demonstration has")
        array = rows(datasets[theirs], steps)
        after = datasets.get(f"next_{theirs}") if ours.startswith(SEEN) else None
        if after is not None:
            array = _followed(array, rows(after, steps), ours, notes)
        arrays[ours] = array
    if (text := own_json(demo)) is not None:
        return Loaded(arrays, steps, **whole(text, demo.name))
    done = bool(rows(datasets["dones"], steps)[-1]) if "dones" in datasets else False
    notes.add("terminated is what 'dones' says of the last step; robomimic does not say whether an episode succeeded")
    label = demo.name.split("/")[-1]
    masks = [mask for mask, demos in members.items() if label in demos]
    return Loaded(arrays, steps, done, not done, None, {"demo": label, **({"mask": masks} if masks else {})})


def _followed(array: NDArray[Any], after: NDArray[Any], name: str, notes: Notes) -> NDArray[Any]:
    """T rows and the last of those that follow them."""
    if after.shape != array.shape:
        raise DataError(f"next_obs of '{name}' has shape {after.shape}, obs {array.shape}; they must be the same")
    if not np.array_equal(after[:-1], array[1:], equal_nan=array.dtype.kind == "f"):
        notes.episode(f"next_obs of '{name}' is not obs of the next step; obs was taken, of next_obs only the last row")
    return np.concatenate([array, after[-1:]])


def write(store: EpisodeStore, aside: Path, options: Options, notes: Notes) -> None:
    """All episodes as demonstrations demo_0, and so on.

    Raises:
        DataError: two features would get one name, or the disk is full.
    """
    h5py = library("h5py", "robomimic's format")
    names = named({ours: _their_name(ours) for ours in store.spec.features}, options.rename, notes)
    own = Own(store.spec, {theirs: ours for ours, theirs in names.items()})
    masks: dict[str, list[str]] = {}
    try:
        with h5py.File(aside, "x") as file:
            data = file.create_group("data")
            total = 0
            for index, episode in enumerate(store):
                _put(data.create_group(f"demo_{index}"), episode, names, notes)
                total += len(episode)
                for mask in episode.facts.get("mask", []):
                    masks.setdefault(mask, []).append(f"demo_{index}")
            data.attrs["total"] = total
            data.attrs["env_args"] = json.dumps(_env_args(store, notes))
            for mask, demos in masks.items():
                file.create_dataset(f"mask/{mask}", data=np.array(demos, dtype="S"))
            put_json(file, own.to_json())
    except OSError as error:
        raise DataError(f"'{aside.name}' cannot be written: {error}") from error


def _their_name(ours: str) -> str:
    top, _, rest = ours.partition("/")
    return f"obs/{rest}" if top in ("obs", "image") else {"action": "actions", "reward": "rewards"}.get(ours, ours)


def _put(demo: Any, episode: Episode, names: Mapping[str, str], notes: Notes) -> None:
    steps = len(episode)
    for ours, theirs in names.items():
        array = episode.arrays[ours]
        if array.ndim == 1 and ours != "reward":
            array = array[:, None]  # robomimic has vectors, but for rewards
        put_array(demo, theirs, array[:steps])
        if ours.startswith(SEEN):
            put_array(demo, f"next_{theirs}", array[1:])
        if ours == "action" and np.abs(array).max() > 1:
            notes.add(
                "actions go beyond −1 … 1, where robomimic expects them: scale them, or train with its normaliser"
            )
    if "rewards" not in demo:
        put_array(demo, "rewards", np.zeros(steps))
        notes.add("no rewards were recorded; zeros stand in their place, because robomimic wants some")
    dones = np.zeros(steps, np.int64)
    dones[-1] = episode.terminated
    put_array(demo, "dones", dones)
    put_array(demo, "states", np.zeros((steps, 0)))
    demo.attrs["num_samples"] = steps
    put_json(demo, end_to_json(episode))


def _env_args(store: EpisodeStore, notes: Notes) -> dict[str, Any]:
    kept = store.spec.facts.get("env_args")
    if isinstance(kept, dict):
        return kept
    notes.add("env_args names no environment that robomimic could make: training works, rollouts in it do not")
    return {
        "env_name": store.spec.task or "robot_rl", "env_type": GYM_ENV,
        "env_kwargs": {"control_freq": 1.0 / store.spec.control_dt, "robots": store.spec.robot},
    }  # fmt: skip
