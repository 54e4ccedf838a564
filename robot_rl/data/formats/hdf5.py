"""Reading and writing HDF5 so that a damaged file is named, not met as an exception of the library."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import DataError
from robot_rl.data.formats.exchange import library

OWN = "robot_rl"


@contextmanager
def opened_hdf5(path: Path) -> Iterator[Any]:
    """An `h5py.File`, for reading.

    Raises:
        DataError: it is no HDF5 file or cut short; or reading in it failed.
        MissingDependency: h5py is not installed.
    """
    h5py = library("h5py", "reading HDF5")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"'{path}' cannot be opened: {error}; is it a whole HDF5 file?") from error
    try:
        with file:
            yield file
    except (OSError, RuntimeError) as error:
        raise DataError(f"'{path}' cannot be read: {error}; the file is damaged") from error


def the_group(parent: Any, name: str, where: str) -> Any:
    """A group of that name. Raises DataError where there is none."""
    try:
        found = parent.get(name)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{where}: '{name}' cannot be read ({error})") from error
    if found is None or not hasattr(found, "keys"):
        raise DataError(f"{where} has no group '{name}'; there are: {', '.join(parent) or 'none'}")
    return found


def flat(group: Any) -> dict[str, Any]:
    """Path below the group → data set, of all data sets in it and in its groups, sorted."""
    found: dict[str, Any] = {}
    for name in sorted(group):
        try:
            member = group.get(name)
        except (OSError, RuntimeError) as error:
            raise DataError(f"'{group.name}/{name}' cannot be read ({error})") from error
        if hasattr(member, "keys"):
            found.update({f"{name}/{below}": dataset for below, dataset in flat(member).items()})
        elif member is not None:
            found[name] = member
    return found


def rows(dataset: Any, steps: int, more: int = 0) -> NDArray[Any]:
    """All of a data set, `steps` rows or up to `more` more.

    Raises:
        DataError: it has another number of rows, or cannot be read.
    """
    if dataset.ndim < 1 or not steps <= len(dataset) <= steps + more:
        allowed = f"{steps}" if not more else f"{steps} to {steps + more}"
        raise DataError(f"'{dataset.name}' has shape {dataset.shape}; {steps} actions need {allowed} rows")
    try:
        return np.asarray(dataset[()])
    except (OSError, RuntimeError) as error:
        raise DataError(f"'{dataset.name}' cannot be read ({error}); the file is damaged") from error


def put_array(group: Any, name: str, array: NDArray[Any]) -> None:
    """A data set; pictures are compressed, a chunk each, without loss."""
    if array.dtype == np.uint8 and array.ndim >= 3:
        group.create_dataset(name, data=array, chunks=(1, *array.shape[1:]), compression="gzip", compression_opts=1)
    else:
        group.create_dataset(name, data=array)


def put_json(group: Any, data: Mapping[str, Any]) -> None:
    """What only our import reads, beside what everybody does."""
    group.create_dataset(OWN, data=json.dumps(data))


def own_json(group: Any) -> str | None:
    """What `put_json` put there, or None."""
    found = group.get(OWN)
    if found is None or found.shape != ():
        return None
    text = found[()]
    return text.decode() if isinstance(text, bytes) else str(text)


def whole(text: str, where: str) -> dict[str, Any]:
    """What belongs to an episode as a whole, as `end_to_json` gave it. Raises DataError where it is something else."""
    try:
        found = json.loads(text)
        return {name: found[name] for name in ("terminated", "truncated", "success", "facts")}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"'{where}/{OWN}' cannot be read ({error}); delete it to import without it") from error


def json_attribute(group: Any, name: str) -> dict[str, Any]:
    """A JSON object in an attribute; empty where there is none. Raises DataError where it is damaged."""
    text = group.attrs.get(name)
    if text is None:
        return {}
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise DataError(f"it is a {type(found).__name__}")
        return found
    except (ValueError, TypeError, DataError) as error:
        raise DataError(f"attribute '{name}' of '{group.name}' is not a JSON object ({error})") from error
