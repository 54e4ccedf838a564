"""LeRobotDataset v3.0, writing: numbers as Parquet, 8-bit colour pictures as films, several episodes a file.

A frame holds what was seen before a step and what was done then. What the layout has no place for (what was seen after
the last step, units, shapes, facts, who judged) stands in `meta/robot_rl.json`, which others ignore.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.episode import SEEN, DataError, Episode, Feature
from robot_rl.data.formats.exchange import Notes, Options, Own, end_to_json, library, named
from robot_rl.data.formats.parquet import column, write_table
from robot_rl.data.formats.statistics import Stats, joined, of_numbers, of_pictures
from robot_rl.data.formats.video import CODEC, FilmWriter
from robot_rl.data.store import EpisodeStore

OWN = "meta/robot_rl.json"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FILM = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
CHUNK, DATA_MB, FILM_MB = 1000, 100, 200  # files a chunk, size of a file: LeRobot's own defaults
_ENDS = {"next.done": "terminated", "next.truncated": "truncated"}


class _Writer:
    """One export: the open files, and what is known about the episodes so far."""

    def __init__(self, store: EpisodeStore, root: Path, names: Mapping[str, str], fps: int) -> None:
        self.store, self.root, self.names, self.fps = store, root, names, fps
        self.films: dict[str, tuple[int, FilmWriter]] = {}
        self.data: Any = None
        self.data_file, self.frames = 0, 0
        self.rows: list[dict[str, Any]] = []
        self.stats: dict[str, Stats] = {}
        self.tasks: dict[str, int] = {}
        self.ends: list[dict[str, Any]] = []

    def add(self, episode: Episode) -> None:
        """One more episode at the end of the open files; new ones where they have grown too large."""
        steps, index = len(episode), len(self.rows)
        task = str(episode.facts.get("task") or self.store.spec.task or "unnamed")
        number = self.tasks.setdefault(task, len(self.tasks))
        row = {
            "episode_index": index, "tasks": [task], "length": steps, "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + steps, "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
        }  # fmt: skip
        stats: dict[str, Stats] = {}
        columns = {
            "timestamp": (np.arange(steps) / self.fps).astype(np.float32), "frame_index": np.arange(steps),
            "episode_index": np.full(steps, index), "index": self.frames + np.arange(steps),
            "task_index": np.full(steps, number), **_ended(episode, _judged(self.store)),
        }  # fmt: skip
        for ours, theirs in self.names.items():
            array = episode.arrays[ours][:steps]
            if is_film(ours, self.store.spec.features[ours]):
                row.update(self._film(theirs, array))
                stats[theirs] = of_pictures(array)
            else:
                columns[theirs] = array
        stats.update({name: of_numbers(array) for name, array in columns.items()})
        row.update(self._numbers(columns))
        row.update({f"stats/{n}/{key}": v.tolist() for n, one in stats.items() for key, v in one.items()})
        self.stats = {n: joined(self.stats[n], one) if n in self.stats else one for n, one in stats.items()}
        self.rows.append(row)
        self.frames += steps
        last = {
            ours: episode.arrays[ours][-1].tolist()
            for ours in self.names
            if ours.startswith(SEEN) and not is_film(ours, self.store.spec.features[ours])
        }
        self.ends.append({**end_to_json(episode), "steps": steps, "last": {self.names[o]: v for o, v in last.items()}})

    def _film(self, name: str, pictures: Any) -> dict[str, Any]:
        """Add to a camera's film; gives where this episode lies in it."""
        file, film = self.films.get(name, (-1, None))
        if film is None or film.path.stat().st_size > FILM_MB * 1e6:
            if film is not None:
                film.close()
            file += 1
            place = FILM.format(video_key=name, chunk_index=file // CHUNK, file_index=file % CHUNK)
            film = FilmWriter(self.root / place, self.fps, pictures.shape[1:])
            self.films[name] = file, film
        start = film.frames
        film.add(pictures)
        return {
            f"videos/{name}/chunk_index": file // CHUNK, f"videos/{name}/file_index": file % CHUNK,
            f"videos/{name}/from_timestamp": start / self.fps, f"videos/{name}/to_timestamp": film.frames / self.fps,
        }  # fmt: skip

    def _numbers(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Add a row group to the data file; gives where it lies."""
        arrow, parquet = library("pyarrow", "LeRobot's format"), library("pyarrow.parquet", "LeRobot's format")
        table = arrow.table({name: column(array) for name, array in columns.items()})
        if self.data is not None and self.root.joinpath(self._data_path()).stat().st_size > DATA_MB * 1e6:
            self.data.close()
            self.data, self.data_file = None, self.data_file + 1
        if self.data is None:
            path = self.root / self._data_path()
            path.parent.mkdir(parents=True, exist_ok=True)
            self.data = parquet.ParquetWriter(path, table.schema)
        self.data.write_table(table)
        return {"data/chunk_index": self.data_file // CHUNK, "data/file_index": self.data_file % CHUNK}

    def _data_path(self) -> str:
        return DATA.format(chunk_index=self.data_file // CHUNK, file_index=self.data_file % CHUNK)

    def close(self) -> None:
        """Close the films and the data file; the metadata are not written."""
        for _, film in self.films.values():
            film.close()
        if self.data is not None:
            self.data.close()

    def finish(self) -> None:
        """The folder `meta`, once all episodes are there."""
        arrow = library("pyarrow", "LeRobot's format")
        meta = self.root / "meta"
        columns = {name: arrow.array([row[name] for row in self.rows]) for name in self.rows[0]}
        write_table(self.root / EPISODES.format(chunk_index=0, file_index=0), columns)
        tasks = {"task_index": arrow.array(list(self.tasks.values())), "task": arrow.array(list(self.tasks))}
        write_table(meta / "tasks.parquet", tasks, "task")
        stats = {name: {key: v.tolist() for key, v in one.items()} for name, one in self.stats.items()}
        (meta / "stats.json").write_text(json.dumps(stats, indent=1), encoding="utf-8")
        (meta / "info.json").write_text(json.dumps(self._info(), indent=1), encoding="utf-8")
        own = Own(self.store.spec, {theirs: ours for ours, theirs in self.names.items()}).to_json()
        (self.root / OWN).write_text(json.dumps({**own, "episodes": self.ends}), encoding="utf-8")

    def _info(self) -> dict[str, Any]:
        features = {theirs: self._feature(ours) for ours, theirs in self.names.items()}
        for name in (*_ENDS, *(["next.success"] if _judged(self.store) else [])):
            features[name] = {"dtype": "bool", "shape": [1], "names": None}
        features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
        for name in ("frame_index", "episode_index", "index", "task_index"):
            features[name] = {"dtype": "int64", "shape": [1], "names": None}
        return {
            "codebase_version": "v3.0", "robot_type": self.store.spec.robot or None, "total_episodes": len(self.rows),
            "total_frames": self.frames, "total_tasks": len(self.tasks), "chunks_size": CHUNK,
            "data_files_size_in_mb": DATA_MB, "video_files_size_in_mb": FILM_MB, "fps": self.fps,
            "splits": {"train": f"0:{len(self.rows)}"}, "data_path": DATA, "video_path": FILM if self.films else None,
            "features": features,
        }  # fmt: skip

    def _feature(self, ours: str) -> dict[str, Any]:
        feature = self.store.spec.features[ours]
        if is_film(ours, feature):
            film = self.films[self.names[ours]][1]
            about = {
                "video.height": feature.shape[0], "video.width": feature.shape[1], "video.channels": 3,
                "video.codec": CODEC, "video.pix_fmt": film.pixels, "video.fps": self.fps,
                "video.is_depth_map": False, "has_audio": False,
            }  # fmt: skip
            names = ["height", "width", "channels"]
            return {"dtype": "video", "shape": list(feature.shape), "names": names, "info": about}
        shape = list(feature.shape) if math.prod(feature.shape) > 1 else [1]
        return {"dtype": feature.dtype, "shape": shape, "names": list(feature.names) or None}


def is_film(name: str, feature: Feature) -> bool:
    """Whether a feature becomes a film: pictures in 8-bit colour, (H, W, 3)."""
    return name.startswith("image/") and feature.dtype == "uint8" and len(feature.shape) == 3 and feature.shape[2] == 3


def _judged(store: EpisodeStore) -> bool:
    return all(store.about(i)["success"] is not None for i in range(len(store)))


def _ended(episode: Episode, judged: bool) -> dict[str, Any]:
    """Flags of each frame, true in the last one where the episode ended so."""
    last = np.arange(len(episode)) == len(episode) - 1
    flags = {name: last & bool(getattr(episode, what)) for name, what in _ENDS.items()}
    return {**flags, **({"next.success": last & bool(episode.success)} if judged else {})}


def _their_name(ours: str) -> str:
    top, _, rest = ours.partition("/")
    rest = rest.replace("/", ".")  # their names have no '/'
    places = {"obs": f"observation.{rest}", "image": f"observation.images.{rest}", "cost": f"next.cost.{rest}"}
    exact = {"action": "action", "reward": "next.reward"}
    return exact.get(ours) or places.get(top) or f"complementary_info.{ours}"


def write(store: EpisodeStore, aside: Path, options: Options, notes: Notes) -> None:
    """All episodes as a folder.

    Raises:
        DataError: the rate is no whole number of frames a second, two features would get one name, a name has a '/', or
            the disk is full.
        MissingDependency: pyarrow or av is not installed.
    """
    fps = round(1.0 / store.spec.control_dt)
    if fps < 1 or abs(fps * store.spec.control_dt - 1.0) > 1e-3:
        raise DataError(
            f"control_dt = {store.spec.control_dt} s is {1 / store.spec.control_dt:.3f} frames a second; LeRobot "
            "allows whole numbers only. Resample the episodes, or export to robomimic or minari"
        )
    names = named({ours: _their_name(ours) for ours in store.spec.features}, options.rename, notes)
    slashed = [new for new in names.values() if "/" in new]
    if slashed:
        raise DataError(f"--rename …={slashed[0]}: LeRobot allows no '/' in names; use '.'")
    writer = _Writer(store, aside, names, fps)
    try:
        for episode in store:
            writer.add(episode)
        writer.close()
        writer.finish()
    except OSError as error:
        raise DataError(f"'{aside.name}' cannot be written: {error}") from error
    finally:
        writer.close()
    if writer.films:
        notes.add("films lose a little of each picture, and the one after the last step is not kept")
