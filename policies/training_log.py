"""What a training run tells: metrics.jsonl and TensorBoard on disk, one progress line on screen, episode figures."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from robot_rl.policies.run_folder import explained

PLAIN_LINE_SECONDS = 10.0


class EpisodeMeter:
    """Return and length of ended episodes, averaged over the last `window` of them."""

    def __init__(self, num_envs: int, window: int = 100) -> None:
        self.current_return = np.zeros(num_envs)
        self.current_length = np.zeros(num_envs)
        self.returns: deque[float] = deque(maxlen=window)
        self.lengths: deque[float] = deque(maxlen=window)
        self.failures: deque[float] = deque(maxlen=window)

    def add(self, reward: Tensor, terminated: Tensor, truncated: Tensor) -> None:
        """One step of every environment: reward, terminated, truncated (N,)."""
        self.current_return += reward.cpu().numpy()
        self.current_length += 1.0
        failed = terminated.cpu().numpy()
        done = failed | truncated.cpu().numpy()
        if done.any():
            (ended,) = done.nonzero()
            self.returns += self.current_return[ended].tolist()
            self.lengths += self.current_length[ended].tolist()
            self.failures += failed[ended].astype(float).tolist()
            self.current_return[ended] = 0.0
            self.current_length[ended] = 0.0

    def forget_running(self) -> None:
        """Episodes that are not over never will be."""
        self.current_return[:], self.current_length[:] = 0.0, 0.0

    def metrics(self) -> dict[str, float]:
        """Means over the window; empty before the first episode has ended."""
        if not self.returns:
            return {}
        n = len(self.returns)
        return {
            "episode/return": sum(self.returns) / n,
            "episode/length": sum(self.lengths) / n,
            "episode/terminated": sum(self.failures) / n,
        }

    def state_dict(self) -> dict[str, Any]:
        """Running and ended episodes."""
        windows = {name: list(getattr(self, name)) for name in ("returns", "lengths", "failures")}
        return {"current": [self.current_return.tolist(), self.current_length.tolist()], **windows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what state_dict gave."""
        self.current_return[:], self.current_length[:] = state["current"]
        for name in ("returns", "lengths", "failures"):
            window = getattr(self, name)
            window.clear()
            window.extend(state[name])


class StepLog:
    """Means of what `Step.log` tells during a rollout, added up where the environment is: no waiting for the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, log: Mapping[str, Tensor]) -> None:
        """The log of one step; a name may be missing from some."""
        for name, value in log.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def metrics(self) -> dict[str, float]:
        """Means since the last call, by `env/NAME`; then it is empty."""
        means = {f"env/{name}": float(total) / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means


class MetricsLog:
    """Appends one JSON object per iteration to metrics.jsonl, and the same numbers to TensorBoard.

    Args:
        folder: run folder.
        keep_bytes: length of metrics.jsonl at the checkpoint from which the run goes on (0: a new run); what was
            written after it is cut off, so that a resumed run's log equals an uninterrupted one's.
        iteration: the checkpoint's iteration; TensorBoard hides its events after it.
        tensorboard: also write TensorBoard events (skipped where the package is absent).
    """

    def __init__(self, folder: Path, keep_bytes: int = 0, iteration: int = 0, tensorboard: bool = True) -> None:
        self.file = open(folder / "metrics.jsonl", "ab")  # noqa: SIM115 - closed by close()
        self.file.truncate(keep_bytes)
        self.file.seek(0, os.SEEK_END)
        self.writer = _tensorboard_writer(folder / "tensorboard", iteration) if tensorboard else None

    def write(self, iteration: int, row: Mapping[str, float]) -> None:
        """Append one row and hand it to the system (a killed process loses nothing)."""
        line = {"iteration": iteration, **{k: _rounded(v) for k, v in row.items()}}
        data = json.dumps(line).encode() + b"\n"
        try:
            self.file.write(data)
            self.file.flush()
        except OSError as error:
            raise explained(error, Path(self.file.name), len(data)) from error
        if self.writer is not None:
            for name, value in row.items():
                self.writer.add_scalar(name, value, iteration)

    def sync(self) -> int:
        """Force metrics.jsonl to the disk; returns its length in bytes, for the checkpoint."""
        os.fsync(self.file.fileno())
        return self.file.tell()

    def close(self) -> None:
        """Close both; idempotent."""
        self.file.close()
        if self.writer is not None:
            self.writer.close()


def _rounded(value: float) -> float | None:
    return float(f"{value:.7g}") if value == value and abs(value) != float("inf") else None


def _tensorboard_writer(folder: Path, iteration: int) -> Any:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=iteration + 1 if iteration else None)


class ProgressDisplay:
    """A live bar on a terminal; elsewhere (log files, CI) one plain line every ten seconds and at the end.

    Args:
        console: where to; None is silent.
        title: left of the bar.
        total: iterations' unit total of `Algorithm.progress`.
        shown: names of the metrics worth a place on the line.
    """

    def __init__(self, console: Console | None, title: str, total: int, shown: Sequence[str]) -> None:
        self.console, self.title, self.total, self.shown = console, title, total, shown
        self.progress: Progress | None = None
        self.last_line = time.monotonic()
        if console is not None and console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.percentage:>3.0f}%"))
            self.progress = Progress(
                *columns, TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=console
            )
            self.task = self.progress.add_task(title, total=total, text="")
            self.progress.start()

    def update(self, done: int, row: Mapping[str, float]) -> None:
        """Show how far the run is and the metrics chosen from `row`."""
        text = "  ".join(f"{name.rsplit('/', 1)[-1]} {row[name]:.4g}" for name in self.shown if name in row)
        text += f"  {row.get('env_steps_per_second', 0.0):,.0f} steps/s"
        if self.progress is not None:
            self.progress.update(self.task, completed=done, text=text)
        elif self.console is not None and (
            done >= self.total or time.monotonic() - self.last_line > PLAIN_LINE_SECONDS
        ):
            self.last_line = time.monotonic()
            self.console.print(
                f"{self.title}  {100 * done / max(self.total, 1):.0f} %  {text}", highlight=False, soft_wrap=True
            )

    def say(self, message: str) -> None:
        """A line of its own, above the bar."""
        if self.console is not None:
            self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the bar as it stands; idempotent."""
        if self.progress is not None:
            self.progress.stop()
