"""Demonstrations: episodes of a policy in its task's environment, one robot at a time, with all that a learner needs.

Each episode has a seed of its own, so its recorded actions stepped through a fresh environment of that seed and those
options give the recorded observations again, to the last bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import DataError, DataSpec, Episode, Feature
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError

if TYPE_CHECKING:
    from robot_rl.evaluation.jointed.rollout import Player
    from robot_rl.sim.task_spec import TaskSpec

Array = NDArray[np.float32]
IMAGE_SIZE = 96  # pixels, where `camera.size` says nothing
TRIES = 10  # with `only_success`: attempts per episode wanted, before it is given up
_PICTURE = "image_"  # how environments call a camera's picture among their signals


@dataclass(frozen=True)
class Wanted:
    """What to record.

    Attributes:
        policy: a policy file, or `base:<name>`. task: as registered. changes: its options, by dotted keys.
        episodes: to keep. seed: fixes everything random. images: the task's cameras, too.
        noise: standard deviation of the noise on actions, whose range is [−1, 1]. only_success: keep no other.
    """

    policy: str
    task: TaskSpec
    changes: Mapping[str, Any]
    episodes: int = 50
    seed: int = 0
    noise: float = 0.0
    only_success: bool = False
    images: bool = False

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ConfigError(f"episodes = {self.episodes}; it must be at least 1")
        if not 0.0 <= self.noise <= 10.0:
            raise ConfigError(f"noise = {self.noise:g}; it must be from 0 to 10, where actions are from -1 to 1")


@dataclass
class Tally:
    """How a recording went so far: episodes played, succeeded, kept; control steps played."""

    played: int = 0
    succeeded: int = 0
    kept: int = 0
    steps: int = 0


class Demonstrator:
    """Plays and records one episode after the other.

    Attributes:
        options: by dotted key, what an environment needs that replays the episodes. spec: of the file.
    """

    def __init__(self, wanted: Wanted) -> None:
        """Raises ConfigError: no images to be had, or a policy that does not fit the task."""
        from robot_rl.evaluation.jointed.rollout import SETTINGS, Player
        from robot_rl.policies.proposals import Proposer

        changes = _with_images(wanted) if wanted.images else dict(wanted.changes)
        self.wanted, self.options = wanted, {**changes, **SETTINGS}
        self.player: Player = Player(wanted.policy, wanted.task.overridden(changes), 1, wanted.seed)
        policy = self.player.policy
        self.proposer = Proposer(self.player.env, policy if hasattr(policy, "contract") else lambda: policy.policy)
        self.spec = _spec(wanted, self.player, self.options)

    def episode(self, seed: int, facts: Mapping[str, Any]) -> Episode:
        """Record the episode that begins with `seed`; `facts` are kept with it.

        Raises:
            ConfigError: the policy's commands are no actions of the task.
        """
        import torch

        env, rows = self.player.env, {name: list[Any]() for name in self.spec.features}
        observed = env.reset(seed)
        self.proposer.reset()
        rng = np.random.default_rng([seed, 1])
        signals = _signals(env)
        self._look(rows, observed, signals)
        while True:
            proposed = self.proposer.propose(signals)[0]
            action = truncated_noise(proposed, self.wanted.noise, rng) if self.wanted.noise else proposed
            self.proposer.executed(torch.from_numpy(action)[None])
            step = env.step(torch.from_numpy(action)[None])
            signals = _signals(env)
            self._look(rows, step.final_obs, signals)
            done = {"action": action, "action_proposed": proposed, "reward": step.reward[0].item()}
            done |= {f"cost/{name}": value[0].item() for name, value in step.cost.items()}
            for name in rows.keys() & done.keys():
                rows[name].append(done[name])
            if step.terminated[0] or step.truncated[0]:
                break
        arrays = {name: np.array(values, self.spec.features[name].dtype) for name, values in rows.items()}
        failed, late = bool(step.terminated[0]), bool(step.truncated[0])
        return Episode(arrays, failed, late, _succeeded(env, failed), {**facts, "seed": seed, "options": self.options})

    @staticmethod
    def _look(rows: dict[str, list[Any]], observed: Mapping[str, Any], signals: Mapping[str, Any]) -> None:
        for name in rows:
            kind, _, rest = name.partition("/")
            if kind == "obs":
                seen = observed[rest].cpu().numpy() if rest in observed else signals[rest]
                rows[name].append(seen[0].copy())
            elif kind == "image":
                rows[name].append(signals[_PICTURE + rest][0])


def record(wanted: Wanted, path: Path, append: bool = False) -> Iterator[Tally]:
    """Record into a new file, or with `append` behind the episodes of one; tells after each attempt how it went.

    A file that exists goes on with attempts that it has not seen under this seed. With `only_success` it is given up
    after ten attempts per episode wanted. No file is made before there is an episode to keep.

    Raises:
        DataError: the file exists and may not be appended to, or holds other features; each point is listed.
        ConfigError: see `Wanted` and `Demonstrator`.
    """
    if path.exists() and not append:
        raise DataError(f"'{path}' exists; --append adds to it, or choose another name")
    store = EpisodeStore.open(path, append=True) if path.exists() else None
    try:
        demonstrator = Demonstrator(wanted)
        if store is not None:
            differences = store.spec.differences(demonstrator.spec)
            if differences:
                raise DataError(f"'{path}' and the new episodes differ:\n  - " + "\n  - ".join(differences))
        first, tally, source = _unseen(store, wanted.seed), Tally(), _source(wanted.policy)
        most = wanted.episodes * (TRIES if wanted.only_success else 1)
        while tally.kept < wanted.episodes and tally.played < most:
            attempt = first + tally.played
            run = {"seed": wanted.seed, "attempt": attempt, "noise": wanted.noise}
            episode = demonstrator.episode(seed_of(wanted.seed, attempt), {**source, "run": run})
            if wanted.only_success and episode.success is None:
                raise ConfigError(f"task '{wanted.task.name}' does not say what a success is; leave out --only-success")
            tally.played += 1
            tally.succeeded += bool(episode.success)
            tally.steps += len(episode)
            if episode.success or not wanted.only_success:
                run |= {"played": tally.played, "succeeded": tally.succeeded}
                store = EpisodeStore.create(path, demonstrator.spec) if store is None else store
                store.append(episode)
                tally.kept += 1
            yield tally
    finally:
        if store is not None:
            store.close()


def seed_of(seed: int, attempt: int) -> int:
    """The seed of an attempt's episode."""
    return int(np.random.SeedSequence([seed, attempt]).generate_state(1)[0])


def truncated_noise(action: Array, sigma: float, rng: np.random.Generator) -> Array:
    """Actions (A,) drawn from the normal distribution about `action` that is cut off at −1 and 1: none piles up there.

    Args:
        sigma: standard deviation before the cut. rng: where uniform numbers come from.
    """
    import torch

    middle = torch.from_numpy(action.astype(np.float64))
    low, high = (torch.special.ndtr((end - middle) / sigma) for end in (-1.0, 1.0))
    share = low + (high - low) * torch.from_numpy(rng.uniform(size=action.shape))
    drawn = middle + sigma * torch.special.ndtri(share)
    return torch.clamp(drawn, -1.0, 1.0).numpy().astype(np.float32)


def _with_images(wanted: Wanted) -> dict[str, Any]:
    from robot_rl.config import leaves

    if "camera.size" not in leaves(wanted.task.options):
        raise ConfigError(f"task '{wanted.task.name}' has no cameras; record it without --images")
    return {"camera.size": IMAGE_SIZE, **wanted.changes}


def _signals(env: Any) -> dict[str, NDArray[Any]]:
    """Of one robot, name → (1, …); asked for once per step, because pictures are rendered when asked for."""
    return {name: value.cpu().numpy() for name, value in env.signals().items()}


def _succeeded(env: Any, failed: bool) -> bool | None:
    """What the task says; in flight an episode that did not fail; None where nobody knows what a success is."""
    from robot_rl.evaluation.jointed.rollout import judgement

    if not hasattr(env, "succeeded"):
        return not failed
    found = judgement(env)
    return None if found is None else bool(found[0])


def _spec(wanted: Wanted, player: Player, options: Mapping[str, Any]) -> DataSpec:
    """Features by what the environment gives; one step tells the names of its costs."""
    import torch

    from robot_rl import __version__

    env, actions = player.env, Feature("float32", (player.env.action_dim,), "", player.env.action_map.action_names)
    features = {f"obs/{group}": Feature("float32", (size,)) for group, size in env.obs_dims.items()}
    features |= {f"obs/{s.name}": Feature("float32", s.shape, s.unit) for s in env.task.signals}
    if wanted.images:
        pictures = {n.removeprefix(_PICTURE): v for n, v in _signals(env).items() if n.startswith(_PICTURE)}
        features |= {f"image/{name}": Feature("uint8", v.shape[1:]) for name, v in pictures.items()}
    features |= {"action": actions} | ({"action_proposed": actions} if wanted.noise else {})
    costs = env.step(torch.zeros(1, env.action_dim)).cost
    features |= {"reward": Feature(), **{f"cost/{name}": Feature() for name in costs}}
    facts = {**_source(wanted.policy), "version": __version__, "options": options}
    return DataSpec(env.control_dt, features, wanted.task.name, wanted.task.robot, facts)


def _source(policy: str) -> dict[str, str]:
    """Who acted: the scripted expert's name, or the file's with its check sum."""
    if policy.startswith("base:"):
        return {"policy": policy}
    return {"policy": Path(policy).name, "sha256": hashlib.sha256(Path(policy).read_bytes()).hexdigest()}


def _unseen(store: EpisodeStore | None, seed: int) -> int:
    """The first attempt under this seed that comes after all that are in the file."""
    runs = [] if store is None else [store.about(i)["facts"].get("run", {}) for i in range(len(store))]
    return max((run["attempt"] + 1 for run in runs if run.get("seed") == seed), default=0)
