"""Labelled frames of recorded episodes: what was seen at each moment, and whether the task was solved then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_rl.data.episode import Episode
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError
from robot_rl.observer import Observer, initial_memory
from robot_rl.signals import Signal

SUCCESS = "obs/success"
"""A feature of this name, one number per frame, is the label."""
PARTS = ("learn", "calibrate", "test")
SHARES = (0.6, 0.2, 0.2)


class Momentary(Observer):
    """Another observer without its memory: what can be told from this moment's signals alone."""

    def __init__(self, base: Observer) -> None:
        super().__init__()
        self.base, self.signals, self.obs_dim = base, base.signals, base.obs_dim

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        nothing = 0.0 * next(iter(signals.values())).flatten(1)[:, :1]  # (N, 1): a shape that can be traced
        blank = {m.name: (torch.tensor(m.initial) + nothing).unflatten(1, m.shape) for m in self.base.memory}
        seen, _ = self.base({s.name: signals[s.name] for s in self.signals}, blank)
        return seen, memory


@dataclass(frozen=True)
class Frames:
    """F frames of E episodes.

    Attributes:
        obs: (F, n). pictures: (F, C, H, W, 3) uint8, or None. episode: (F,) int64.
        label: (F,) bool. clear: (F,) bool; the others, just before a success, are neither learnt from nor counted.
        succeeded: (E,) bool.
    """

    obs: Tensor
    pictures: Tensor | None
    episode: NDArray[np.int64]
    label: NDArray[np.bool_]
    clear: NDArray[np.bool_]
    succeeded: NDArray[np.bool_]

    def part(self, episodes: NDArray[np.int64]) -> Frames:
        """The frames of these episodes; their numbers stay."""
        rows = np.isin(self.episode, episodes)
        index = torch.from_numpy(np.nonzero(rows)[0])
        pictures = None if self.pictures is None else self.pictures[index]
        return Frames(
            self.obs[index], pictures, self.episode[rows], self.label[rows], self.clear[rows], self.succeeded
        )  # fmt: skip


def split(succeeded: NDArray[np.bool_], seed: int) -> dict[str, NDArray[np.int64]]:
    """Episodes to learn from, to calibrate on, and to test on, each with its share of successes and failures.

    Raises:
        ConfigError: too few of either for every part to have one.
    """
    rng, parts = np.random.default_rng(seed), {name: [] for name in PARTS}
    for outcome, word in ((True, "successful"), (False, "failed")):
        numbers = rng.permutation(np.nonzero(succeeded == outcome)[0])
        if len(numbers) < 5:
            raise ConfigError(f"{len(numbers)} {word} episodes; at least 5 are needed, record more (robot-rl demos "
                              "with --noise gives failures)")  # fmt: skip
        ends = np.round(np.cumsum(SHARES) * len(numbers)).astype(int)
        for name, part in zip(PARTS, np.split(numbers, ends[:-1]), strict=True):
            parts[name].append(part)
    return {name: np.sort(np.concatenate(found)) for name, found in parts.items()}


def read_frames(path: Path, observer: Observer, pictures: Sequence[Signal], last: int, margin: int) -> Frames:
    """Frames of a file of episodes as `observer` sees them.

    Args:
        observer: without memory. pictures: signals `image_<camera>`, read from features `image/<camera>`.
        last: of a successful episode so many frames are positive, those at its end; everything else is negative. Where
            the file has a feature `obs/success`, that is the label instead.
        margin: frames before the first positive one that are left out: it may be solved there already.

    Raises:
        ConfigError: features that are missing, or an episode that nobody judged.
        DataError: the file is damaged.
    """
    with EpisodeStore.open(path) as store:
        wanted = {f"obs/{s.name}": s.shape for s in observer.signals}
        wanted |= {f"image/{s.name.removeprefix('image_')}": s.shape for s in pictures}
        missing = [n for n, shape in wanted.items() if n not in store.spec.features
                   or store.spec.features[n].shape != shape]  # fmt: skip
        if missing:
            raise ConfigError(f"'{path}' lacks {', '.join(missing)}, or has other shapes; it holds "
                              f"{', '.join(store.spec.features)}")  # fmt: skip
        labelled = SUCCESS in store.spec.features
        episodes = list(store)
    if any(e.success is None for e in episodes) and not labelled:
        raise ConfigError(f"'{path}' has episodes that nobody judged; a task that knows success records it")
    if not episodes:
        raise ConfigError(f"'{path}' has no episodes")
    labels = [_labels(e, last, margin, labelled) for e in episodes]
    seen = [_observed(e, observer) for e in episodes]
    views = [np.concatenate([e.arrays[name] for e in episodes]) for name in wanted if name.startswith("image/")]
    return Frames(
        torch.cat(seen), torch.from_numpy(np.stack(views, 1)) if views else None,
        np.repeat(np.arange(len(episodes)), [len(s) for s in seen]),
        np.concatenate([label for label, _ in labels]), np.concatenate([clear for _, clear in labels]),
        np.array([bool(label.any()) for label, _ in labels]),
    )  # fmt: skip


def _labels(
    episode: Episode, last: int, margin: int, labelled: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:  # fmt: skip
    rows = len(episode) + 1
    label = np.zeros(rows, bool)
    if labelled:
        label = episode.arrays[SUCCESS].reshape(rows) > 0.5
    elif episode.success:
        label[-last:] = True
    clear = np.ones(rows, bool)
    if label.any() and not labelled:
        first = int(np.argmax(label))
        clear[max(first - margin, 0) : first] = False
    return label, clear


@torch.no_grad()
def _observed(episode: Episode, observer: Observer) -> Tensor:
    arrays: dict[str, Any] = {s.name: episode.arrays[f"obs/{s.name}"] for s in observer.signals}
    signals = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in arrays.items()}
    return observer(signals, initial_memory(observer.memory, len(episode) + 1))[0]
