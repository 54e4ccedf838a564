"""Our PPO, rsl_rl's and Stable-Baselines3's on one environment with the same networks and hyper-parameters, in one run.

    python benchmarks/ppo_vs_others.py                                        # quadrotor-hover, 256 environments
    python benchmarks/ppo_vs_others.py --task go1-velocity-flat --num-envs 4096 --hidden 512 256 128 --iterations 300
    python benchmarks/ppo_vs_others.py --libraries ours,rsl_rl --device cuda --mixed-precision

Prints samples per second, split into collecting and learning, and the mean return of the last 100 episodes, per seed;
then the ratios of ours to each. One thread; CPU time on a CPU (machines may be shared), wall time on a GPU.
`sb3` steps the same batch of environments as ours does; `sb3-gym` steps one Gymnasium environment after the other, as
Stable-Baselines3 is used where nobody wrote a batched environment.
Different on purpose: SB3 has no adaptive learning rate, no running normaliser of this kind and one observation group.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHARED = {"epochs": 5, "minibatches": 4, "lr": 1e-3, "gamma": 0.99, "lam": 0.95, "clip": 0.2, "entropy": 0.005}


class Clock:
    """Seconds spent in named parts."""

    def __init__(self, device: str) -> None:
        self.device, self.seconds = device, dict.fromkeys(("collect", "learn"), 0.0)

    def now(self) -> float:
        if self.device == "cpu":
            return time.process_time()
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, owner: Any, method: str, part: str) -> None:
        """From now on count the time in owner.method."""
        inner = getattr(owner, method)

        def call(*arguments: Any, **keywords: Any) -> Any:
            began = self.now()
            result = inner(*arguments, **keywords)
            self.seconds[part] += self.now() - began
            return result

        setattr(owner, method, call)


class Metered:
    """An environment whose episodes are counted, at the same cost for each library that does not count itself."""

    def __init__(self, env: Any) -> None:
        from robot_rl.policies.training_log import EpisodeMeter

        self.env, self.meter = env, EpisodeMeter(env.num_envs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def step(self, action: Any) -> Any:
        step = self.env.step(action)
        self.meter.add(step.reward, step.terminated, step.truncated)
        return step


def ours(env: Any, a: argparse.Namespace, seed: int, clock: Clock) -> dict[str, float]:
    from robot_rl.policies.algorithms.ppo import Ppo, PpoConfig

    s, hidden = SHARED, tuple(a.hidden)
    config = PpoConfig(
        num_envs=a.num_envs, steps_per_env=a.steps, iterations=a.iterations, epochs=s["epochs"],
        minibatches=s["minibatches"], learning_rate=s["lr"], gamma=s["gamma"], lam=s["lam"], clip=s["clip"],
        entropy_coefficient=s["entropy"], actor_hidden=hidden, critic_hidden=hidden,
        mixed_precision=a.mixed_precision,
    )  # fmt: skip
    learner = Ppo(env, config, seed)
    learner.step(env)
    clock.timed(learner, "_collect", "collect")
    clock.timed(learner, "_evaluate", "collect")
    clock.timed(learner, "_update", "learn")
    clock.timed(learner, "_normalise", "learn")
    for _ in range(a.iterations):
        metrics = learner.step(env)
    return metrics


def rsl_rl(env: Any, a: argparse.Namespace, seed: int, clock: Clock) -> dict[str, float]:
    import torch
    from rsl_rl.runners import OnPolicyRunner

    from robot_rl.policies.rsl_rl_env import RslRlEnv

    s = SHARED
    network = {"class_name": "MLPModel", "hidden_dims": a.hidden, "activation": "elu", "obs_normalization": True}
    settings = {
        "num_steps_per_env": a.steps, "save_interval": 10**9,
        "obs_groups": {"actor": ["policy"], "critic": ["critic"]},
        "actor": network | {"distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 0.5}},
        "critic": dict(network),
        "algorithm": {
            "class_name": "PPO", "num_learning_epochs": s["epochs"], "num_mini_batches": s["minibatches"],
            "learning_rate": s["lr"], "gamma": s["gamma"], "lam": s["lam"], "clip_param": s["clip"],
            "entropy_coef": s["entropy"], "use_mixed_precision": a.mixed_precision,
        },
    }  # fmt: skip
    torch.manual_seed(seed)
    metered = Metered(env)
    with contextlib.redirect_stdout(io.StringIO()):
        runner = OnPolicyRunner(RslRlEnv(metered, seed), settings, log_dir=None, device=a.device)
        runner.learn(1, init_at_random_ep_len=True)
        clock.timed(runner.alg, "update", "learn")
        began = clock.now()
        runner.learn(a.iterations)
        clock.seconds["collect"] = clock.now() - began - clock.seconds["learn"]
    return metered.meter.metrics()


def sb3(env: Any, a: argparse.Namespace, seed: int, clock: Clock) -> dict[str, float]:
    from robot_rl.policies.sb3_vec_env import BatchedVecEnv

    vec = BatchedVecEnv(env, seed)
    _train_sb3(vec, a, seed, clock)
    return vec.meter.metrics()


def sb3_gym(env: Any, a: argparse.Namespace, seed: int, clock: Clock) -> dict[str, float]:
    """As its manual says: one Gymnasium environment for each robot, in one process."""
    import gymnasium
    from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

    from robot_rl.sim.gym_env import gym_id

    del env
    vec = VecMonitor(DummyVecEnv([lambda: gymnasium.make(gym_id(a.task))] * a.num_envs))
    model = _train_sb3(vec, a, seed, clock)
    ended = model.ep_info_buffer or [{"r": float("nan"), "l": float("nan")}]
    return {
        f"episode/{name}": statistics.mean(e[key] for e in ended) for name, key in (("return", "r"), ("length", "l"))
    }


def _train_sb3(vec: Any, a: argparse.Namespace, seed: int, clock: Clock) -> Any:
    import torch
    from stable_baselines3 import PPO

    s, rows = SHARED, a.num_envs * a.steps
    layers = {"net_arch": {"pi": a.hidden, "vf": a.hidden}, "activation_fn": torch.nn.ELU, "log_std_init": -0.7}
    model = PPO(
        "MlpPolicy", vec, n_steps=a.steps, batch_size=rows // s["minibatches"], n_epochs=s["epochs"],
        learning_rate=s["lr"], gamma=s["gamma"], gae_lambda=s["lam"], clip_range=s["clip"], clip_range_vf=s["clip"],
        ent_coef=s["entropy"], vf_coef=1.0, max_grad_norm=1.0, policy_kwargs=layers, seed=seed, device=a.device,
    )  # fmt: skip
    model.learn(rows)
    clock.timed(model, "collect_rollouts", "collect")
    clock.timed(model, "train", "learn")
    model.learn(rows * a.iterations, reset_num_timesteps=False)
    return model


LIBRARIES: dict[str, Callable[..., dict[str, float]]] = {
    "ours": ours, "rsl_rl": rsl_rl, "sb3": sb3, "sb3-gym": sb3_gym,
}  # fmt: skip


def measure(name: str, a: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One training; samples per second and return."""
    from robot_rl.sim.task_spec import make_env

    clock = Clock(a.device.split(":")[0])
    metrics = LIBRARIES[name](make_env(a.task, a.num_envs, seed, a.device), a, seed, clock)
    samples = a.num_envs * a.steps * a.iterations
    rates = {part: samples / max(seconds, 1e-9) for part, seconds in clock.seconds.items()}
    row = {"library": name, "seed": seed, **rates, "total": samples / sum(clock.seconds.values())}
    return row | {"return": metrics.get("episode/return"), "length": metrics.get("episode/length")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="quadrotor-hover")
    parser.add_argument("--libraries", default="ours,rsl_rl,sb3,sb3-gym")
    parser.add_argument("--num-envs", type=int, default=256)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 64, 32])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mixed-precision", action="store_true", help="ours and rsl_rl: bfloat16")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    rows = []
    for seed in range(a.seeds):
        for name in a.libraries.split(","):
            rows.append(measure(name, a, seed))
            show = {k: f"{v:,.0f}" if isinstance(v, float) else v for k, v in rows[-1].items()}
            print("  ".join(f"{k} {v}" for k, v in show.items()), flush=True)
    medians = {
        name: {part: statistics.median(r[part] for r in rows if r["library"] == name) for part in RATES}
        for name in a.libraries.split(",")
    }
    for name, rates in medians.items():
        if name != "ours" and "ours" in medians:
            ratios = "  ".join(f"{part} {medians['ours'][part] / rates[part]:.2f}" for part in RATES)
            print(f"ours / {name}:  {ratios}")
    if a.json:
        a.json.write_text(json.dumps({"settings": {k: str(v) for k, v in vars(a).items()}, "rows": rows}, indent=1))


RATES = ("collect", "learn", "total")

if __name__ == "__main__":
    main()
