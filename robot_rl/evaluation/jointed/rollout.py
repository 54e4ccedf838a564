"""Episodes of a policy file in the environment of its task: signals → policy → commands, many robots at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError

if TYPE_CHECKING:
    from robot_rl.protocols import BasePolicy
    from robot_rl.sim.task_spec import TaskSpec

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
# What an evaluation needs of every environment: each robot plays its first episode and waits for the others.
SETTINGS: dict[str, Any] = {"auto_reset": False, "desync": False}
BASE = "base:"  # before the name of a scripted expert
EXPERT = "expert"  # that name, in tasks of other projects: the suite's own scripted policy
KEPT = 16  # robots of which everything is kept, for pictures


@dataclass(frozen=True)
class Episodes:
    """n complete episodes; one entry per episode in every array.

    Attributes:
        judged: whether the task says what a success is. success: what it says at the last step.
        failed: ended before the time limit without success.
        seconds: how long it lasted. reward: sum over the episode, without the terms that look at the action.
        metrics: by name, mean over the steps of the episode.
        violations: by constraint, number of steps that violate it; worst: the largest violation, in its unit.
    """

    success: Bools
    failed: Bools
    seconds: Floats
    reward: Floats
    metrics: dict[str, Floats]
    violations: dict[str, Floats]
    worst: dict[str, Floats]
    judged: bool = True

    def columns(self) -> dict[str, NDArray[Any]]:
        """Everything by column name, as in the CSV file."""
        flat: dict[str, NDArray[Any]] = {"success": self.success} if self.judged else {}
        flat |= {"failed": self.failed, "seconds": self.seconds, "reward": self.reward, **self.metrics}
        flat |= {f"{name}_steps": values for name, values in self.violations.items()}
        return flat | {f"{name}_worst": values for name, values in self.worst.items()}

    def __len__(self) -> int:
        return len(self.success)


@dataclass(frozen=True)
class Recording:
    """Everything about the first K robots over T control steps, for pictures.

    Attributes:
        dt: s between steps. alive: (T, K) whether the episode was still going on.
        qpos: (T, K, nq). joint_pos, joint_vel, torque: (T, K, J) rad, rad/s, N m.
        touching: (T, K, F) bool. placed: body without joints → its poses (T, K, 7), see `env.placed`.
        traces: name → (unit, value (T, K), wanted (T, K) or None).
    """

    dt: float
    alive: Bools
    qpos: NDArray[np.float32]
    joint_pos: NDArray[np.float32]
    joint_vel: NDArray[np.float32]
    torque: NDArray[np.float32]
    touching: Bools
    placed: dict[str, NDArray[np.float32]]
    traces: dict[str, tuple[str, NDArray[np.float32], NDArray[np.float32] | None]]

    def steps(self, robot: int = 0) -> int:
        """Number of control steps of this robot's episode."""
        return int(self.alive[:, robot].sum())

    def placed_at(self, step: int, robot: int) -> dict[str, NDArray[np.float32]]:
        """Name → pose (7,)."""
        return {name: poses[step, robot] for name, poses in self.placed.items()}


class _Base:
    """A scripted expert, or another base policy, with the face of a loaded policy file."""

    def __init__(self, policy: BasePolicy, num_envs: int) -> None:
        self.policy, self.num_envs = policy, num_envs
        self.reset()

    def reset(self) -> None:
        self.policy.reset(self.num_envs)

    def act(self, signals: Mapping[str, NDArray[Any]], time_step: float) -> dict[str, NDArray[Any]]:
        del time_step
        return self.policy.act(signals)


class _Asked:
    """The scripted policy of another project's task, which lives beside the environments."""

    def __init__(self, env: Any) -> None:
        self.env, self.policy = env, self

    def reset(self, num_envs: int = 1) -> None:
        """The environment knows when its episodes begin."""
        del num_envs

    def act(self, signals: Mapping[str, NDArray[Any]], time_step: float = 0.0) -> dict[str, NDArray[Any]]:
        del signals, time_step
        return {self.env.task.commands[0].name: self.env.expert_command()}


class Player:
    """A policy file, or a scripted expert, with N robots of its task.

    Args:
        policy: the policy file, or `base:<name>` (see `load_base`). task: with all changes. num_envs: robots at once.

    Raises:
        ConfigError: the policy is made for another rate, or needs signals that the task does not have.
        Whatever loading the file or building the environment raises.
    """

    def __init__(self, policy: str | Path, task: TaskSpec, num_envs: int, seed: int) -> None:
        self.num_envs, self.task = num_envs, task.overridden(SETTINGS)
        self.policy: Any
        if str(policy).startswith(BASE):
            self._open_base(str(policy).removeprefix(BASE), seed)
            self._names = list(self.env.signals())
        else:
            self._load(Path(policy), seed)

    def _open_base(self, name: str, seed: int) -> None:
        from robot_rl.policies.base_policy import load_base

        if name == EXPERT and self.task.described_by_env:
            self.env: Any = self.task.make(self.num_envs, seed)
            if hasattr(self.env, "expert_command"):
                self.policy = _Asked(self.env)
                return
        base = load_base(name)
        self.env = self.task.with_pictures(base.pictures).make(self.num_envs, seed)
        self.policy = _Base(base.make(self.env), self.num_envs)

    def _load(self, path: Path, seed: int) -> None:
        from robot_rl.policy import Policy

        self.policy = Policy.load(path, num_envs=self.num_envs)
        task, contract, rate = self.task, self.policy.contract, self.policy.contract.rate
        self.env = task.with_pictures(contract.signals).make(self.num_envs, seed)
        control_dt = self.env.control_dt
        if not rate.min_dt - 1e-9 <= control_dt <= rate.max_dt + 1e-9:
            raise ConfigError(
                f"the policy may be called every {rate.min_dt:g} to {rate.max_dt:g} s; "
                f"task '{task.name}' has control_dt = {control_dt:g} s"
            )
        self._names = [s.name for s in contract.signals if s.name != "time_step"]
        missing = [name for name in self._names if name not in self.env.signals()]
        if missing:
            have = ", ".join(sorted(self.env.signals()))
            raise ConfigError(f"the policy needs {', '.join(missing)}; task '{task.name}' gives {have}")

    def reset(self, seed: int | None = None) -> None:
        """New episodes for all robots."""
        self.env.reset(seed)
        self.policy.reset()

    def step(self) -> Any:
        """One control step of all robots; returns the environment's `Step`."""
        import torch

        now = self.env.signals()
        signals = {name: now[name].cpu().numpy() for name in self._names}
        commands = self.policy.act(signals, time_step=self.env.control_dt)
        return self.env.step_command(
            {name: torch.from_numpy(value.reshape(self.num_envs, -1)) for name, value in commands.items()}
        )


def play(
    player: Player, episodes: int, seed: int, progress: Callable[[float], None] | None = None
) -> tuple[Episodes, Recording | None]:
    """`episodes` complete episodes: every robot plays one, then all start anew, so that none counts more than another.

    Args:
        progress: called with the share that is done, 0 to 1.

    Returns:
        The episodes, and pictures' worth of the first ones where the environment is a scene of ours.
    """
    rounds = -(-episodes // player.num_envs)
    parts: list[Episodes] = []
    first: Recording | None = None
    for k in range(rounds):
        player.reset(_seed_of(seed, k))
        shown = first is None and hasattr(player.env, "physics")
        recorder = _Recorder(min(KEPT, episodes, player.num_envs)) if shown else None

        def told(share: float, done: int = k) -> None:
            if progress is not None:
                progress((done + share) / rounds)

        parts.append(_round(player, recorder, told))
        first = first or (recorder.finished(player.env.control_dt) if recorder else None)
    return _first_of(parts, episodes), first


def _seed_of(seed: int, k: int) -> int:
    """Seed of round k; round 0 has the seed itself."""
    return seed if k == 0 else int(np.random.SeedSequence([seed, k]).generate_state(1)[0])


def _round(player: Player, recorder: _Recorder | None, progress: Callable[[float], None]) -> Episodes:
    import torch

    env, n = player.env, player.num_envs
    alive = torch.ones(n, dtype=torch.bool)
    sums = _Sums(n)
    judged = False
    success, failed = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
    for k in range(env.max_episode_steps):
        if recorder is not None:
            recorder.store(env, alive)
        step = player.step()
        sums.add(alive, step.reward, env.metrics(), step.cost)
        ended = alive & (step.terminated | step.truncated).cpu()
        if ended.any():
            found = judgement(env)
            judged, good = judged or found is not None, torch.zeros_like(ended) if found is None else found
            success |= ended & good
            failed |= ended & step.terminated.cpu() & ~good
            alive = alive & ~ended
            if not alive.any():
                break
        if k % 20 == 0:
            progress(k / env.max_episode_steps)
    return sums.episodes(success.numpy(), failed.numpy(), env.control_dt, judged)


def judgement(env: Any) -> Any:
    """What the task says of episodes that have just ended: (N,) bool on the CPU; None where it does not say.

    A simulation that diverged is no success.
    """
    found = env.succeeded()
    if found is None:
        return None
    return (found & ~env.physics.unstable if hasattr(env, "physics") else found).cpu()


class _Sums:
    """Totals over the steps of episodes that still go on."""

    def __init__(self, n: int) -> None:
        self.steps, self.reward = np.zeros(n), np.zeros(n)
        self.metrics: dict[str, Floats] = {}
        self.violations: dict[str, Floats] = {}
        self.worst: dict[str, Floats] = {}

    def add(self, alive: Any, reward: Any, metrics: Mapping[str, Any], cost: Mapping[str, Any]) -> None:
        on = alive.numpy()
        self.steps += on
        self.reward += np.where(on, reward.cpu().numpy(), 0.0)
        for name, value in metrics.items():
            total = self.metrics.setdefault(name, np.zeros(len(on)))
            total += np.where(on, value.cpu().numpy(), 0.0)
        for name, value in cost.items():
            excess = np.where(on, value.cpu().numpy(), 0.0)
            self.violations.setdefault(name, np.zeros(len(on)))
            self.violations[name] += excess > 0
            self.worst[name] = np.maximum(self.worst.get(name, 0.0), excess)

    def episodes(self, success: Bools, failed: Bools, dt: float, judged: bool) -> Episodes:
        metrics = {name: total / self.steps for name, total in self.metrics.items()}
        return Episodes(success, failed, self.steps * dt, self.reward, metrics, self.violations, self.worst, judged)


class _Recorder:
    def __init__(self, count: int) -> None:
        self.count = count
        self.rows: dict[str, list[NDArray[Any]]] = {}
        self.units: dict[str, str] = {}
        self.placed: set[str] = set()

    def store(self, env: Any, alive: Any) -> None:
        def keep(name: str, value: Any) -> None:
            self.rows.setdefault(name, []).append(np.array(value[: self.count].cpu().numpy()))

        keep("alive", alive)
        keep("qpos", env.physics.qpos)
        for name in ("joint_pos", "joint_vel", "torque"):
            keep(name, getattr(env, name))
        keep("touching", env.touching())
        for name, pose in env.placed().items():
            self.placed.add(name)
            keep(f"placed {name}", pose)
        for name, trace in env.traces().items():
            self.units[name] = trace.unit
            keep(f"value {name}", trace.value)
            if trace.wanted is not None:
                keep(f"wanted {name}", trace.wanted)

    def finished(self, dt: float) -> Recording:
        rows = {name: np.stack(values) for name, values in self.rows.items()}
        traces = {n: (unit, rows[f"value {n}"], rows.get(f"wanted {n}")) for n, unit in self.units.items()}
        direct = ("alive", "qpos", "joint_pos", "joint_vel", "torque", "touching")
        placed = {name: rows[f"placed {name}"] for name in sorted(self.placed)}
        return Recording(dt, **{name: rows[name] for name in direct}, placed=placed, traces=traces)


def _first_of(parts: Sequence[Episodes], count: int) -> Episodes:
    def one(name: str) -> Any:
        return np.concatenate([getattr(p, name) for p in parts])[:count]

    def table(name: str) -> dict[str, Floats]:
        names = getattr(parts[0], name)
        return {key: np.concatenate([getattr(p, name)[key] for p in parts])[:count] for key in names}

    plain: dict[str, Any] = {name: one(name) for name in ("success", "failed", "seconds", "reward")}
    return Episodes(**plain, metrics=table("metrics"), violations=table("violations"), worst=table("worst"),
                    judged=any(p.judged for p in parts))  # fmt: skip
