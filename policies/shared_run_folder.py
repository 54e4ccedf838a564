"""The run folder of several processes that train together: rank 0 reads and writes, the others get what it has read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robot_rl.errors import CheckpointError
from robot_rl.policies.distributed import Ranks
from robot_rl.policies.run_folder import RunFolder

OWN = ("algorithm", "env", "random")
"""Parts of a checkpoint that every process has for itself; those of rank 0 stand where they do without others."""


class SharedRunFolder(RunFolder):
    """A RunFolder for `ranks`; with one process it is just that. All processes must call the same methods.

    What goes wrong on rank 0 is raised everywhere, so that nobody waits for a process that has ended.
    """

    def __init__(self, path: Path | str, keep: int, ranks: Ranks) -> None:
        super().__init__(path, keep)
        self.ranks = ranks

    def open_new(self) -> None:
        self._on_first(super().open_new)

    def open_existing(self) -> dict[str, Any]:
        info: dict[str, Any] = self._on_first(super().open_existing)
        return info

    def write_info(self, info: Mapping[str, Any]) -> None:
        if self.ranks.rank == 0:
            super().write_info(info)

    def save(self, iteration: int, state: Mapping[str, Any]) -> Path:
        shares = self.ranks.gather({name: state[name] for name in OWN})
        whole = dict(state) if not shares or len(shares) == 1 else {**state, "other_processes": shares[1:]}
        path: Path = self._on_first(lambda: super(SharedRunFolder, self).save(iteration, whole))
        return path

    def keep_only(self, path: Path) -> None:
        self._on_first(lambda: super(SharedRunFolder, self).keep_only(path))

    def load_newest(self, say: Callable[[str], None] | None = None) -> dict[str, Any] | None:
        state: dict[str, Any] | None = self._on_first(lambda: super(SharedRunFolder, self).load_newest(say))
        if state is None:
            return None
        shares = state.pop("other_processes", [])
        if len(shares) + 1 != self.ranks.count:
            raise CheckpointError(
                f"the run in {self.path} was trained by {len(shares) + 1} processes, now there are {self.ranks.count}; "
                f"go on with torchrun --nproc-per-node {len(shares) + 1}, or start a new run"
            )
        return state if self.ranks.rank == 0 else {**state, **shares[self.ranks.rank - 1]}

    def _on_first(self, call: Callable[[], Any]) -> Any:
        result, problem = None, None
        if self.ranks.rank == 0:
            try:
                result = call()
            except CheckpointError as error:
                problem = error
        result, problem = self.ranks.from_first((result, problem))
        if problem is not None:
            raise problem
        return result


class NoLog:
    """In place of a MetricsLog where another process writes the metrics."""

    def write(self, iteration: int, row: Mapping[str, float]) -> None:
        """Nothing."""

    def sync(self) -> int:
        """Nothing was written."""
        return 0

    def close(self) -> None:
        """Nothing to close."""
