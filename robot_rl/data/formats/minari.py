"""Minari's HDF5: `data/metadata.json` and `data/main_data.hdf5` with one group per episode.

Layout: https://minari.farama.org/content/dataset_standards/. Observations have T + 1 rows; a Dict space is a group, a
Tuple space a group of `_index_0`, `_index_1`, …; infos have T + 1 rows, the first came with the reset. Pictures are
JPEG unless `jpeg_encoding` is false, which the export chooses to lose nothing. Arrow files are refused by name.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import SEEN, DataError, Episode, Feature
from robot_rl.data.formats.exchange import Found, Loaded, Notes, Options, Own, end_to_json, library, named
from robot_rl.data.formats.hdf5 import OWN, flat, opened_hdf5, own_json, put_array, put_json, rows, the_group, whole
from robot_rl.data.store import EpisodeStore

MAIN, METADATA = "main_data.hdf5", "metadata.json"
_WRITTEN_FOR = "0.5.4"  # the first version that reads `jpeg_encoding`
_STEP = {"rewards": "reward"}
_ENDS = ("terminations", "truncations", "infos/success", OWN)


@contextmanager
def opened(source: Path, options: Options, notes: Notes) -> Iterator[Found]:
    """The episodes of a data set: its folder, the folder `data` in it, or the file itself.

    Raises:
        DataError: metadata are missing or damaged, it is no HDF5, or episodes are missing.
    """
    folder = source.parent if source.is_file() else source
    folder = folder if (folder / METADATA).is_file() or not (folder / "data").is_dir() else folder / "data"
    metadata = _metadata(folder / METADATA)
    with opened_hdf5(folder / MAIN) as file:
        count = int(metadata.get("total_episodes", len(file)))
        missing = [f"episode_{i}" for i in range(count) if f"episode_{i}" not in file]
        if missing or not count:
            what = (
                f"{len(missing)} of {count} episodes are missing, the first is {missing[0]}"
                if missing
                else "no episodes"
            )
            raise DataError(f"'{folder / MAIN}': {what}; is the data set whole?")
        own = Own.from_json(metadata[OWN], f"'{folder / METADATA}', {OWN}") if OWN in metadata else None
        jpeg = bool(metadata.get("jpeg_encoding", True))
        meanings = _meanings(the_group(file, "episode_0", f"'{folder / MAIN}'"), own)
        names = named(meanings, options.rename, notes)
        if "action" not in names.values():
            parts = ", ".join(name for name in meanings if name.startswith("actions"))
            raise DataError(f"there is no single array of actions; choose one with --rename OLD=action, of: {parts}")
        kept = {k: v for k, v in metadata.items() if k not in (OWN, "observation_space", "action_space")}
        described = {names[t]: own.spec.features[o] for t, o in own.names.items() if t in names} if own else {}
        yield Found(
            count,
            lambda index: _load(the_group(file, f"episode_{index}", "the file"), names, jpeg, notes),
            own.spec.control_dt if own else None,
            own.spec.task if own else str(metadata.get("dataset_id", "")),
            own.spec.robot if own else "",
            own.spec.facts if own else {"minari": kept},
            described,
        )


def _metadata(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise DataError(f"it is a {type(found).__name__}")
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}; every Minari data set has it") from error
    except (ValueError, DataError) as error:
        raise DataError(f"'{path}' is damaged: it is not a JSON object ({error})") from error
    storage = found.get("data_format", "hdf5")
    if storage != "hdf5":
        raise DataError(
            f"'{path}' says data_format = '{storage}'; allowed: hdf5. Load it with Minari and write it again with "
            "data_format='hdf5'"
        )
    return found


def _meanings(episode: Any, own: Own | None) -> dict[str, str | None]:
    """Name in the group → our name, None where it means nothing here."""
    found: dict[str, str | None] = {}
    for name, dataset in flat(episode).items():
        top, _, rest = name.partition("/")
        if name in _ENDS or (own and name == "rewards" and name not in own.names):
            continue
        if own and name in own.names:
            found[name] = own.names[name]
        elif top == "observations":
            found[name] = _seen_name(rest or "observation", dataset)
        elif name == "actions":
            found[name] = "action"
        else:
            found[name] = _STEP.get(name)
    return found


def _seen_name(name: str, dataset: Any) -> str | None:
    """`image/…` for pictures, packed as JPEG (rows of bytes) or not; None for text."""
    if _packed(dataset) or (dataset.dtype == np.uint8 and dataset.ndim == 4 and dataset.shape[-1] in (1, 3, 4)):
        return f"image/{name}"
    return f"obs/{name}" if dataset.dtype.kind in "biuf" else None


def _packed(dataset: Any) -> bool:
    """Whether rows are JPEG files: byte strings of changing length, or of one length that begin as those do."""
    if dataset.dtype.kind == "O":
        first = dataset[0] if len(dataset) else b""
        return isinstance(first, np.ndarray) and bytes(first[:2].astype(np.uint8)) == b"\xff\xd8"
    if dataset.dtype != np.uint8 or dataset.ndim != 2 or not len(dataset):
        return False
    return bytes(dataset[0, :2]) == b"\xff\xd8"


def _load(episode: Any, names: Mapping[str, str], jpeg: bool, notes: Notes) -> Loaded:
    datasets = flat(episode)
    absent = [n for n in (*names, "rewards", "terminations", "truncations") if n not in datasets]
    if absent:
        raise DataError(f"'{episode.name}' has no '{absent[0]}'; there are: {', '.join(datasets)}")
    steps = len(datasets["rewards"])
    arrays: dict[str, NDArray[Any]] = {}
    for theirs, ours in names.items():
        array = rows(datasets[theirs], steps, 1)
        arrays[ours] = _unpacked(array, theirs) if jpeg and ours.startswith("image/") and array.ndim <= 2 else array
        if theirs.startswith("observations") and len(array) != steps + 1:
            raise DataError(f"'{episode.name}/{theirs}' has {len(array)} rows; {steps} rewards need {steps + 1}")
    if (text := own_json(episode)) is not None:
        return Loaded(arrays, steps, **whole(text, episode.name))
    terminated, truncated = rows(datasets["terminations"], steps), rows(datasets["truncations"], steps)
    if steps and (terminated[:-1].any() or truncated[:-1].any()):
        notes.episode(
            "an end (termination or truncation) before the last step was not kept; only the last step's counts"
        )
    ended = bool(steps and terminated[-1]), bool(steps and truncated[-1])
    if not any(ended):
        notes.episode("it neither terminated nor was truncated at its last step: taken as truncated")
    success = bool(rows(datasets["infos/success"], steps, 1).any()) if "infos/success" in datasets else None
    facts = {k: v.item() if hasattr(v, "item") else str(v) for k, v in episode.attrs.items() if np.size(v) == 1}
    return Loaded(arrays, steps, ended[0], ended[1] or not ended[0], success, facts)


def _unpacked(packed: NDArray[Any], name: str) -> NDArray[Any]:
    """(T + 1, H, W, C) uint8 from JPEG files."""
    image = library("PIL.Image", "reading pictures")
    try:
        return np.stack([np.asarray(image.open(io.BytesIO(np.asarray(b, np.uint8).tobytes()))) for b in packed])
    except (OSError, ValueError) as error:
        raise DataError(f"'{name}' has a picture that cannot be read ({error})") from error


def write(store: EpisodeStore, aside: Path, options: Options, notes: Notes) -> None:
    """All episodes as a folder with `data/metadata.json` and `data/main_data.hdf5`.

    Raises:
        DataError: two features would get one name, or the disk is full.
    """
    h5py = library("h5py", "Minari's format")
    names = named({ours: _their_name(ours) for ours in store.spec.features}, options.rename, notes)
    own = Own(store.spec, {theirs: ours for ours, theirs in names.items()})
    folder = aside / "data"
    try:
        folder.mkdir(parents=True)
        steps = 0
        with h5py.File(folder / MAIN, "x", track_order=True) as file:
            for index, episode in enumerate(store):
                _put(file.create_group(f"episode_{index}"), index, episode, names)
                steps += len(episode)
        if "reward" not in store.spec.features:
            notes.add("no rewards were recorded; zeros stand in their place, because Minari wants some")
        notes.add("spaces are unbounded: episodes do not know the limits of what was observed and done")
        observed = {
            t.partition("/")[2]: store.spec.features[o] for o, t in names.items() if t.startswith("observations/")
        }
        metadata = {
            "total_episodes": len(store), "total_steps": steps, "data_format": "hdf5", "jpeg_encoding": False,
            "observation_space": json.dumps(_dict_space(observed)),
            "action_space": json.dumps(_space(store.spec.features["action"])),
            "dataset_id": f"{_slug(store.spec.task or store.path.stem)}-v0", "minari_version": _WRITTEN_FOR,
            "dataset_size": round((folder / MAIN).stat().st_size / 1e6, 1), OWN: own.to_json(),
        }  # fmt: skip
        (folder / METADATA).write_text(json.dumps(metadata), encoding="utf-8")
    except OSError as error:
        raise DataError(f"'{aside.name}' cannot be written: {error}") from error


def _their_name(ours: str) -> str:
    top, _, rest = ours.partition("/")
    if top in ("obs", "image"):
        return f"observations/{rest}"
    return {"action": "actions", "reward": "rewards"}.get(ours, f"infos/{ours}")


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in text)


def _put(group: Any, index: int, episode: Episode, names: Mapping[str, str]) -> None:
    steps = len(episode)
    for ours, theirs in names.items():
        array = episode.arrays[ours]
        if not ours.startswith(SEEN) and theirs.startswith("infos/"):
            array = np.concatenate([np.zeros_like(array[:1]), array])  # a row for the reset, as Minari has it
        put_array(group, theirs, array)
    if "rewards" not in group:
        put_array(group, "rewards", np.zeros(steps))
    last = np.arange(steps) == steps - 1
    put_array(group, "terminations", last & episode.terminated)
    put_array(group, "truncations", last & episode.truncated)
    group.attrs["id"], group.attrs["total_steps"] = index, steps
    if isinstance(seed := episode.facts.get("seed"), int):
        group.attrs["seed"] = seed
    put_json(group, end_to_json(episode))


def _dict_space(features: Mapping[str, Feature]) -> dict[str, Any]:
    """A Dict space; names with `/` are groups in groups."""
    space: dict[str, Any] = {"type": "Dict", "subspaces": {}}
    for name in sorted(features):
        *above, leaf = name.split("/")
        at = space
        for part in above:
            at = at["subspaces"].setdefault(part, {"type": "Dict", "subspaces": {}})
        at["subspaces"][leaf] = _space(features[name])
    return space


def _space(feature: Feature) -> dict[str, Any]:
    """A Box over all that the dtype can hold, as Minari writes it in JSON."""
    dtype = np.dtype(feature.dtype)
    if dtype.kind == "f":
        low, high = -np.inf, np.inf
    elif dtype.kind == "b":
        dtype, low, high = np.dtype(np.int8), 0, 1
    else:
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    return {
        "type": "Box", "dtype": str(dtype), "shape": list(feature.shape),
        "low": np.full(feature.shape, low).tolist(), "high": np.full(feature.shape, high).tolist(),
    }  # fmt: skip
