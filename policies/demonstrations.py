"""Recorded episodes as tensors to learn from: observation groups, actions, and which transitions belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """

    obs: dict[str, Tensor]
    action: Tensor
    episode: Tensor
    last: Tensor

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


def load_demonstrations(
    path: str,
    dims: Mapping[str, int],
    action_dim: int,
    *,
    which: str = "successful",
    label: str = "action",
    episodes: int = 0,
    device: torch.device | str = "cpu",
) -> Demonstrations:
    """Read a file that `robot-rl demos` or a recorder has written.

    Args:
        path: file of episodes with features `obs/<group>` and the label, in the environment's units.
        dims: size of each observation group that is needed. action_dim: A.
        which: "successful" leaves out what failed or was not judged.
        label: the feature that is the action to learn: what was executed, or what was proposed before noise.
        episodes: at most so many, the first; 0: all.
        device: where the tensors lie.

    Raises:
        ConfigError: no path, features that are missing or do not fit the task, no episode left, actions out of range.
        DataError: the file is damaged.
    """
    wanted = {f"obs/{group}": size for group, size in dims.items()} | {label: action_dim}
    chosen = chosen_episodes(Path(path), wanted, which=which, episodes=episodes)
    lengths = torch.tensor([len(e) for e in chosen])
    numbers = torch.repeat_interleave(torch.arange(len(chosen)), lengths)
    action = _joined([e.arrays[label] for e in chosen])
    obs = {group: _joined([_before(e, f"obs/{group}") for e in chosen]).to(device) for group in dims}
    return Demonstrations(obs, action.to(device), numbers.to(device), (lengths.cumsum(0) - 1)[numbers].to(device))


def chosen_episodes(
    path: Path, rows: Mapping[str, int], *, which: str = "successful", episodes: int = 0, scalars: Sequence[str] = ()
) -> list[Episode]:
    """Episodes of a file, or the first so many, that hold what is needed.

    Args:
        rows: features of so many elements, `action` and its kin in [−1, 1]. scalars: features of one element.

    Raises:
        ConfigError: no path, features that are missing or do not fit the task, no episode left, actions out of range.
        DataError: the file is damaged.
    """
    if path == Path():
        raise ConfigError("demonstrations are needed; record some with `robot-rl demos` and give --set demos=FILE")
    with EpisodeStore.open(path) as store:
        for name, shape in ({name: (size,) for name, size in rows.items()} | dict.fromkeys(scalars, ())).items():
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
    for name in (n for n in rows if n.startswith("action")):
        largest = max(float(np.abs(e.arrays[name]).max()) for e in chosen)
        if not largest <= 1.0 + 1e-6:
            raise ConfigError(f"'{path}': '{name}' reaches {largest:g}; actions lie in [-1, 1]")
    return chosen


def _before(episode: Episode, name: str) -> NDArray[Any]:
    return episode.arrays[name][:-1]


def _joined(parts: list[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))
