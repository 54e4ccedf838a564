"""The two studies of `humans_in_the_loop.py` on a point that must stop in a slot: a CPU-minute per seed.

    python benchmarks/humans_on_a_point.py --seeds 0 1 2 --results point.json

The task is that of the tests (`tests/policies/slot_task.py`): two dimensions, 30 steps, reward 1 in the slot. It says
whether the learners do what they should, and nothing about arms.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robot_rl.config import overlay
from robot_rl.evaluation.statistics import wilson
from robot_rl.policies.algorithm import load_algorithm
from robot_rl.policies.human.config import HumanConfig
from robot_rl.policies.human.env import InterventionEnv
from robot_rl.policies.runner import RunInfo, RunnerConfig, train

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "policies"))
import slot_task  # pyright: ignore[reportMissingImports]

STEPS = 2_560
OFF_POLICY = {
    "num_envs": 16, "updates_per_step": 16, "batch_size": 128, "warmup_steps": 300, "steps_per_iteration": 20,
    "actor_hidden": [64, 64], "critic_hidden": [64, 64], "actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3,
    "polyak": 0.02, "gamma": 0.95, "temperature": 0.001, "temperature_learning_rate": 3e-3, "log_std_max": -2.0,
    "total_steps": STEPS,
}  # fmt: skip
CLONING = {"updates": 500, "hidden": [64, 64], "batch_size": 128}
DAGGER = {**CLONING, "num_envs": 16, "steps_per_iteration": 20, "round_steps": 500, "round_updates": 200,
          "total_steps": STEPS}  # fmt: skip
DEMOS = 4


class Slot(slot_task.SlotEnv):  # pyright: ignore[reportUntypedBaseClass]
    """With names by which a script sees progress."""

    def signals(self) -> dict[str, Tensor]:
        return {**super().signals(), "ee_pos_w": self.pos, "target_pos_w": self.slot}


def first_episodes(env: Any, act: Any, seed: int) -> dict[str, Any]:
    """Success with its interval and mean steps of successes, of the first episode of every point."""
    obs, n = env.reset(seed), env.num_envs
    success, over, length = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool), torch.zeros(n)
    for t in range(env.max_episode_steps):
        with torch.no_grad():
            step = act(obs)
        done = (step.terminated | step.truncated) & ~over
        length[done], success, over = t + 1.0, success | (step.terminated & ~over), over | done
        obs = step.obs
    share = wilson(int(success.sum()), n)
    cycle = length[success].mean().item() if success.any() else None
    return {"success": share.value, "interval": [share.lower, share.upper], "cycle": cycle, "episodes": n}


def play_human(human: HumanConfig, episodes: int = 200) -> dict[str, Any]:
    env = InterventionEnv(Slot(episodes))
    env.attend(replace(human, when="asked", record=""), 3)
    zero, everywhere = torch.zeros(episodes, 2), torch.ones(episodes, dtype=torch.bool)
    return first_episodes(env, lambda obs: env.step(zero, everywhere), 77)


def record(human: HumanConfig, path: Path, seed: int) -> None:
    """Episodes of the human in a file; learners take the first successful ones."""
    if path.exists():
        return
    env = InterventionEnv(Slot(1))
    env.attend(replace(human, when="asked", record=str(path)), seed)
    env.reset(10_000 + seed)
    successes = 0
    while successes < DEMOS:
        env.step(torch.zeros(1, 2), torch.ones(1, dtype=torch.bool))
        successes += int(env.success.sum())
    assert env.recorder is not None
    env.recorder.close()


def run(
    algorithm: str, settings: dict[str, Any], human: HumanConfig, demos: Path, seed: int, out: Path
) -> dict[str, Any]:
    spec = load_algorithm(algorithm)
    count = {"episodes": DEMOS} if algorithm in ("bc", "hg-dagger", "thrifty-dagger") else {"demo_episodes": DEMOS}
    config = overlay(spec.config_class(), {**settings, **count, "demos": str(demos)})
    if algorithm != "bc":
        config = replace(config, human=human)
    env = Slot(getattr(config, "num_envs", 1))
    done = train(spec, env, out, config, seed=seed, info=RunInfo("slot"), runner=RunnerConfig(tensorboard=False))
    if not done.completed:
        raise SystemExit(130)
    actor, judge = done.algorithm.policy(), Slot(200)
    result = first_episodes(judge, lambda obs: judge.step(actor(obs["policy"])), 77) | {"cpu_seconds": done.cpu_seconds}
    if algorithm != "bc":
        last = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][-1]
        result |= {k: v for k, v in last.items() if k.startswith("human/") or k == "episode/unaided"}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/point"))
    parser.add_argument("--results", type=Path, default=Path("runs/point.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    expert = folder / "expert.onnx"
    if not expert.exists():
        slot_task.write_base(expert, 1, torch.zeros(2))
    careful = HumanConfig(f"scripted:{expert}", pace=0.5, when="stalled", after=4, progress=0.01, steps=4)
    poor = HumanConfig(f"scripted:{expert}", bias=0.17, noise=0.1, when="value", gap=0.03, steps=4,
                       critic=str(folder / "careful-hil-0"))  # fmt: skip
    studies = {
        "careful": (careful, {"bc": CLONING, "hil": OFF_POLICY, "hg-dagger": DAGGER}),
        "poor": (poor, {"bc": CLONING, "rlif": OFF_POLICY, "hg-dagger": DAGGER}),
    }
    results = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}

    def keep(key: str, value: dict[str, Any]) -> None:
        results[key] = value
        aside = arguments.results.with_suffix(".part")
        aside.write_text(json.dumps(results, indent=1))
        aside.replace(arguments.results)
        print(key, json.dumps(value), flush=True)

    for name, (human, learners) in studies.items():
        if f"{name}/human" not in results:
            keep(f"{name}/human", play_human(human))
        for seed in arguments.seeds:
            demos = folder / f"{name}-{seed}.rrl"
            record(human, demos, seed)
            for algorithm, settings in learners.items():
                if (key := f"{name}/{algorithm}/{seed}") not in results:
                    out = folder / f"{name}-{algorithm}-{seed}"
                    keep(key, run(algorithm, settings, human, demos, seed, out))


if __name__ == "__main__":
    main()
