"""Recorded episodes as tensors to learn from: observation groups, actions, and which transitions belong together."""

from __future__ import annotations

from collections.abc import Mapping
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

WHICH = ("all", "successful")
LABELS = ("action", "action_proposed")


@dataclass(frozen=True)
class Demonstrations:
    """R transitions of E episodes, one behind the other.

    Attributes:
        obs: group → (R, n), before each transition.
        action: (R, A) in [−1, 1].
        episode: (R,) int64, 0 … E − 1.
        last: (R,) int64, the last transition of the same episode.
        pictures: (R, C, H, W, 3) uint8 of C cameras, before each transition; None without pictures.
    """

    obs: dict[str, Tensor]
    action: Tensor
    episode: Tensor
    last: Tensor
    pictures: Tensor | None = None

    def __len__(self) -> int:
        return len(self.action)

    @property
    def episodes(self) -> int:
        return int(self.episode[-1]) + 1

    def chunks(self, index: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
        """The actions (B, H, A) from transitions `index` (B,) on, and (B, H) bool: those within the episode.

        Beyond its end the last action stands.
        """
        wanted = index[:, None] + torch.arange(horizon, device=index.device)
        within = wanted <= self.last[index][:, None]
        return self.action[torch.minimum(wanted, self.last[index][:, None])], within

    def pictures_at(self, index: Tensor) -> Tensor | None:
        """Those of transitions `index` (B,): (B, C, H, W, 3), or None."""
        return None if self.pictures is None else self.pictures[index]


def load_demonstrations(
    path: str,
    dims: Mapping[str, int],
    action_dim: int,
    *,
    which: str = "successful",
    label: str = "action",
    episodes: int = 0,
    pictures: Mapping[str, tuple[int, ...]] | None = None,
    device: torch.device | str = "cpu",
) -> Demonstrations:
    """Read a file that `robot-rl demos` or a recorder has written.

    Args:
        path: file of episodes with features `obs/<group>` and the label, in the environment's units.
        dims: size of each observation group that is needed. action_dim: A.
        which: "successful" leaves out what failed or was not judged.
        label: the feature that is the action to learn: what was executed, or what was proposed before noise.
        episodes: at most so many, the first; 0: all.
        pictures: camera → (H, W, 3) of the features `image/<camera>` that are needed, all of one shape.
        device: where the tensors lie.

    Raises:
        ConfigError: no path, features that are missing or do not fit the task, no episode left, actions out of range.
        DataError: the file is damaged.
    """
    wanted: dict[str, tuple[int, ...]] = {f"obs/{group}": (size,) for group, size in dims.items()}
    wanted |= {label: (action_dim,)} | {f"image/{camera}": shape for camera, shape in (pictures or {}).items()}
    chosen = chosen_episodes(path, wanted, which=which, episodes=episodes)
    lengths = torch.tensor([len(e) for e in chosen])
    numbers = torch.repeat_interleave(torch.arange(len(chosen)), lengths)
    action = _joined([e.arrays[label] for e in chosen])
    obs = {group: _joined([_before(e, f"obs/{group}") for e in chosen]).to(device) for group in dims}
    last = (lengths.cumsum(0) - 1)[numbers].to(device)
    seen = _pictures(chosen, pictures or {}, device)
    return Demonstrations(obs, action.to(device), numbers.to(device), last, seen)


def chosen_episodes(
    path: str, features: Mapping[str, tuple[int, ...]], *, which: str = "successful", episodes: int = 0
) -> list[Episode]:
    """Episodes of a file, or the first so many, that hold what is needed.

    Args:
        features: name → shape of a row; actions lie in [−1, 1].

    Raises:
        ConfigError: no path, features that are missing or do not fit the task, no episode left, actions out of range.
        DataError: the file is damaged.
    """
    if not path:
        raise ConfigError("demonstrations are needed; record some with `robot-rl demos` and give --set demos=FILE")
    with EpisodeStore.open(Path(path)) as store:
        for name, shape in features.items():
            there = store.spec.features.get(name)
            if there is None or there.shape != shape:
                found = "is missing" if there is None else f"has rows of shape {there.shape}"
                raise ConfigError(
                    f"'{path}': '{name}' {found}, this task needs {shape}; it holds {', '.join(store.spec.features)}"
                )
        chosen = [e for e in store if which == "all" or e.success]
    if not chosen:
        raise ConfigError(f"'{path}' has no successful episode; record others, or take all with --set which=all")
    chosen = chosen[: episodes or None]
    for name in (n for n in features if n.startswith("action")):
        largest = max(float(np.abs(e.arrays[name]).max()) for e in chosen)
        if not largest <= 1.0 + 1e-6:
            raise ConfigError(f"'{path}': '{name}' reaches {largest:g}; actions lie in [-1, 1]")
    return chosen


def _pictures(
    chosen: list[Episode], pictures: Mapping[str, tuple[int, ...]], device: torch.device | str
) -> Tensor | None:
    if not pictures:
        return None
    if len(set(pictures.values())) > 1:
        raise ConfigError(f"pictures of shapes {dict(pictures)}; all cameras must give pictures of one shape")
    views = [torch.from_numpy(np.concatenate([_before(e, f"image/{name}") for e in chosen])) for name in pictures]
    return torch.stack(views, 1).to(device)


def _before(episode: Episode, name: str) -> NDArray[Any]:
    return episode.arrays[name][:-1]


def _joined(parts: list[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))
