"""A ring of the last T steps of N environments on the learner's device; n-step returns are formed when sampling."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.policies.guards import require_finite
from robot_rl.policies.off_policy.priorities import Priorities
from robot_rl.protocols import Step

RUNNING, TRUNCATED, TERMINATED = 0, 1, 2


@dataclass
class Batch:
    """B windows of up to n steps; the target of the value is reward + discount · V(next_obs).

    Attributes:
        obs, next_obs: group → (B, dim), before the window's first step and after its last one.
        action: (B, a) of the first step.
        reward: (B,) Σ γ^k r_k over the window.
        discount: (B,) γ^steps, 0 where the window ended with a termination.
        row, weight: of prioritised draws, where the first windows came from, and (B,) of all windows in the loss.
    """

    obs: dict[str, Tensor]
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: dict[str, Tensor]
    row: Tensor | None = None
    weight: Tensor | None = None

    def joined(self, other: Batch) -> Batch:
        """Both, one behind the other; the other's windows weigh 1."""

        def both(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: torch.cat((a[name], b[name])) for name in a}

        weight = None if self.weight is None else torch.cat((self.weight, torch.ones_like(other.reward)))
        return Batch(
            both(self.obs, other.obs), torch.cat((self.action, other.action)), torch.cat((self.reward, other.reward)),
            torch.cat((self.discount, other.discount)), both(self.next_obs, other.next_obs),
            self.row, weight,
        )  # fmt: skip


class RingReplay:
    """Each observation is stored once, in slot t; the observation after a transition is the one in the next slot.

    Where an episode was cut by time, the true last observation lies in a side table, itself a ring, for entries leave
    in the order in which they came; `cut_id` is the entry's running number. After a termination nothing bootstraps.

    Args:
        steps: T, transitions kept per environment, at least 2.
        num_envs: N.
        dims: size of each observation group.
        action_dim: size of an action.
        device: where everything lies.
        prioritised: exponents of priority and correction, and the smallest error, see `Priorities`; None: all alike.
    """

    def __init__(
        self, steps: int, num_envs: int, dims: Mapping[str, int], action_dim: int, device: torch.device,
        prioritised: tuple[float, float, float] | None = None,
    ) -> None:  # fmt: skip
        if steps < 2:
            raise ConfigError(f"replay_steps = {steps} is too small; give at least 2 steps per environment")
        self.num_envs, self.slots, self.device = num_envs, steps + 1, device
        rows = self.slots * num_envs  # row = slot · N + environment
        self.obs = {name: torch.zeros(rows, dim, device=device) for name, dim in dims.items()}
        self.action = torch.zeros(rows, action_dim, device=device)
        self.reward = torch.zeros(rows, device=device)
        self.ended = torch.zeros(rows, dtype=torch.uint8, device=device)
        self.cut_id = torch.zeros(rows, dtype=torch.int64, device=device)
        self.cut_obs = {name: torch.zeros(64, dim, device=device) for name, dim in dims.items()}
        self.first_cut, self.next_cut = 0, 0  # running numbers that the side table holds: [first, next)
        self.cuts_per_slot: deque[int] = deque()
        self.head = 0  # slot of the newest observation
        self.filled = 0  # slots with a transition that can be sampled
        self.priorities = None if prioritised is None else Priorities(rows, *prioritised, device)

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return self.filled * self.num_envs

    @property
    def megabytes(self) -> float:
        """Memory taken by the ring, MB."""
        tensors = (*self.obs.values(), self.action, self.reward, self.ended, self.cut_id)
        return sum(t.numel() * t.element_size() for t in tensors) / 1e6

    def begin(self, obs: Mapping[str, Tensor]) -> None:
        """Store the first observations (N, …) of a run, or those from which an emptied replay goes on."""
        for name, store in self.obs.items():
            store[self._rows(self.head)] = obs[name]

    def add(self, action: Tensor, step: Step) -> None:
        """Append one transition per environment: action (N, a) taken from the newest observation, and what it gave."""
        rows = self._rows(self.head)
        self.action[rows], self.reward[rows] = action, step.reward
        self.ended[rows] = torch.where(step.terminated, TERMINATED, torch.where(step.truncated, TRUNCATED, RUNNING)).to(
            torch.uint8
        )
        self.cuts_per_slot.append(self._store_cut(rows, step))
        self.head = (self.head + 1) % self.slots
        if self.filled == self.slots - 1:
            self.first_cut += self.cuts_per_slot.popleft()
        else:
            self.filled += 1
        self.begin(step.obs)
        if self.priorities is not None:
            self.priorities.enter(rows, self._rows(self.head))

    def sample(self, count: int, n_step: int, gamma: float, generator: torch.Generator) -> Batch:
        """Windows of n_step steps that begin at transitions drawn with replacement: all alike, or by priority."""
        if self.priorities is not None:
            row, weight = self.priorities.draw(count, generator)
            oldest = (self.head - self.filled) * self.num_envs
            batch = self.windows((row - oldest) % len(self.reward), n_step, gamma)
            return replace(batch, row=row, weight=weight)
        draw = torch.randint(len(self), (count,), generator=generator, device=self.device)
        return self.windows(draw, n_step, gamma)

    def windows(self, index: Tensor, n_step: int, gamma: float) -> Batch:
        """Windows that begin at transitions `index` (B,): 0 … len − 1, oldest first, N per step.

        A window ends before n_step where its episode ends or where nothing newer is stored yet.
        """
        n = self.num_envs
        first = (index + (self.head - self.filled) * n) % (self.slots * n)
        available = self.filled - index // n
        row, last = first, first
        reward, discount = self.reward[first], torch.full_like(self.reward[first], gamma)
        going = torch.ones_like(first, dtype=torch.bool)
        for k in range(1, n_step):
            going = going & (self.ended[row] == RUNNING) & (available > k)
            row = (row + n) % (self.slots * n)
            reward = reward + torch.where(going, gamma**k * self.reward[row], 0.0)
            discount = torch.where(going, gamma ** (k + 1), discount)
            last = torch.where(going, row, last)
        discount = torch.where(self.ended[last] == TERMINATED, 0.0, discount)
        obs = {name: store.index_select(0, first) for name, store in self.obs.items()}
        return Batch(obs, self.action.index_select(0, first), reward, discount, self._after(last))

    def _after(self, last: Tensor) -> dict[str, Tensor]:
        following = (last + self.num_envs) % (self.slots * self.num_envs)
        cut = (self.ended[last] == TRUNCATED)[:, None]
        entry = self.cut_id[last]
        return {
            name: torch.where(cut, self.cut_obs[name][entry % len(self.cut_obs[name])], store[following])
            for name, store in self.obs.items()
        }

    def _rows(self, slot: int) -> slice:
        return slice(slot * self.num_envs, (slot + 1) * self.num_envs)

    def _store_cut(self, rows: slice, step: Step) -> int:
        """Keep the last observations of episodes cut by time; returns how many there are."""
        envs = (step.truncated & ~step.terminated).nonzero().reshape(-1)
        if len(envs) == 0:
            return 0
        self._make_room(len(envs))
        number = self.next_cut + torch.arange(len(envs), device=self.device)
        self.cut_id[rows][envs] = number
        for name, store in self.cut_obs.items():
            final = step.final_obs[name][envs]
            require_finite(f"final_obs['{name}']", final)
            store[number % len(store)] = final
        self.next_cut += len(envs)
        return len(envs)

    def _make_room(self, count: int) -> None:
        size = len(next(iter(self.cut_obs.values())))
        larger = size
        while self.next_cut + count - self.first_cut > larger:
            larger *= 2
        if larger == size:
            return
        kept = torch.arange(self.first_cut, self.next_cut, device=self.device)
        for name, store in self.cut_obs.items():
            table = torch.zeros(larger, store.shape[1], device=self.device)
            table[kept % larger] = store[kept % size]
            self.cut_obs[name] = table

    def state_dict(self) -> dict[str, Any]:
        """What was written so far (copies, so that unused space is not saved)."""
        used = (self.filled + 1) * self.num_envs
        return {
            "rows": len(self.reward),
            "position": [self.head, self.filled, self.first_cut, self.next_cut],
            "cuts_per_slot": list(self.cuts_per_slot),
            "priorities": None if self.priorities is None else self.priorities.state_dict(used),
            "obs": {name: store[:used].clone() for name, store in self.obs.items()},
            "cut_obs": {name: store.clone() for name, store in self.cut_obs.items()},
            **{name: getattr(self, name)[:used].clone() for name in ("action", "reward", "ended", "cut_id")},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what state_dict gave.

        Raises:
            CheckpointError: it belongs to a replay of another size.
        """
        if state["rows"] != len(self.reward):
            raise CheckpointError(f"the checkpoint's replay has {state['rows']} rows, this one {len(self.reward)}")
        self.head, self.filled, self.first_cut, self.next_cut = state["position"]
        self.cuts_per_slot = deque(state["cuts_per_slot"])
        self.cut_obs = {name: store.to(self.device, copy=True) for name, store in state["cut_obs"].items()}
        if self.priorities is not None and state.get("priorities") is not None:
            self.priorities.load_state_dict(state["priorities"])
        for name, store in self.obs.items():
            store[: len(state["obs"][name])] = state["obs"][name].to(self.device)
        for name in ("action", "reward", "ended", "cut_id"):
            getattr(self, name)[: len(state[name])] = state[name].to(self.device)
