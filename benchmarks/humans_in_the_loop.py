"""Interventions on an arm's task: HIL-SERL, HG-DAgger and cloning with a careful human, RLIF with a poor one.

    python benchmarks/humans_in_the_loop.py --seeds 0 1 2 --results humans.json

Study `careful`: the script is slow but right and takes over where the task stalls. Study `poor`: it is meant to
succeed in some 60 % of its episodes, and takes over where critics (those of a `careful` run) find its action better.
Demonstrations come from the same human. Everything is kept in the results file: what is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robot_rl import registry
from robot_rl.commands.compose import load_trained
from robot_rl.commands.train_command import train
from robot_rl.config import to_dict
from robot_rl.data.store import EpisodeStore
from robot_rl.evaluation.statistics import wilson
from robot_rl.policies.human.config import HumanConfig
from robot_rl.policies.human.env import InterventionEnv
from robot_rl.policies.human.recorder import Recorder

NUM_ENVS = 16
OFF_POLICY = {
    "num_envs": NUM_ENVS, "updates_per_step": 16, "batch_size": 128, "warmup_steps": 500, "steps_per_iteration": 20,
    "actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3, "polyak": 0.02, "gamma": 0.95,
    "clone_updates": 2000, "imitation": 10.0, "imitation_steps": 5000, "log_std_max": -2.5, "temperature": 0.001,
    "entropy_per_dim": -1.0, "temperature_learning_rate": 3e-3,
}  # fmt: skip
CLONING = {"updates": 2000, "hidden": [128, 128]}
DAGGER = {**CLONING, "num_envs": NUM_ENVS, "steps_per_iteration": 20, "round_updates": 400}


@dataclass(frozen=True)
class Study:
    """One human, and who learns with them: name → (algorithm, settings)."""

    human: HumanConfig
    demos: int
    learners: dict[str, tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Setting:
    """One task."""

    task: str
    options: dict[str, Any]
    steps: int
    careful: HumanConfig
    poor: HumanConfig
    demos: int


SETTINGS = {
    "reach": Setting(
        "panda-reach", {"tolerance": 0.03, "episode_s": 4.0}, 8_000,
        HumanConfig("scripted:base:panda-reach", pace=0.3, when="stalled", after=8, steps=8),
        HumanConfig("scripted:base:panda-reach", bias=0.33, noise=0.1, when="value", gap=0.05, steps=5), 5,
    ),
    "push": Setting(
        "panda-push", {}, 20_000,
        HumanConfig("scripted:base:panda-push", when="stalled", after=12, steps=25),
        HumanConfig("scripted:base:panda-push", bias=0.15, noise=0.1, when="value", gap=0.05, steps=10), 20,
    ),
}  # fmt: skip


def study_of(setting: Setting, name: str, folder: Path) -> Study:
    off, dagger = {**OFF_POLICY, "total_steps": setting.steps}, {**DAGGER, "total_steps": setting.steps}
    if name == "careful":
        learners = {"bc": ("bc", CLONING), "hil": ("hil", off), "hg-dagger": ("hg-dagger", dagger)}
        return Study(setting.careful, setting.demos, learners)
    human = replace(setting.poor, critic=str(folder / "careful-hil-0"))
    learners = {"bc": ("bc", CLONING), "rlif": ("rlif", off), "hg-dagger": ("hg-dagger", dagger)}
    return Study(human, setting.demos, learners)


def environment(setting: Setting, num_envs: int, seed: int) -> Any:
    options = {"reward_kind": "sparse", "threads": 1, **setting.options}
    return registry.load("task", setting.task).overridden(options).make(num_envs, seed, "cpu")


def first_episodes(env: Any, act: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Success and length of the first episode of every environment."""
    obs, n = env.reset(seed), env.num_envs
    success, length, over = np.zeros(n, bool), np.zeros(n, int), np.zeros(n, bool)
    for t in range(env.max_episode_steps):
        step = act(obs)
        done = (step.terminated | step.truncated).numpy() & ~over
        success |= done & (step.reward > 0).numpy()
        length[done] = t + 1
        over |= done
        obs = step.obs
    return success, length


def judged(success: np.ndarray, length: np.ndarray) -> dict[str, Any]:
    share = wilson(int(success.sum()), len(success))
    cycle = float(length[success].mean()) if success.any() else None
    return {"success": share.value, "interval": [share.lower, share.upper], "cycle": cycle, "episodes": len(success)}


def evaluate(folder: Path, setting: Setting, episodes: int) -> dict[str, Any]:
    """The exported part of a run on episodes that are the same for all."""
    actor, env = load_trained(folder).actor, environment(setting, episodes, 0)
    with torch.no_grad():
        return judged(*first_episodes(env, lambda obs: env.step(actor(obs["policy"])), 999_983))


def play_human(setting: Setting, human: HumanConfig, episodes: int, seed: int) -> dict[str, Any]:
    """The human alone."""
    env = InterventionEnv(environment(setting, episodes, seed))
    env.attend(replace(human, when="asked", record=""), seed)
    zero, everywhere = torch.zeros(episodes, env.action_dim), torch.ones(episodes, dtype=torch.bool)
    return judged(*first_episodes(env, lambda obs: env.step(zero, everywhere), seed))


def record_demos(setting: Setting, human: HumanConfig, count: int, path: Path, seed: int) -> None:
    """The human's first `count` successes."""
    if path.exists():
        return
    every = path.with_suffix(".all.rrl")
    every.unlink(missing_ok=True)
    env = InterventionEnv(environment(setting, 4 * count, seed))
    env.attend(replace(human, when="asked", record=str(every)), seed)
    zero, everywhere = torch.zeros(4 * count, env.action_dim), torch.ones(4 * count, dtype=torch.bool)
    first_episodes(env, lambda obs: env.step(zero, everywhere), seed)
    recorder = env.recorder
    assert isinstance(recorder, Recorder)
    recorder.close()
    with EpisodeStore.open(every) as found:
        good = [e for e in found if e.success][:count]
        with EpisodeStore.create(path, found.spec) as store:
            for episode in good:
                store.append(episode)


def last_metrics(folder: Path) -> dict[str, float]:
    """The last value of each figure about the human, and the share of steps that were theirs over the training."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last: dict[str, float] = {}
    for row in rows:
        last |= {k: v for k, v in row.items() if k.startswith(("human/", "episode/"))}
    curve = [(r["env_steps"], r["human/share"], r["episode/success"]) for r in rows if "human/share" in r]
    return {**last, "curve": curve[:: max(1, len(curve) // 20)], "cpu_seconds": rows[-1]["cpu_seconds"]}  # type: ignore[dict-item]


def run(setting: Setting, study_name: str, learner: str, seed: int, folder: Path, episodes: int) -> dict[str, Any]:
    study = study_of(setting, study_name, folder)
    demos = folder / f"{study_name}-{seed}.rrl"
    record_demos(setting, study.human, study.demos, demos, 10_000 + seed)
    algorithm, changes = study.learners[learner]
    changes = {**changes, "demos": str(demos), **{f"task.{k}": v for k, v in setting.options.items()}}
    changes |= {"task.reward_kind": "sparse", "task.threads": 1, "runner.tensorboard": False}
    if learner != "bc":
        changes |= {f"human.{k}": v for k, v in to_dict(study.human).items()}
    out, begin = folder / f"{study_name}-{learner}-{seed}", time.process_time()
    done = train(setting.task, algorithm, out, changes, seed=seed, quiet=True, resume=(out / "run.json").exists())
    if not done.completed:
        raise SystemExit(130)
    result = evaluate(out, setting, episodes) | {"cpu_seconds": time.process_time() - begin}
    return result | ({} if learner == "bc" else {"training": last_metrics(out)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", default="reach", choices=SETTINGS)
    parser.add_argument("--studies", nargs="+", default=["careful", "poor"], choices=["careful", "poor"])
    parser.add_argument("--learners", nargs="+", help="default: all of the study")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=200, help="of each evaluation")
    parser.add_argument("--steps", type=int, help="of training, where not the setting's")
    parser.add_argument("--folder", type=Path, default=Path("runs/humans"), help="for run folders and demonstrations")
    parser.add_argument("--results", type=Path, default=Path("runs/humans.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setting = SETTINGS[arguments.setting]
    setting = replace(setting, steps=arguments.steps or setting.steps)
    folder = arguments.folder / arguments.setting
    folder.mkdir(parents=True, exist_ok=True)
    results = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}

    def once(key: str, make: Any) -> None:
        if key not in results:
            results[key] = make()
            aside = arguments.results.with_suffix(".part")
            aside.write_text(json.dumps(results, indent=1))
            aside.replace(arguments.results)
        shown = {k: v for k, v in results[key].items() if k != "training"}
        print(key, json.dumps(shown), json.dumps(results[key].get("training", {}))[:300], flush=True)

    for name in arguments.studies:
        study = study_of(setting, name, folder)
        once(f"{arguments.setting}/{name}/human", partial(play_human, setting, study.human, 100, 5))
        for seed in arguments.seeds:
            for learner in arguments.learners or study.learners:
                key = f"{arguments.setting}/{name}/{learner}/{seed}"
                once(key, partial(run, setting, name, learner, seed, folder, arguments.episodes))


if __name__ == "__main__":
    main()
