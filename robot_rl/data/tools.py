"""What can be said about files of episodes, and one made of several."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.disk import aside, publish
from robot_rl.data.episode import DataError, DataSpec, problems
from robot_rl.data.store import EpisodeStore


@dataclass(frozen=True)
class Info:
    """A file in numbers.

    Attributes:
        episodes, steps, seconds; mean_steps, shortest, longest: of an episode.
        successes, judged: episodes that succeeded, of those somebody judged. returns: mean sum of rewards, or None.
        interventions: share of steps in which a person acted, or None where that was not recorded.
        megabytes: of the file. features: name → what it is, in words. task, robot, control_dt, facts: of the spec.
        torn: bytes of no whole episode at the end. kept_aside: names of the files that have earlier ones.
    """

    episodes: int
    steps: int
    seconds: float
    mean_steps: float
    shortest: int
    longest: int
    successes: int
    judged: int
    returns: float | None
    interventions: float | None
    megabytes: float
    features: dict[str, str]
    task: str
    robot: str
    control_dt: float
    facts: dict[str, Any]
    torn: int
    kept_aside: list[str]


def info(path: Path) -> Info:
    """Read everything once. Raises DataError where something is damaged."""
    with EpisodeStore.open(path) as store:
        lengths, successes, judged = [], 0, 0
        returns: list[float] = []
        acted: list[float] = []
        for episode in store:
            lengths.append(len(episode))
            judged += episode.success is not None
            successes += bool(episode.success)
            if "reward" in episode.arrays:
                returns.append(float(episode.arrays["reward"].sum()))
            if "intervention" in episode.arrays:
                acted.append(float(episode.arrays["intervention"].sum()))
        spec, torn, steps = store.spec, store.torn, sum(lengths)
        features = {
            name: " ".join(str(part) for part in (f.dtype, f.shape or "", f.unit, ", ".join(f.names)) if part)
            for name, f in spec.features.items()
        }
    return Info(
        len(lengths), steps, steps * spec.control_dt, steps / max(len(lengths), 1), min(lengths, default=0),
        max(lengths, default=0), successes, judged, float(np.mean(returns)) if returns else None,
        sum(acted) / max(steps, 1) if acted else None, path.stat().st_size / 1e6, features, spec.task, spec.robot,
        spec.control_dt, dict(spec.facts), torn, [kept.name for kept in kept_aside(path)],
    )  # fmt: skip


def check(path: Path) -> list[str]:
    """Every check sum, every shape, every number; what is wrong, in words. Changes nothing.

    Raises:
        DataError: the file cannot be read at all.
    """
    found: list[str] = []
    with EpisodeStore.open(path) as store:
        for index in range(len(store)):
            try:
                wrong = problems(store[index], store.spec)
            except DataError as error:
                found.append(str(error))
                continue
            found += [f"episode {index}: {text}" for text in wrong]
        if store.torn:
            found.append(
                f"{store.torn} bytes of an unfinished or damaged episode at the end; opening the file for appending "
                f"moves them into '{path.name}.torn-…'"
            )
    return found


def kept_aside(path: Path) -> list[Path]:
    """The files into which torn ends of this one were moved, see `EpisodeStore.open`."""
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.torn-*"))


def merge(paths: Sequence[Path], out: Path, skip_damaged: bool = False) -> tuple[int, list[str]]:
    """One new file with the episodes of all, in order; written aside, it gets its name when it is on the disk.

    The facts that all files share are its own; with the name of each file, all of its facts stand in `merged`.

    Returns:
        how many episodes it has, and what was left out.

    Raises:
        DataError: `out` exists, specs differ (each point is listed), or an episode is damaged and may not be skipped.
    """
    if out.exists():
        raise DataError(f"'{out}' exists; choose another name")
    spec, unfinished, left_out = _merged_spec(paths), aside(out), list[str]()
    try:
        with EpisodeStore.create(unfinished, spec) as merged:
            for path in paths:
                with EpisodeStore.open(path) as store:
                    left_out += _copied(store, merged, skip_damaged)
            merged.sync()
            count = len(merged)
        publish(unfinished, out)
    finally:
        unfinished.unlink(missing_ok=True)
    return count, left_out


def _merged_spec(paths: Sequence[Path]) -> DataSpec:
    """Of the first file, with the facts of all. Raises DataError where the others do not fit it."""
    specs = list[DataSpec]()
    for path in paths:
        with EpisodeStore.open(path) as store:
            specs.append(store.spec)
        differences = specs[0].differences(specs[-1])
        if differences:
            raise DataError(f"'{paths[0]}' and '{path}' differ:\n  - " + "\n  - ".join(differences))
    first = dict(specs[0].facts)
    shared = {k: v for k, v in first.items() if all(k in s.facts and s.facts[k] == v for s in specs)}
    origins = [{"file": path.name, "facts": dict(s.facts)} for path, s in zip(paths, specs, strict=True)]
    return replace(specs[0], facts={**shared, "merged": origins})


def _copied(store: EpisodeStore, merged: EpisodeStore, skip_damaged: bool) -> list[str]:
    """Append all episodes; gives what was left out. Raises DataError where one is damaged and may not be skipped."""
    left_out = list[str]()
    for index in range(len(store)):
        try:
            episode = store[index]
        except DataError as error:
            if not skip_damaged:
                raise DataError(f"{error}; --skip-damaged leaves it out") from error
            left_out.append(str(error))
            continue
        merged.append(episode, durable=False)
    if store.torn:
        left_out.append(f"{store.torn} bytes of no whole episode at the end of '{store.path}'")
    return left_out
