"""What happens in a training with a human, written down as episodes while it happens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rl.data.episode import DataError, DataSpec, EpisodeRecorder, Feature
from robot_rl.data.store import EpisodeStore
from robot_rl.policies.residual.base_env import BASE
from robot_rl.protocols import Step

if TYPE_CHECKING:
    from robot_rl.policies.human.env import InterventionEnv


class Recorder:
    """Episodes of N environments; each is in the file when it has ended, in the order of their ends.

    Kept are observations, signals, `action` (executed), `action_proposed` (the policy's), `base_action` where a base
    policy shows its own, `intervention`, reward and costs. Pictures are not.

    Args:
        path: file to append to, or a new one. spec: without costs, which the first step names.
    """

    def __init__(self, path: Path, spec: DataSpec, num_envs: int) -> None:
        self.path, self.spec, self.num_envs = path, spec, num_envs
        self.store: EpisodeStore | None = None
        self.recorders: list[EpisodeRecorder] = []
        self.open_rows: set[int] = set()
        self.first: dict[int, dict[str, Any]] = {}

    @classmethod
    def open(cls, path: str, env: InterventionEnv) -> Recorder:
        """For an environment; nothing is written before an episode has ended."""
        inner = env.env
        action = Feature("float32", (env.action_dim,), "", tuple(getattr(inner.action_map, "action_names", ())))
        features = {f"obs/{group}": Feature("float32", (size,)) for group, size in env.obs_dims.items()}
        features |= {f"obs/{s.name}": Feature("float32", s.shape, s.unit) for s in inner.task.signals}
        features |= {"action": action, "action_proposed": action, "reward": Feature(), "intervention": Feature("bool")}
        if BASE in env.obs_dims:
            features["base_action"] = action
        spec = DataSpec(env.control_dt, features, inner.task.name, getattr(inner.task, "robot", ""))
        return cls(Path(path), spec, env.num_envs)

    def begin(self, rows: Iterable[int], seen: Mapping[str, Any]) -> None:
        """New episodes in `rows`; `seen` as `Human.act` gets it."""
        for row in rows:
            self.first[row] = self._row(seen, row)
            self.open_rows.add(row)
            if self.recorders:
                self.recorders[row].begin(self.first[row])

    def add(self, env: InterventionEnv, before: Mapping[str, Any], proposed: Any, step: Step, success: Any) -> None:
        """One step of all environments; those that ended are written.

        Raises:
            DataError: the file holds episodes of other features, or cannot be written.
        """
        if self.store is None:
            self._begin_file(step)
        seen, done = self._after(env, step), (step.terminated | step.truncated).cpu().numpy()
        columns = {
            "action": env.executed.cpu().numpy(), "action_proposed": proposed, "reward": step.reward.cpu().numpy(),
            "intervention": env.intervened.numpy(),
            **{f"cost/{name}": value.cpu().numpy() for name, value in step.cost.items()},
        }  # fmt: skip
        if BASE in env.obs_dims:
            columns["base_action"] = before[f"obs/{BASE}"]
        for row in sorted(self.open_rows):
            self.recorders[row].add({name: value[row] for name, value in columns.items()}, self._row(seen, row))
        for row in np.flatnonzero(done).tolist():
            if row in self.open_rows:
                self._write(row, step, bool(success[row]))

    def close(self) -> None:
        """What is unfinished is lost; idempotent."""
        if self.store is not None:
            self.store.close()

    def _write(self, row: int, step: Step, success: bool) -> None:
        assert self.store is not None
        terminated = bool(step.terminated[row])
        episode = self.recorders[row].end(terminated, not terminated, success, environment=row)
        self.store.append(episode)
        self.open_rows.discard(row)

    def _begin_file(self, step: Step) -> None:
        features = {**self.spec.features, **{f"cost/{name}": Feature() for name in step.cost}}
        spec = DataSpec(self.spec.control_dt, features, self.spec.task, self.spec.robot)
        if self.path.exists():
            self.store = EpisodeStore.open(self.path, append=True)
            differences = self.store.spec.differences(spec)
            if differences:
                raise DataError(f"'{self.path}' and this training differ:\n  - " + "\n  - ".join(differences))
        else:
            self.store = EpisodeStore.create(self.path, spec)
        self.recorders = [EpisodeRecorder(spec) for _ in range(self.num_envs)]
        for row in self.open_rows:
            self.recorders[row].begin(self.first[row])

    def _after(self, env: InterventionEnv, step: Step) -> dict[str, Any]:
        """What is seen after a step, before episodes that ended began anew."""
        ended = bool((step.terminated | step.truncated).any())
        signals = env.env.final_signals if ended else env.env.signals()
        seen = {name: value.cpu().numpy() for name, value in signals.items()}
        return seen | {f"obs/{name}": value.cpu().numpy() for name, value in step.final_obs.items()}

    def _row(self, seen: Mapping[str, Any], row: int) -> dict[str, Any]:
        """`obs/<name>` of one environment, for all that the file keeps."""
        names = [n for n in self.spec.features if n.startswith("obs/")]
        return {n: np.array(seen[n if n in seen else n.removeprefix("obs/")][row]) for n in names}
