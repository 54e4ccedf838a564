"""A preallocated ring of transitions, each observation stored once. Sampling is uniform; no priorities, no n-step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.policies.guards import require_finite
from robot_rl.protocols import Step


class Replay:
    """Transitions of N environments stepped together, in main memory; row = block · N + environment.

    The observation after a transition is the one before the next, so it is stored once: the successor of row i is row
    i + N. Where an episode was cut by time, the true last observation lies in a side table (`final`). After a
    termination no successor is needed: nothing bootstraps there.

    Args:
        capacity: transitions kept; at least 2·num_envs. Rounded down to whole blocks.
        num_envs: N.
        dims: size of each observation group.
        action_dim: size of an action.
    """

    def __init__(self, capacity: int, num_envs: int, dims: Mapping[str, int], action_dim: int) -> None:
        if capacity < 2 * num_envs:
            raise ConfigError(
                f"replay capacity {capacity} is too small for {num_envs} environments; give at least twice"
            )
        self.num_envs = num_envs
        self.blocks = capacity // num_envs + 1  # one more: the newest observation has no transition yet
        self.rows = self.blocks * num_envs
        self.obs = {name: torch.zeros(self.rows, dim) for name, dim in dims.items()}
        self.action = torch.zeros(self.rows, action_dim)
        self.reward = torch.zeros(self.rows)
        self.terminated = torch.zeros(self.rows)
        self.final_index = torch.full((self.rows,), -1, dtype=torch.int64)
        self.final = {name: torch.zeros(64, dim) for name, dim in dims.items()}
        self.free = list(range(63, -1, -1))
        self.head = 0
        self.total = 0
        # Views for writing a row: an assignment in NumPy takes a fraction of torch's time.
        self._obs_rows = {name: store.numpy() for name, store in self.obs.items()}
        self._action_rows, self._reward_rows = self.action.numpy(), self.reward.numpy()
        self._terminated_rows = self.terminated.numpy()

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return min(self.total, self.rows - self.num_envs)

    def begin(self, obs: Mapping[str, Tensor]) -> None:
        """Store the first observations (N, …) of a run."""
        rows = slice(self.head, self.head + self.num_envs)
        for name, store in self._obs_rows.items():
            store[rows] = obs[name].numpy()

    def add(self, action: Tensor, step: Step) -> None:
        """Append one transition per environment: action (N, m) taken from the newest observation, and what it gave."""
        rows = slice(self.head, self.head + self.num_envs)
        self._action_rows[rows] = action.numpy()
        self._reward_rows[rows] = step.reward.numpy()
        self._terminated_rows[rows] = step.terminated.numpy()
        if self.total + self.num_envs >= self.rows:
            self._release(rows)
        if step.truncated.numpy().any():
            self._store_final(step)
        self.total += self.num_envs
        self.head = (self.head + self.num_envs) % self.rows
        self.begin(step.obs)

    def sample_rows(self, count: int, generator: torch.Generator) -> Tensor:
        """Uniform rows (count,), drawn with replacement."""
        rows = torch.randint(len(self), (count,), generator=generator)
        if self.total >= self.rows:
            rows = (rows + self.head + self.num_envs) % self.rows
        return rows

    def gather(self, group: str, rows: Tensor) -> Tensor:
        """Observations (count, dim) before the transitions."""
        return self.obs[group].index_select(0, rows)

    def gather_next(self, group: str, rows: Tensor) -> Tensor:
        """Observations (count, dim) after the transitions; meaningless where the episode terminated."""
        following = self.obs[group].index_select(0, (rows + self.num_envs) % self.rows)
        final = self.final_index.index_select(0, rows)
        cut = (final >= 0).nonzero().reshape(-1)
        if len(cut):
            following[cut] = self.final[group][final[cut]]
        return following

    def newest(self, count: int) -> Tensor:
        """Rows of the last `count` transitions and of the newest observation, oldest first (for checks)."""
        back = min(count, len(self))
        return (torch.arange(back + self.num_envs) + self.head - back) % self.rows

    def _store_final(self, step: Step) -> None:
        for env in (step.truncated & ~step.terminated).nonzero().reshape(-1).tolist():
            if not self.free:
                size = len(next(iter(self.final.values())))
                self.final = {name: torch.cat([f, torch.zeros_like(f)]) for name, f in self.final.items()}
                self.free = list(range(2 * size - 1, size - 1, -1))
            slot = self.free.pop()
            self.final_index[self.head + env] = slot
            for name, store in self.final.items():
                store[slot] = step.final_obs[name][env]
                require_finite(f"final_obs['{name}']", store[slot])

    def _release(self, rows: slice) -> None:
        used = self.final_index[rows]
        self.free += used[used >= 0].tolist()
        self.final_index[rows] = -1

    def state_dict(self) -> dict[str, Any]:
        """What was written so far (copies, so that unused space is not saved)."""
        used = min(self.total + self.num_envs, self.rows)
        return {
            "rows": self.rows,
            "head": self.head,
            "total": self.total,
            "free": list(self.free),
            "obs": {name: store[:used].clone() for name, store in self.obs.items()},
            "final": {name: store.clone() for name, store in self.final.items()},
            "action": self.action[:used].clone(),
            "reward": self.reward[:used].clone(),
            "terminated": self.terminated[:used].clone(),
            "final_index": self.final_index[:used].clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what state_dict gave.

        Raises:
            CheckpointError: it belongs to a replay of another size.
        """
        if state["rows"] != self.rows:
            raise CheckpointError(f"the checkpoint's replay has {state['rows']} rows, this one {self.rows}")
        self.head, self.total, self.free = state["head"], state["total"], list(state["free"])
        self.final = {name: store.clone() for name, store in state["final"].items()}
        for name, store in self.obs.items():
            store[: len(state["obs"][name])] = state["obs"][name]
        for name in ("action", "reward", "terminated", "final_index"):
            store = getattr(self, name)
            store[: len(state[name])] = state[name]
