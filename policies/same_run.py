"""Whether a run may be gone on with under the settings given now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robot_rl.errors import CheckpointError
from robot_rl.policies.run_folder import RunFolder


def require_same_run(path: Path, record: Mapping[str, Any], identity: Mapping[str, Any], may_grow: str) -> None:
    """What is recorded of the run at `path` is what is wanted now.

    Args:
        record: the run's own; at least the keys of `identity`.
        may_grow: field of the config that may be larger now than it was; "": none.

    Raises:
        CheckpointError: listing each difference.
    """
    wanted, stored = _flat(identity), _flat({key: record.get(key) for key in identity})
    keys = sorted(k for k in wanted.keys() | stored.keys() if _plain(wanted.get(k)) != _plain(stored.get(k)))
    length = f"config.{may_grow}"
    if length in keys and length in stored and wanted[length] > stored[length]:
        keys.remove(length)
    if keys:
        lines = "".join(f"\n  - {k}: the run has {stored.get(k)!r}, now {wanted.get(k)!r}" for k in keys)
        raise CheckpointError(f"{path} is another run and cannot be resumed with these settings:{lines}")


def stage_before(run: RunFolder, identity: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """The newest checkpoint of a run that a new one goes on from.

    Raises:
        CheckpointError: no run there, of another task or algorithm, or without a checkpoint that can be read.
    """
    record = run.read_info()
    for key in ("task", "algorithm"):
        if record.get(key) != identity[key]:
            raise CheckpointError(
                f"{run.path} is a run of {key} '{record.get(key)}', this one is of '{identity[key]}'; a next "
                "stage needs the same"
            )
    state = run.load_newest(say)
    if state is None:
        raise CheckpointError(f"the run in {run.path} has no checkpoint yet to go on from")
    return state


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
