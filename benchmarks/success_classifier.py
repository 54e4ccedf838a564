"""A success classifier against the simulator's word: learnt from noisy experts, judged on episodes of its own.

    python benchmarks/success_classifier.py [--task panda-insert] [--episodes 300] [--seeds 3] [--folder DIR]

A batch of arms under the scripted expert with noise between none and much is recorded (sparse reward, so a success ends
its episode), `robot-rl classifier train` learns from it, and another batch, with other starts and other noise, is
judged: how many true successes it notices and when, how many episodes it calls solved that are not, at the chosen
threshold and at 0.85. There the reward is dense and nothing ends at success, as where it is the reward.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robot_rl import registry
from robot_rl.cli import main as robot_rl
from robot_rl.data.episode import DataSpec, EpisodeRecorder, Feature
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import RobotRlError
from robot_rl.evaluation.report import share
from robot_rl.evaluation.statistics import wilson
from robot_rl.policies.classifier.network import OUTPUT
from robot_rl.policy import Policy

ARMS = 30
EARLY = 5
"""Steps by which a success may be said before the task says it: it must stay solved for some, too."""


class NoisyExperts:
    """A batch of arms, each with noise of its own level, drawn anew with every episode, held for some steps."""

    def __init__(self, task: str, options: dict[str, Any], seed: int, noise: tuple[float, float]) -> None:
        self.env = registry.load("task", task).overridden({"threads": 1, **options}).make(ARMS, seed, "cpu")
        self.expert = registry.load("base", task)()
        self.rng, self.noise = np.random.default_rng(seed), noise
        self.level = self.rng.uniform(*noise, (ARMS, 1))
        self.held = np.zeros((ARMS, self.env.action_dim))

    def signals(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.env.signals().items()}

    def step(self) -> tuple[np.ndarray, Any]:
        action = np.asarray(self.expert.action(self.signals()))
        redraw = self.rng.random((ARMS, 1)) < 0.25
        self.held = np.where(redraw, self.rng.normal(0.0, 1.0, self.held.shape), self.held)
        action = np.clip(action + self.level * self.held, -1.0, 1.0).astype(np.float32)
        step = self.env.step(torch.from_numpy(action))
        over = (step.terminated | step.truncated).numpy()
        self.level = np.where(over[:, None], self.rng.uniform(*self.noise, (ARMS, 1)), self.level)
        return action, step


def record(task: str, path: Path, episodes: int, seed: int, noise: tuple[float, float]) -> int:
    """Write so many episodes, the first of each arm in turn; returns how many succeeded."""
    world = NoisyExperts(task, {"reward_kind": "sparse"}, seed, noise)
    env, names = world.env, [s.name for s in world.env.task.signals]
    features = {f"obs/{s.name}": Feature("float32", s.shape, s.unit) for s in env.task.signals}
    features["action"] = Feature("float32", (env.action_dim,))
    facts = {"options": {"reward_kind": "sparse"}}
    spec = DataSpec(env.control_dt, features, task, env.task.robot, facts)
    recorders, kept, succeeded = [EpisodeRecorder(spec) for _ in range(ARMS)], 0, 0
    with EpisodeStore.create(path, spec) as store:
        now = world.signals()
        for arm, recorder in enumerate(recorders):
            recorder.begin({f"obs/{n}": now[n][arm] for n in names})
        while kept < episodes:
            action, step = world.step()
            last, now = {n: env.final_signals[n].numpy() for n in names}, world.signals()
            for arm, recorder in enumerate(recorders):
                recorder.add({"action": action[arm]}, {f"obs/{n}": last[n][arm] for n in names})
                if not (step.terminated[arm] or step.truncated[arm]):
                    continue
                good = bool(step.reward[arm] > 0.0)
                store.append(recorder.end(bool(step.terminated[arm]), bool(step.truncated[arm]), good))
                recorder.begin({f"obs/{n}": now[n][arm] for n in names})
                kept, succeeded = kept + 1, succeeded + good
                if kept == episodes:
                    break
    return succeeded


def judged(task: str, file: Path, episodes: int, seed: int, noise: tuple[float, float]) -> dict[str, np.ndarray]:
    """For each episode: the first step at which it was solved, and at which the classifier said so at either threshold.

    −1 stands for never.
    """
    world, judge = NoisyExperts(task, {}, seed, noise), Policy.load(file, num_envs=ARMS)
    thresholds = (float(judge.contract.provenance["classifier"]["threshold"]), 0.85)
    first = {name: np.full(ARMS, -1) for name in ("true", "chosen", "0.85")}
    rows: dict[str, list[int]] = {name: [] for name in first}
    age = np.zeros(ARMS, int)
    while len(rows["true"]) < episodes:
        _, step = world.step()
        shown = {s.name: world.env.final_signals[s.name].numpy() for s in judge.contract.signals}
        said, age = judge.act(shown)[OUTPUT][:, 0], age + 1
        over = (step.terminated | step.truncated).numpy()
        solved = world.env.solved.numpy() & ~over  # of an episode that is over, the next one's is there already
        said = np.where(over, 0.0, said)
        for name, now in (("true", solved), ("chosen", said > thresholds[0]), ("0.85", said > thresholds[1])):
            first[name] = np.where((first[name] < 0) & now, age, first[name])
        for arm in np.nonzero(over)[0]:
            for name, value in first.items():
                rows[name].append(int(value[arm]))
                value[arm] = -1
        age[over] = 0
    return {name: np.array(values[:episodes]) for name, values in rows.items()}


def tell(first: dict[str, np.ndarray], control_dt: float) -> None:
    """One line for each threshold."""
    solved = first["true"] >= 0
    print(f"  {solved.sum()} of {len(solved)} episodes truly solved")
    for name in ("chosen", "0.85"):
        said, late = first[name] >= 0, first[name] - first["true"]
        noticed, early = solved & said, solved & said & (late < -EARLY)
        delay = np.median(late[noticed]) * control_dt if noticed.any() else float("nan")
        print(
            f"  {name:6} noticed {share(wilson(int(noticed.sum()), int(solved.sum())))}, median {delay:+.2f} s; "
            f"more than {EARLY * control_dt:.2f} s early {share(wilson(int(early.sum()), int(solved.sum())))}; "
            f"never solved but said {share(wilson(int((said & ~solved).sum()), int((~solved).sum())))}",
            flush=True,
        )


def main() -> int:
    """Record, learn, report and judge, for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="panda-insert")
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--noise", type=float, nargs=2, default=(0.0, 0.4), help="levels, in units of an action")
    parser.add_argument("--folder", type=Path, help="where files are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    control_dt = registry.load("task", arguments.task).rate.control_dt
    noise = (arguments.noise[0], arguments.noise[1])
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for seed in range(arguments.seeds):
            episodes, file = folder / f"episodes-{seed}.rrl", folder / f"classifier-{seed}.onnx"
            if not episodes.exists():
                good = record(arguments.task, episodes, arguments.episodes, seed, noise)
                print(f"seed {seed}: recorded {arguments.episodes} episodes, {good} successful", flush=True)
            words = ["classifier", "train", str(episodes), "-o", str(file), "--force", "--seed", str(seed)]
            if robot_rl([*words, "--plots", str(folder / f"plots-{seed}")]):
                return 1
            print(f"seed {seed}, judging {arguments.episodes} other episodes, nothing ends at success:")
            tell(judged(arguments.task, file, arguments.episodes, 1000 + seed, noise), control_dt)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RobotRlError as error:
        sys.exit(str(error))
