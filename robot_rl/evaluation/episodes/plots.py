"""Pictures of a file of recorded episodes: how they went, one of them over time, and what actions there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import SEEN, DataError, DataSpec, Episode, Feature
from robot_rl.data.store import EpisodeStore
from robot_rl.evaluation.plots import COLOURS, GRID, INK, styled_figure
from robot_rl.evaluation.report import share
from robot_rl.evaluation.statistics import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY = 200  # elements of a feature: more, as in a picture, are not drawn over time
NAMED = 8  # lines of one plot that get a legend
COLUMNS = 4  # histograms side by side
NEAR = 0.02  # of the range: an action so near to its end counts as being there
_OUTCOMES = ((COLOURS[0], True, "success"), (COLOURS[1], False, "failure"), (COLOURS[2], None, "not judged"))


@dataclass(frozen=True)
class _Summary:
    """By episode: seconds, return (NaN without rewards), success (None where nobody judged); all actions (n, A)."""

    seconds: NDArray[np.float64]
    returns: NDArray[np.float64]
    success: list[bool | None]
    actions: dict[str, NDArray[np.float64]]


def save_plots(path: Path, folder: Path, index: int = 0) -> list[Path]:
    """`overview.png`, `episode-<index>.png` and, where actions were recorded, `actions.png`; returns the files written.

    Raises:
        DataError: the file is damaged, empty, or has no such episode.
        MissingDependency: matplotlib is not installed.
    """
    with EpisodeStore.open(path) as store:
        episode, spec = episode_of(store, index), store.spec
        summary = _summary(store)
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{path.name}, {spec.task}" if spec.task else path.name
    written = [
        plot_overview(summary, folder / "overview.png", title),
        plot_episode(episode, spec, folder / f"episode-{index}.png", f"{title}, episode {index}: {_outcome(episode)}"),
    ]
    if "action" in summary.actions:
        written.append(plot_actions(summary.actions, spec.features["action"], folder / "actions.png", title))
    return written


def episode_of(store: EpisodeStore, index: int) -> Episode:
    """Episode `index`, from 0. Raises DataError where there is none, saying which there are."""
    if not 0 <= index < len(store):
        there = f"it has 0 to {len(store) - 1}" if len(store) else "it is empty"
        raise DataError(f"there is no episode {index} in '{store.path}'; {there}")
    return store[index]


def plot_overview(summary: _Summary, path: Path, title: str) -> Path:
    """Length and return of each episode, coloured by its success, with the share of successes in the title."""
    judged = [good for good in summary.success if good is not None]
    if judged:
        title += f": success {share(wilson(sum(judged), len(judged)))} of {len(judged)} judged"
    rewarded = bool(np.isfinite(summary.returns).all())
    panels = [("length [s]", summary.seconds), *([("return", summary.returns)] if rewarded else [])]
    with styled_figure(2, len(panels), (4.6 * len(panels), 5.6)) as (figure, axes):
        for k, (label, values) in enumerate(panels):
            over, spread = axes[k], axes[len(panels) + k]
            for colour, kind, text in _OUTCOMES:
                which = np.array([good is kind for good in summary.success])
                if which.any():
                    over.plot(np.flatnonzero(which), values[which], "o", color=colour, markersize=3, label=text)
            over.set(xlabel="episode", ylabel=label)
            spread.hist(values, bins=min(30, max(5, len(values) // 2)), color=COLOURS[0])
            spread.set(xlabel=label, ylabel="episodes")
        axes[0].legend()
        figure.suptitle(title)
        figure.savefig(path)
    return path


def plot_episode(episode: Episode, spec: DataSpec, path: Path, title: str) -> Path:
    """Every feature over time but pictures; shaded where a person acted."""
    drawn = {n: f for n, f in spec.features.items() if not n.startswith("image/") and np.prod(f.shape) <= MANY}
    acted = episode.arrays.get("intervention")
    with styled_figure(max(len(drawn), 1), 1, (9, 1.6 * len(drawn) + 0.9)) as (figure, axes):
        for ax, (name, feature) in zip(axes, drawn.items(), strict=False):
            rows = episode.arrays[name].reshape(len(episode.arrays[name]), -1).astype(float)
            _draw_lines(ax, np.arange(len(rows)) * spec.control_dt, rows, feature, name.startswith(SEEN))
            ax.set_ylabel(f"{name} [{feature.unit}]" if feature.unit else name, fontsize=7)
            for begin, end in spans(acted.astype(bool)) if acted is not None else ():
                ax.axvspan(begin * spec.control_dt, end * spec.control_dt, color=COLOURS[4], alpha=0.25, linewidth=0)
        axes[-1].set_xlabel("time [s]" + (" (shaded: a person acted)" if acted is not None and acted.any() else ""))
        figure.suptitle(title)
        figure.savefig(path)
    return path


def plot_actions(actions: dict[str, NDArray[np.float64]], feature: Feature, path: Path, title: str) -> Path:
    """A histogram of each action over all episodes against its range: −1 to 1, or what occurs where that is more."""
    done, proposed = actions["action"], actions.get("action_proposed")
    names = feature.names or tuple(f"action {i}" for i in range(done.shape[1]))
    columns, low, high = min(COLUMNS, len(names)), *action_range(done)
    rows = -(-len(names) // columns)
    with styled_figure(rows, columns, (3.0 * columns, 1.9 * rows + 0.9)) as (figure, axes):
        for i, ax in enumerate(axes):
            if i >= len(names):
                ax.set_visible(False)
                continue
            values, bins = done[:, i], np.linspace(low[i], high[i], 42)
            ax.axvspan(low[i], high[i], color=GRID, alpha=0.4, linewidth=0)
            ax.hist(values, bins, color=COLOURS[0])
            if proposed is not None:
                ax.hist(proposed[:, i], bins, histtype="step", color=COLOURS[1])
            ax.set_yscale("log")
            ax.set_title(f"{names[i]}{f' [{feature.unit}]' if feature.unit else ''}", fontsize=8)
            ax.set_xlabel(f"at an end {100 * at_an_end(values, low[i], high[i]):.1f} %", fontsize=7)
        more = "; orange: as proposed" if proposed is not None else ""
        figure.suptitle(f"executed actions, {len(done)} steps{more}: {title}")
        figure.savefig(path)
    return path


def action_range(actions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest (A,) that actions (n, A) can be: ±1 where all are within, else what occurs."""
    low, high = actions.min(axis=0), actions.max(axis=0)
    normal = (low >= -1.0) & (high <= 1.0)
    return np.where(normal, -1.0, low), np.where(normal, 1.0, high)


def at_an_end(values: NDArray[np.float64], low: float, high: float) -> float:
    """Share of the values (n,) within 2 % of the range from one of its ends."""
    near = NEAR * (high - low)
    return float(((values <= low + near) | (values >= high - near)).mean())


def spans(on: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, one after the last) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(int)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _draw_lines(ax: Axes, times: NDArray[Any], rows: NDArray[Any], feature: Feature, seen: bool) -> None:
    """Lines for what is seen, steps for what holds until the next one."""
    named: Sequence[str] = feature.names or [str(i) for i in range(rows.shape[1])]
    few = 1 < rows.shape[1] <= NAMED
    for i, name in enumerate(named):
        style: Any = {
            "linewidth": 0.9 if rows.shape[1] <= NAMED else 0.4,
            "drawstyle": "default" if seen else "steps-post",
        }
        ax.plot(times, rows[:, i], label=name, color=COLOURS[i % 6] if rows.shape[1] > 1 else INK, **style)
    if few:
        ax.legend(fontsize=6, ncols=rows.shape[1], loc="upper right")


def _summary(store: EpisodeStore) -> _Summary:
    seconds, returns, success = list[float](), list[float](), list[bool | None]()
    actions = {
        name: list[NDArray[np.float64]]() for name in ("action", "action_proposed") if name in store.spec.features
    }
    for episode in store:
        seconds.append(len(episode) * store.spec.control_dt)
        rewards = episode.arrays.get("reward")
        returns.append(float("nan") if rewards is None else float(rewards.sum()))
        success.append(episode.success)
        for name, parts in actions.items():
            parts.append(episode.arrays[name].reshape(len(episode), -1).astype(float))
    joined = {name: np.concatenate(parts) for name, parts in actions.items()}
    return _Summary(np.array(seconds), np.array(returns), success, joined)


def _outcome(episode: Episode) -> str:
    words = next(text for _, kind, text in _OUTCOMES if kind is episode.success)
    return f"{words}, time ran out" if episode.truncated else words
