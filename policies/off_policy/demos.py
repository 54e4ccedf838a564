"""Recorded episodes as a replay that batches are drawn from beside what the learner experiences itself.

Ball et al., Efficient Online Reinforcement Learning with Offline Data (2023): half of each batch from either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from robot_rl.data.episode import Episode
from robot_rl.policies.demonstrations import chosen_episodes
from robot_rl.policies.off_policy.config import OffPolicyConfig
from robot_rl.policies.off_policy.replay import RingReplay
from robot_rl.protocols import Step
from robot_rl.signals import Signal

SUCCESS = "success"


def read_demos(
    config: OffPolicyConfig, dims: Mapping[str, int], action_dim: int, signals: Sequence[Signal] = ()
) -> list[Episode]:
    """The episodes that `config` names, with its rewards; with `obs/<signal>` for each of `signals`.

    Raises:
        ConfigError: no such episodes, or features that are missing or do not fit the task.
        DataError: the file is damaged.
    """
    recorded = config.demo_reward != SUCCESS
    wanted: dict[str, tuple[int, ...]] = {f"obs/{group}": (size,) for group, size in dims.items()}
    wanted |= {f"obs/{s.name}": s.shape for s in signals}
    wanted |= {"action": (action_dim,)} | ({"reward": ()} if recorded else {})
    episodes = chosen_episodes(config.demos, wanted, episodes=config.demo_episodes)
    return episodes if recorded else [judged(e) for e in episodes]


def demo_replay(episodes: Sequence[Episode], dims: Mapping[str, int], device: torch.device) -> RingReplay:
    """A replay with one row per recorded step; all episodes hold `obs/<group>` for `dims`, `action` and `reward`.

    An episode that just stops counts as cut by time, so its last step bootstraps.
    """
    rows = sum(len(e) for e in episodes)
    action_dim = episodes[0].arrays["action"].shape[1]
    replay = RingReplay(max(rows, 2), 1, dims, action_dim, device)
    for number, episode in enumerate(episodes):
        obs = {group: _tensor(episode.arrays[f"obs/{group}"], device)[:, None] for group in dims}
        if number == 0:
            replay.begin({group: seen[0] for group, seen in obs.items()})
        after = episodes[(number + 1) % len(episodes)]
        action, reward = _tensor(episode.arrays["action"], device), _tensor(episode.arrays["reward"], device)
        for t in range(len(episode)):
            last = t == len(episode) - 1
            final = {group: seen[t + 1] for group, seen in obs.items()}
            following = {g: _tensor(after.arrays[f"obs/{g}"][:1], device) for g in dims} if last else final
            ended, cut = last and episode.terminated, last and not episode.terminated
            replay.add(action[t : t + 1], Step(
                following, reward[t : t + 1], {}, _flag(ended, device), _flag(cut, device), final,
            ))  # fmt: skip
    return replay


def judged(episode: Episode) -> Episode:
    """A successful episode with reward 1 at its end, which ends it, and 0 before."""
    reward = np.zeros(len(episode), np.float32)
    reward[-1] = 1.0
    return Episode({**episode.arrays, "reward": reward}, True, False, episode.success, episode.facts)


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32)).to(device)


def _flag(value: bool, device: torch.device) -> Tensor:
    return torch.tensor([value], device=device)
