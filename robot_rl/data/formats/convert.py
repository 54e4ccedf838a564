"""A data set of another project → a file of episodes, and back; both are written aside and renamed when whole."""

from __future__ import annotations

import importlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from robot_rl.data.disk import publish
from robot_rl.data.episode import DataError, DataSpec, Episode
from robot_rl.data.formats.exchange import Found, Notes, Options, episode_of, exportable, spec_of
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import UnknownName

FORMATS = ("lerobot", "robomimic", "minari")


@dataclass(frozen=True)
class Report:
    """What was done: `notes` says, in words, what the formats could not hold or what was left out."""

    format: str
    episodes: int
    steps: int
    notes: list[str]


def guess(source: Path) -> str:
    """The format of a data set, from the files that are there.

    Raises:
        DataError: nothing is there, or it looks like none of them.
    """
    if not source.exists():
        raise DataError(f"'{source}' does not exist")
    if (source / "meta" / "info.json").is_file():
        return "lerobot"
    if any((folder / "metadata.json").is_file() for folder in (source, source / "data", source.parent)):
        return "minari"
    if source.is_file() and source.suffix in (".hdf5", ".h5"):
        return "robomimic"
    raise DataError(
        f"'{source}' looks like none of the known formats. LeRobot: a folder with meta/info.json; Minari: a folder "
        f"with data/metadata.json; robomimic: a file .hdf5. If it is one of them, say --format {'|'.join(FORMATS)}"
    )


def import_episodes(source: Path, out: Path, format: str | None = None, options: Options | None = None) -> Report:
    """Write the episodes of a data set of another project into a new file `out`.

    Raises:
        DataError: `out` exists; the source is damaged, of another version, or something of it has no place here; or no
            episode is left. Nothing is left behind then.
        MissingDependency, UnknownName: a library is not installed; there is no such format.
    """
    format = format or guess(source)
    options, notes = options or Options(), Notes()
    if out.exists():
        raise DataError(f"'{out}' exists; choose another name")
    if not source.exists():
        raise DataError(f"'{source}' does not exist")
    aside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with _module(format).opened(source, options, notes) as found:
            episodes, steps = _written(found, aside, options, notes)
        if not episodes:
            raise DataError(f"'{source}' has no episodes that could be read:\n  - " + "\n  - ".join(notes.lines()))
        publish(aside, out)
    finally:
        aside.unlink(missing_ok=True)
    return Report(format, episodes, steps, notes.lines())


def export_episodes(source: Path, target: Path, format: str, options: Options | None = None) -> Report:
    """Write all episodes of a file as a data set of another project: a folder, or a file for robomimic.

    Raises:
        DataError: `target` exists; the file is damaged, empty or without actions; or something of it has no place
            there. Nothing is left behind then.
        MissingDependency, UnknownName: a library is not installed; there is no such format.
    """
    options, notes = options or Options(), Notes()
    write = _module(format).write
    if target.exists():
        raise DataError(f"'{target}' exists; choose another name")
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    with EpisodeStore.open(source) as store:
        exportable(store)
        try:
            write(store, aside, options, notes)
            if aside.is_file():
                publish(aside, target)
            else:
                aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            aside.unlink(missing_ok=True)
        steps = sum(store.about(i)["steps"] for i in range(len(store)))
        return Report(format, len(store), steps, notes.lines())


def _module(format: str) -> ModuleType:
    if format not in FORMATS:
        raise UnknownName("format", format, FORMATS)
    return importlib.import_module(f"robot_rl.data.formats.{format}")


def _written(found: Found, aside: Path, options: Options, notes: Notes) -> tuple[int, int]:
    """Episodes and steps that were written; none where no episode could be read."""
    store: EpisodeStore | None = None
    steps = 0
    try:
        for index in range(found.count):
            try:
                episode = episode_of(found.load(index), found.features, options.last, notes)
                if store is None:
                    store = EpisodeStore.create(aside, _spec(found, episode, options, notes))
                store.append(episode, durable=False)
            except _Unusable:
                raise
            except DataError as error:
                if not options.skip_damaged:
                    raise DataError(f"episode {index}: {error}; --skip-damaged leaves it out") from error
                notes.add(f"left out episode {index}: {error}")
            else:
                steps += len(episode)
        if store is None:
            return 0, 0
        store.sync()
        return len(store), steps
    finally:
        if store is not None:
            store.close()


class _Unusable(DataError):
    """The whole data set cannot be kept, not only one episode."""


def _spec(found: Found, first: Episode, options: Options, notes: Notes) -> DataSpec:
    try:
        return spec_of(found, first, options, notes)
    except DataError as error:
        raise _Unusable(str(error)) from error
