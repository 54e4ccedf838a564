"""Parquet columns as arrays and back, and what is wrong with a file in words."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import DataError
from robot_rl.data.formats.exchange import library


def read_table(path: Path, columns: Sequence[str] | None = None) -> Any:
    """A `pyarrow.Table`.

    Raises:
        DataError: the file is missing, no Parquet or cut short, or a column is not there.
        MissingDependency: pyarrow is not installed.
    """
    arrow, parquet = library("pyarrow", "Parquet files"), library("pyarrow.parquet", "Parquet files")
    try:
        file = parquet.ParquetFile(path)
        absent = set(columns or ()) - set(file.schema_arrow.names)
        if absent:
            raise DataError(
                f"'{path}' has no column {', '.join(sorted(absent))}; it has {', '.join(file.schema_arrow.names)}"
            )
        return file.read(columns=list(columns) if columns is not None else None)
    except FileNotFoundError as error:
        raise DataError(f"'{path}' is missing; is the data set whole?") from error
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"'{path}' cannot be read as Parquet: {error}") from error


def values(column: Any, name: str) -> NDArray[Any]:
    """A column of numbers or of lists of one length as an array (rows, …).

    Raises:
        DataError: values are missing, rows have different lengths, or they are no numbers.
    """
    array = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    array = getattr(array, "storage", array)
    if array.null_count:
        raise DataError(f"'{name}' has {array.null_count} missing values; every frame must have one")
    kind = str(array.type)
    if "list" in kind.split("<")[0]:
        lengths = library("pyarrow.compute", "Parquet files").list_value_length(array).to_numpy(zero_copy_only=False)
        if len(lengths) and (lengths != lengths[0]).any():
            row = int(np.flatnonzero(lengths != lengths[0])[0])
            raise DataError(
                f"'{name}' has {lengths[0]} values in row 0 and {lengths[row]} in row {row}; they must agree"
            )
        inner = values(array.flatten(), name)
        return inner.reshape(len(array), -1 if len(array) else 0, *inner.shape[1:])
    found = array.to_numpy(zero_copy_only=False)
    if found.dtype.kind not in "biuf":
        raise DataError(f"'{name}' is {kind}; allowed: numbers, booleans and lists of them")
    return found


def column(array: NDArray[Any]) -> Any:
    """An array (rows, …) as a column: plain numbers for one per row, else lists of fixed length."""
    arrow = library("pyarrow", "Parquet files")
    found = arrow.array(np.ascontiguousarray(array).reshape(-1))
    if math.prod(array.shape[1:]) == 1:
        return found
    for length in reversed(array.shape[2:]):
        found = _lists(arrow, found, length)
    return arrow.FixedSizeListArray.from_arrays(found, array.shape[1])


def _lists(arrow: Any, inner: Any, length: int) -> Any:
    return arrow.ListArray.from_arrays(np.arange(0, len(inner) + 1, length, dtype=np.int32), inner)


def write_table(path: Path, columns: dict[str, Any], index: str = "") -> None:
    """A Parquet file; `index` names the column that pandas takes as the names of the rows.

    Raises:
        DataError: it cannot be written.
    """
    arrow, parquet = library("pyarrow", "Parquet files"), library("pyarrow.parquet", "Parquet files")
    table = arrow.table(columns)
    if index:
        pandas = {
            "index_columns": [index], "column_indexes": [], "pandas_version": "2.2.0",
            "columns": [
                {"name": c, "field_name": c, "pandas_type": "unicode" if c == index else "int64",
                 "numpy_type": "object" if c == index else "int64", "metadata": None}
                for c in columns
            ],
        }  # fmt: skip
        table = table.replace_schema_metadata({b"pandas": json.dumps(pandas).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        parquet.write_table(table, path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be written: {error}") from error
