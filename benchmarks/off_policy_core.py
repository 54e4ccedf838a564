"""The off-policy core beside Stable-Baselines3: time per update, and time to its return on Gymnasium's MuJoCo tasks.

    python benchmarks/off_policy_core.py updates                          # SAC and TD3, several widths, one run
    python benchmarks/off_policy_core.py loop                             # steps and updates together
    python benchmarks/off_policy_core.py returns --contenders sb3,ours    # 3 tasks × 5 seeds: about 130 hours
    python benchmarks/off_policy_core.py returns --tasks Hopper-v5 --seeds 0 --minutes 20      # a piece of it
    python benchmarks/off_policy_core.py table                            # of what has been measured so far

`updates`: critics, actor, temperature and targets on batches of 256 from a full replay; interleaved rounds, CPU time of
one thread, medians.

`loop`: SAC on HalfCheetah-v5 with SB3's networks and one update per step, environment steps per second of CPU time.

`returns`: SB3's SAC with its own settings makes `--sb3-steps` steps; ours makes at most `--our-steps` and ends where it
is as good. Both live in one process with one thread, and every `--every` environment steps training stands still while
the same function plays the same episodes with the deterministic policy. Both start by the same rule: the return is the
mean of the last three evaluations. Times are those of training alone, without imports and evaluations. Results of each
(task, seed, contender) are written to `--results` after every evaluation, and a run that was ended by `--minutes` or
Ctrl-C goes on from its last state, which lies beside that file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "disable")

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from robot_rl.config import overlay, parse_set
from robot_rl.policies.algorithm import load_algorithm
from robot_rl.protocols import BatchedEnv, Step
from robot_rl.sim.task_spec import make_env

OBS, ACTION, BATCH, STORED = 17, 6, 256, 5000  # HalfCheetah's sizes
TASKS = "HalfCheetah-v5,Hopper-v5,Walker2d-v5"
SMOOTHED = 3
"""Evaluations that a return is the mean of."""

Array = NDArray[Any]


class RandomGymEnv(gym.Env[Array, Array]):
    """Observations and rewards without meaning, for SB3 to fill its replay with."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (ACTION,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        return self.np_random.standard_normal(OBS, np.float32), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        return self.np_random.standard_normal(OBS, np.float32), float(self.np_random.normal()), False, False, {}


class RandomEnv:
    """The same for ours."""

    num_envs, action_dim, max_episode_steps, control_dt, device = 1, ACTION, 1000, 0.05, torch.device("cpu")
    obs_dims: Mapping[str, int] = {"policy": OBS, "critic": OBS}

    def reset(self, seed: int | None = None) -> dict[str, torch.Tensor]:
        obs = torch.randn(1, OBS)
        return {"policy": obs, "critic": obs}

    def step(self, action: torch.Tensor) -> Step:
        no, obs = torch.zeros(1, dtype=torch.bool), self.reset()
        return Step(obs, torch.randn(1), {}, no, no, obs, {})

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        del state


def sb3_updates(name: str, width: int) -> Callable[[int], None]:
    import stable_baselines3
    from stable_baselines3.common.logger import Logger

    model = getattr(stable_baselines3, name)(
        "MlpPolicy", RandomGymEnv(), policy_kwargs={"net_arch": [width, width]}, learning_starts=STORED + 1,
        buffer_size=STORED, device="cpu", seed=0,
    )  # fmt: skip
    model.learn(STORED)
    model.set_logger(Logger(None, []))
    return lambda count: model.train(gradient_steps=count, batch_size=BATCH)


def same_work(name: str, width: int) -> dict[str, Any]:
    """SB3's networks, batches and schedule as settings of ours."""
    return {
        "batch_size": BATCH, "n_step": 1, "polyak": 0.005, "updates_per_step": 1, "actor_hidden": (width, width),
        "critic_hidden": (width, width), "actor_learning_rate": 3e-4, "critic_learning_rate": 3e-4, "weight_decay": 0.0,
        "value_head": "scalar", "target": "min", "reward_scale": 1.0, "critic_layer_norm": False,
        "actor_value": "min" if name == "SAC" else "first", "policy_delay": 1 if name == "SAC" else 2,
        "normalise_obs": False, "desynchronise": False, "precision": "float32",
    }  # fmt: skip


def our_updates(name: str, width: int, **changes: Any) -> Callable[[int], None]:
    """SB3's networks and schedule in our core: two plain critics with one number each, no normaliser."""
    spec = load_algorithm({"SAC": "fast-sac", "TD3": "fast-td3"}[name])
    settings = same_work(name, width) | {
        "num_envs": 1, "total_steps": 10**6, "replay_steps": STORED, "steps_per_iteration": STORED,
        "warmup_steps": STORED + 1,
    }  # fmt: skip
    env: BatchedEnv = RandomEnv()
    learner: Any = spec.create(env, spec.config_class(**(settings | changes)), 0)
    learner.step(env)

    def updates(count: int) -> None:
        for _ in range(count):
            learner._update()

    return updates


def measure_updates(widths: list[int], rounds: int) -> None:
    """A table of ms per update."""
    variants: dict[str, dict[str, Any]] = {
        "ours": {},
        "ours, LayerNorm and normaliser": {"critic_layer_norm": True, "normalise_obs": True},
        "the same in bfloat16": {"critic_layer_norm": True, "normalise_obs": True, "precision": "bfloat16"},
    }
    print(f"{'CPU-ms per update':22} {'SB3':>8}" + "".join(f"  {label:>32}" for label in variants))
    for name in ("SAC", "TD3"):
        for width in widths:
            contenders = [sb3_updates(name, width), *(our_updates(name, width, **v) for v in variants.values())]
            count = max(3, 6000 // width**2 * 10, 2560 // width)
            found: list[list[float]] = [[] for _ in contenders]
            for repeat in range(rounds + 1):
                for times, update in zip(found, contenders, strict=True):
                    begin = time.process_time()
                    update(count)
                    if repeat > 0:  # the first round warms up
                        times.append(1e3 * (time.process_time() - begin) / count)
            sb3, *ours = (statistics.median(times) for times in found)
            shown = "".join(f"  {t:19.2f} ({sb3 / t:4.2f} times)" for t in ours)
            print(f"{name} 2 × {width:<16} {sb3:8.2f}{shown}", flush=True)


def measure_loop(task: str, width: int, steps: int, rounds: int) -> None:
    """Environment steps per CPU-second, pieces of `steps` interleaved."""
    warmup = {"warmup_steps": BATCH}
    contenders: dict[str, Contender] = {
        "SB3": Sb3Sac(task, 0, 100_000, [f"policy_kwargs={{net_arch: [{width}, {width}]}}"]),
        "ours, 1 environment": Ours(task, 0, 100_000, {**same_work("SAC", width), **warmup, "num_envs": 1}),
        "ours, 8": Ours(task, 0, 100_000, {**same_work("SAC", width), **warmup, "num_envs": 8, "updates_per_step": 8}),
        "ours, the defaults of sac": Ours(task, 0, 100_000, {}),
    }
    rates: dict[str, list[float]] = {label: [] for label in contenders}
    for repeat in range(rounds + 1):
        for label, contender in contenders.items():
            begin, before = time.process_time(), contender.steps
            contender.train(steps if repeat > 0 else 6000 if label.endswith("sac") else 2 * BATCH)
            if repeat > 0:
                rates[label].append((contender.steps - before) / (time.process_time() - begin))
    sb3 = statistics.median(rates["SB3"])
    for label, found in rates.items():
        rate = statistics.median(found)
        print(f"2 × {width}, {label:28} {rate:8.1f} steps per CPU-s, {rate / sb3:5.2f} times SB3's", flush=True)


class Contender(Protocol):
    """A training that can be stopped and gone on with."""

    @property
    def steps(self) -> int: ...

    def train(self, steps: int) -> None: ...

    def act(self, obs: Array) -> Array:
        """One deterministic action in the environment's own limits."""
        ...

    def save(self, path: Path) -> None: ...

    def load(self, path: Path) -> None: ...


class Sb3Sac:
    """SB3's SAC as it comes; after a pause it begins a new episode."""

    def __init__(self, task: str, seed: int, total: int, settings: list[str]) -> None:
        from stable_baselines3 import SAC
        from stable_baselines3.common.logger import Logger

        self.logger = Logger(None, [])
        self.model = SAC("MlpPolicy", gym.make(task), buffer_size=total, seed=seed, device="cpu", **parse_set(settings))
        self.model.set_logger(self.logger)

    @property
    def steps(self) -> int:
        return int(self.model.num_timesteps)

    def train(self, steps: int) -> None:
        self.model.learn(steps, reset_num_timesteps=False, log_interval=10**9)

    def act(self, obs: Array) -> Array:
        return self.model.predict(obs, deterministic=True)[0]

    def save(self, path: Path) -> None:
        self.model.save(path.with_suffix(".zip"))
        self.model.save_replay_buffer(path.with_suffix(".pkl"))

    def load(self, path: Path) -> None:
        self.model = type(self.model).load(path.with_suffix(".zip"), env=self.model.get_env(), device="cpu")
        self.model.load_replay_buffer(path.with_suffix(".pkl"))
        self.model.set_logger(self.logger)


class Ours:
    """An algorithm of this project on the adaptor `gym:`, with its environments in this process."""

    def __init__(self, task: str, seed: int, total: int, settings: list[str] | dict[str, Any]) -> None:
        changes = parse_set(settings) if isinstance(settings, list) else settings
        spec = load_algorithm(changes.pop("algorithm", "sac"))
        self.config = overlay(spec.config_class(), {"total_steps": total, "steps_per_iteration": 25} | changes)
        self.env = make_env(f"gym:{task}", self.config.num_envs, seed, overrides={"workers": 0})
        self.learner: Any = spec.create(self.env, self.config, seed)
        self.actor: torch.nn.Module | None = None

    @property
    def steps(self) -> int:
        return int(self.learner.env_steps)

    def train(self, steps: int) -> None:
        self.actor = None
        end = self.steps + steps
        while self.steps < end:
            self.learner.step(self.env)

    @torch.no_grad()
    def act(self, obs: Array) -> Array:
        actor = self.actor = self.actor or self.learner.policy()
        action = actor(torch.as_tensor(obs, dtype=torch.float32)[None])
        return next(iter(self.env.action_map(action).values()))[0].numpy()  # type: ignore[attr-defined]

    def save(self, path: Path) -> None:
        torch.save({"learner": self.learner.state_dict(), "env": self.env.state_dict()}, path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.env.load_state_dict(state["env"])
        self.learner.load_state_dict(state["learner"])


CONTENDERS: dict[str, Callable[[str, int, int, list[str]], Contender]] = {"sb3": Sb3Sac, "ours": Ours}


def evaluated(contender: Contender, env: gym.Env[Any, Any], episodes: int) -> list[float]:
    """Returns of episodes that begin with seeds 10,000, 10,001, …, the same for all."""
    returns = []
    for seed in range(10_000, 10_000 + episodes):
        obs, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(contender.act(obs))
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return returns


def smoothed(curve: list[list[float]]) -> list[float]:
    """Mean return of the last evaluations, one for each point from the third on."""
    means = [point[3] for point in curve]
    return [statistics.fmean(means[i - SMOOTHED + 1 : i + 1]) for i in range(SMOOTHED - 1, len(means))]


class Results:
    """(task, seed, contender) → its settings and points [steps, CPU s, wall s, mean return], in a JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    def run(self, key: str, settings: dict[str, Any]) -> dict[str, Any]:
        """The run of that key, new or to go on with; refused where it was made with other settings."""
        found = self.runs.setdefault(key, {"settings": settings, "points": []})
        if found["settings"] != settings:
            raise SystemExit(f"{key} in {self.path} was made with {found['settings']}; give another --results")
        return found

    def write(self) -> None:
        aside = self.path.with_suffix(".tmp")
        aside.write_text(json.dumps(self.runs, indent=1))
        aside.replace(self.path)

    def goal(self, task: str, seed: int, steps: int) -> float | None:
        """SB3's return there, once it has been so far."""
        curve = [p for p in self.runs.get(f"{task}/{seed}/sb3", {}).get("points", []) if p[0] <= steps]
        return smoothed(curve)[-1] if len(curve) >= SMOOTHED and curve[-1][0] >= steps else None


def advance(results: Results, key: str, options: argparse.Namespace, until: float) -> None:
    """Go on with one run until it is complete or the time is up."""
    task, seed, name = key.split("/")
    steps = options.sb3_steps if name == "sb3" else options.our_steps
    settings = options.sb3 if name == "sb3" else options.ours
    about = {"steps": steps, "every": options.every, "episodes": options.episodes, "settings": settings}
    points = results.run(key, about)["points"]
    goal = results.goal(task, int(seed), options.sb3_steps)

    def over() -> bool:
        return bool(points) and (
            points[-1][0] >= steps or (name == "ours" and goal is not None and reached(points, goal))
        )

    if over():
        return
    contender, env = CONTENDERS[name](task, int(seed), steps, settings), gym.make(task)
    state = options.results.with_suffix("") / key.replace("/", "-")
    state.parent.mkdir(exist_ok=True)
    if points:
        contender.load(state)
    cpu, wall = points[-1][1:3] if points else (0.0, 0.0)
    while not over() and time.monotonic() < until:
        begin = time.process_time(), time.perf_counter()
        contender.train(min(options.every, steps - contender.steps))
        cpu, wall = cpu + time.process_time() - begin[0], wall + time.perf_counter() - begin[1]
        points.append([contender.steps, cpu, wall, statistics.fmean(evaluated(contender, env, options.episodes))])
        print(f"{key:24} {contender.steps:>8,} steps {cpu:8.0f} CPU-s {points[-1][3]:9.0f}", flush=True)
    contender.save(state)
    results.write()


def reached(points: list[list[float]], goal: float) -> bool:
    return any(value >= goal for value in smoothed(points))


def table(results: Results, steps: int) -> None:
    """SB3's return and times, and ours to the same return."""
    print(f"{'task, seed':20} {'SB3 return':>10} {'CPU-s':>8} {'wall':>8}   ours: steps, CPU-s, wall, times shorter")
    for key, run in sorted(results.runs.items()):
        task, seed, name = key.split("/")
        goal = results.goal(task, int(seed), steps)
        if name != "sb3" or goal is None:
            continue
        _, cpu, wall, _ = next(p for p in run["points"] if p[0] >= steps)
        line = f"{task + ', ' + seed:20} {goal:10.0f} {cpu:8.0f} {wall:8.0f}   "
        ours = results.runs.get(f"{task}/{seed}/ours", {"points": []})["points"]
        first = next((p for p, v in zip(ours[SMOOTHED - 1 :], smoothed(ours), strict=True) if v >= goal), None)
        if first is None:
            print(line + (f"not reached in {ours[-1][0]:,} steps, {ours[-1][1]:.0f} CPU-s" if ours else "not run"))
        else:
            ratios = f"{cpu / first[1]:.1f} (wall {wall / first[2]:.1f})"
            print(line + f"{first[0]:,}, {first[1]:.0f}, {first[2]:.0f}, {ratios}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("updates", "loop", "returns", "table"))
    parser.add_argument("--widths", default="64,256,400,512")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--contenders", default="sb3,ours")
    parser.add_argument("--sb3-steps", type=int, default=300_000)
    parser.add_argument("--our-steps", type=int, default=600_000)
    parser.add_argument("--every", type=int, default=10_000, help="steps between evaluations")
    parser.add_argument("--episodes", type=int, default=10, help="of an evaluation")
    parser.add_argument("--minutes", type=float, default=1e9, help="then it stops, to be gone on with")
    parser.add_argument("--results", type=Path, default=Path("off_policy_core.json"))
    parser.add_argument("--ours", nargs="*", default=[], help="settings, as algorithm=sac heads=2")
    parser.add_argument("--sb3", nargs="*", default=[], help="arguments of SB3's SAC, as ent_coef=0.2")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "updates":
        measure_updates([int(w) for w in options.widths.split(",")], options.rounds)
        return
    if options.what == "loop":
        for width in options.widths.split(","):
            measure_loop(options.tasks.split(",")[0], int(width), 200, options.rounds)
        return
    results = Results(options.results)
    if options.what == "returns":
        until = time.monotonic() + 60.0 * options.minutes
        for seed in options.seeds.split(","):
            for task in options.tasks.split(","):
                for name in options.contenders.split(","):
                    advance(results, f"{task}/{seed}/{name}", options, until)
    table(results, options.sb3_steps)


if __name__ == "__main__":
    main()
