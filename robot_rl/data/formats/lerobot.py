"""LeRobotDataset v3.0, reading: Parquet for numbers, MP4 for pictures, several episodes a file.

Layout: https://huggingface.co/docs/lerobot/lerobot-dataset-v3. `meta/info.json` has rate, features and path patterns,
`meta/episodes/` where each episode's rows and frames lie, `meta/tasks.parquet` the sentences. A frame is what was
seen and what was then done, so what was seen after the last step is missing, unless our export has kept it in
`meta/robot_rl.json`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import DataError, Feature
from robot_rl.data.formats.exchange import Found, Loaded, Notes, Options, Own, library, named
from robot_rl.data.formats.lerobot_write import OWN, write
from robot_rl.data.formats.parquet import read_table, values
from robot_rl.data.formats.video import pictures_at

__all__ = ["opened", "write"]

_BOOKKEEPING = {"timestamp", "frame_index", "episode_index", "index", "task_index"}
_ENDS = {"next.done", "next.truncated", "next.success"}
_EXACT = {
    "action": "action", "next.reward": "reward", "observation.image": "image/image",
    "complementary_info.is_intervention": "intervention",
}  # fmt: skip
_PREFIXES = {
    "observation.images.": "image/", "observation.": "obs/", "next.cost.": "cost/", "complementary_info.": "",
}  # fmt: skip


@dataclass
class _Source:
    """An open data set; the data file that was read last stays in memory, since episodes lie in them in order."""

    root: Path
    info: dict[str, Any]
    episodes: list[dict[str, Any]]
    tasks: dict[int, str]
    names: dict[str, str]
    own: list[dict[str, Any]] | None
    notes: Notes
    _table: tuple[Path, Any] | None = field(default=None)

    def load(self, index: int) -> Loaded:
        about = self.episodes[index]
        try:
            path = self.root / self.info["data_path"].format(
                chunk_index=about["data/chunk_index"], file_index=about["data/file_index"]
            )
            steps = int(about["length"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"meta/episodes has no {error} for episode {index}; is the data set whole?") from error
        rows = self._rows(path, index)
        if len(rows) != steps or not steps:
            raise DataError(
                f"'{path}' has {len(rows)} rows of episode {index}, meta/episodes says {steps}; is it whole?"
            )
        seconds = values(rows["timestamp"], "timestamp").astype(float)
        arrays = {
            ours: self._film(theirs, about, seconds, index)
            if self._kind(theirs) == "video"
            else self._stills(rows[theirs], theirs)
            if self._kind(theirs) == "image"
            else values(rows[theirs], theirs)
            for theirs, ours in self.names.items()
        }
        return self._ended(arrays, rows, steps, index)

    def _kind(self, name: str) -> str:
        return str(self.info["features"][name]["dtype"])

    def _rows(self, path: Path, index: int) -> Any:
        """The frames of an episode, in order; only the columns that are wanted."""
        if self._table is None or self._table[0] != path:
            wanted = {name for name in self.names if self._kind(name) != "video"}
            wanted |= {n for n in _ENDS if n in self.info["features"]} | {"episode_index", "timestamp", "task_index"}
            self._table = path, read_table(path, sorted(wanted))
        table = self._table[1]
        found = np.flatnonzero(values(table["episode_index"], "episode_index").reshape(-1) == index)
        if len(found) and found[-1] - found[0] + 1 != len(found):
            raise DataError(f"'{path}': the rows of episode {index} do not follow each other")
        return table.slice(int(found[0]), len(found)) if len(found) else table.slice(0, 0)

    def _film(self, name: str, about: Mapping[str, Any], seconds: NDArray[Any], index: int) -> NDArray[Any]:
        try:
            path = self.root / self.info["video_path"].format(
                video_key=name, chunk_index=about[f"videos/{name}/chunk_index"],
                file_index=about[f"videos/{name}/file_index"],
            )  # fmt: skip
            start = float(about[f"videos/{name}/from_timestamp"])
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise DataError(f"where the film '{name}' of episode {index} lies is not told ({error})") from error
        if not path.is_file():
            raise DataError(f"'{path}' is missing; is the data set whole?")
        return pictures_at(path, start + seconds.reshape(-1), float(self.info["fps"]))

    def _stills(self, column: Any, name: str) -> NDArray[Any]:
        image = library("PIL.Image", "reading pictures")
        pictures = list[NDArray[Any]]()
        for row, value in enumerate(column.to_pylist()):
            data = value.get("bytes") if isinstance(value, dict) else value
            if not data:
                raise DataError(
                    f"'{name}' has no picture in row {row}, only a path; embed the pictures, or store films"
                )
            try:
                pictures.append(np.asarray(image.open(io.BytesIO(data)).convert("RGB")))
            except (OSError, ValueError) as error:
                raise DataError(f"'{name}' has a picture in row {row} that cannot be read ({error})") from error
        return np.stack(pictures)

    def _ended(self, arrays: dict[str, NDArray[Any]], rows: Any, steps: int, index: int) -> Loaded:
        """How it ended: as exported by us, or from next.done, next.truncated and next.success."""
        if self.own is not None:
            kept = self.own[index]
            for ours, row in kept["last"].items():
                if ours in arrays:
                    last = np.asarray(row, arrays[ours].dtype).reshape(1, *arrays[ours].shape[1:])
                    arrays[ours] = np.concatenate([arrays[ours], last])
            return Loaded(arrays, steps, kept["terminated"], kept["truncated"], kept["success"], kept["facts"])
        told = {n: values(rows[n], n).reshape(steps).astype(bool) for n in _ENDS if n in rows.column_names}
        truncated = bool(told["next.truncated"][-1]) if "next.truncated" in told else False
        done = bool(told["next.done"][-1]) if "next.done" in told else False
        task = self.tasks.get(int(values(rows["task_index"], "task_index").reshape(-1)[0]), "")
        facts = {"task": task} if task else {}
        success = bool(told["next.success"].any()) if "next.success" in told else None
        return Loaded(arrays, steps, done and not truncated, truncated or not done, success, facts)


@contextmanager
def opened(source: Path, options: Options, notes: Notes) -> Iterator[Found]:
    """A data set by its folder.

    Raises:
        DataError: it is of another version, something is missing or damaged.
    """
    info = _info(source)
    episodes = _episodes(source, info)
    tasks = _tasks(source)
    own, ends = _own(source, episodes)
    names = named(_meanings(info["features"], own, notes), options.rename, notes)
    described: dict[str, Feature] = {}
    if own:
        described = {names[t]: own.spec.features[o] for t, o in own.names.items() if t in names}
        ends = ends and [{**e, "last": {names[t]: row for t, row in e["last"].items() if t in names}} for e in ends]
    elif not _ENDS & set(info["features"]):
        notes.add("nothing tells how episodes ended (no next.done): all are taken as truncated, none as judged")
    reader = _Source(source, info, episodes, tasks, names, ends if own else None, notes)
    task = next(iter(tasks.values())) if len(tasks) == 1 else ""
    yield Found(
        len(episodes), reader.load, own.spec.control_dt if own else 1.0 / float(info["fps"]),
        own.spec.task if own else task, own.spec.robot if own else str(info.get("robot_type") or ""),
        own.spec.facts if own else {"tasks": list(tasks.values())} if len(tasks) > 1 else {},
        described, {ours: _elements(info["features"][theirs]) for theirs, ours in names.items()},
    )  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise DataError(f"it is a {type(found).__name__}")
        return found
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}; every LeRobot data set has it") from error
    except (ValueError, DataError) as error:
        raise DataError(f"'{path}' is damaged: it is not a JSON object ({error})") from error


def _info(source: Path) -> dict[str, Any]:
    path = source / "meta" / "info.json"
    info = _json(path)
    version = str(info.get("codebase_version"))
    if not version.startswith("v3."):
        raise DataError(
            f"'{path}' says codebase_version = {version}; allowed: v3.x. LeRobot's own script "
            "convert_dataset_v21_to_v30 makes v3.0 of v2.1"
        )
    absent = [key for key in ("fps", "features", "data_path") if not info.get(key)]
    if absent:
        raise DataError(f"'{path}' has no {', '.join(absent)}; every LeRobot data set has them")
    if not isinstance(info["fps"], (int, float)) or info["fps"] <= 0:
        raise DataError(f"'{path}' says fps = {info['fps']!r}; it must be a positive number of frames a second")
    return info


def _episodes(source: Path, info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per episode, without its statistics, in order."""
    found = list[dict[str, Any]]()
    for path in sorted((source / "meta" / "episodes").glob("*/*.parquet")):
        table = read_table(path)
        if "episode_index" not in table.column_names:
            raise DataError(f"'{path}' has no column episode_index; it has {', '.join(table.column_names[:8])}, …")
        found += table.select([n for n in table.column_names if not n.startswith("stats/")]).to_pylist()
    found.sort(key=lambda row: row["episode_index"])
    if [row["episode_index"] for row in found] != list(range(int(info.get("total_episodes", len(found))))):
        raise DataError(
            f"'{source}/meta/episodes' has {len(found)} episodes, info.json says {info.get('total_episodes')}; "
            "is it whole?"
        )
    if not found:
        raise DataError(f"'{source}/meta/episodes' has no episodes")
    return found


def _tasks(source: Path) -> dict[int, str]:
    """Number → sentence; pandas keeps the sentences as names of the rows, in one column or another."""
    table = read_table(source / "meta" / "tasks.parquet")
    text = [name for name in table.column_names if name != "task_index"]
    if "task_index" not in table.column_names or not text:
        raise DataError(
            f"'{source}/meta/tasks.parquet' has columns {table.column_names}; task and task_index are needed"
        )
    name = "task" if "task" in text else text[0]
    numbers = values(table["task_index"], "task_index").tolist()
    return {int(n): str(s) for n, s in zip(numbers, table[name].to_pylist(), strict=True)}


def _own(source: Path, episodes: list[dict[str, Any]]) -> tuple[Own | None, list[dict[str, Any]] | None]:
    """What our export kept; DataError where episodes were added or taken away since."""
    path = source / OWN
    if not path.is_file():
        return None, None
    data = _json(path)
    own = Own.from_json(data, f"'{path}'")
    ends = data.get("episodes", [])
    if [e.get("steps") for e in ends] != [row.get("length") for row in episodes]:
        raise DataError(f"'{path}' describes other episodes; the data set was changed. Delete it to import without it")
    return own, ends


def _meanings(features: Mapping[str, Any], own: Own | None, notes: Notes) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name, feature in features.items():
        if name in _BOOKKEEPING | _ENDS:
            continue
        if own and name in own.names:
            found[name] = own.names[name]
            continue
        depth = {**(feature.get("info") or {}), **(feature.get("video_info") or {})}
        if depth.get("is_depth_map") or depth.get("video.is_depth_map"):
            notes.add(f"left out: {name} (films of depth are not supported)")
            continue
        usable = feature.get("dtype") not in ("string", "language", "audio")
        prefix = next((p for p in _PREFIXES if name.startswith(p)), "")
        ours = _EXACT.get(name) or (_PREFIXES[prefix] + name[len(prefix) :] if prefix else None)
        known = ours and (ours in ("action_proposed", "base_action", "intervention") or "/" in ours)
        if feature.get("dtype") in ("video", "image") and known and ours and ours.startswith("obs/"):
            ours = f"image/{ours[4:]}"
        found[name] = (ours if known or name in _EXACT else None) if usable else None
    return found


def _elements(feature: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the elements: a list, or a list under one key such as `motors`; none for pictures."""
    names = feature.get("names")
    if isinstance(names, dict) and len(names) == 1:
        names = next(iter(names.values()))
    picture = feature.get("dtype") in ("video", "image")
    return tuple(str(n) for n in names) if isinstance(names, list) and not picture else ()
