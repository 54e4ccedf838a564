"""Refine clones of a few demonstrations from success alone, beside its baseline and its ablations: docs/results.md.

    python benchmarks/refining.py panda-insert                               # resfit, 5 seeds, one core
    python benchmarks/refining.py panda-insert --what resfit rlpd no-demos no-layer-norm --seeds 0 1 2
    python benchmarks/refining.py panda-insert --ceiling 0.1 0.15 0.25 0.4   # how far must a correction be able to go?

Every seed has demonstrations, a clone of them and a training of its own; all files of a seed are judged on the same
starts. What stands in the output folder already is not done again, so a long benchmark can be run in pieces.

The ceiling: at every step the clone's action is moved towards the task's scripted expert, at most by the bound. What
no correction could solve, no learner will.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from jointed_targets import command, finished

from robot_rl.evaluation.statistics import wilson
from robot_rl.policies.algorithms.resfit import ResFitConfig
from robot_rl.policies.off_policy.demos import read_demos
from robot_rl.policies.residual.actor import demonstrated, limited
from robot_rl.policies.residual.base import FrozenBase
from robot_rl.sim.task_spec import make_env

WHAT: dict[str, tuple[str, tuple[str, ...]]] = {
    "resfit": ("resfit", ()),
    "rlpd": ("rlpd", ()),
    "no-demos": ("resfit", ("demo_share=0",)),
    "no-layer-norm": ("resfit", ("critic_layer_norm=false", "actor_layer_norm=false")),
    "all-seeing": ("resfit", ("critic_group=critic",)),
    "rough-target": ("resfit", ("target_noise=0.1",)),
}
"""Contenders: algorithm, and what is set differently."""
SPARSE = "reward_kind=sparse"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--what", nargs="+", choices=[*WHAT], default=["resfit"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--demos", type=int, default=20, help="demonstrations per seed")
    parser.add_argument("--steps", type=int, default=200_000, help="environment steps of every contender")
    parser.add_argument("--episodes", type=int, default=200, help="of each evaluation")
    parser.add_argument("--set", action="extend", nargs="+", default=[], dest="changes", help="of all contenders")
    parser.add_argument("--ceiling", type=float, nargs="+", default=[], metavar="SCALE")
    parser.add_argument("--out", type=Path, default=Path("runs/refining"))
    arguments = parser.parse_args()
    rows: dict[str, list[float]] = {}
    for seed in arguments.seeds:
        for name, share in one_seed(arguments, seed).items():
            rows.setdefault(name, []).append(share)
            sure = wilson(round(share * arguments.episodes), arguments.episodes)
            print(
                f"seed {seed}  {name:14} {100 * share:5.1f} % [{100 * sure.lower:.1f}, {100 * sure.upper:.1f}]",
                flush=True,
            )
    for name, shares in rows.items():
        shown = " ".join(f"{100 * s:.1f}" for s in shares)
        print(f"{name:14} median {100 * statistics.median(shares):5.1f} %, worst {100 * min(shares):.1f} %: {shown}")


def one_seed(arguments: argparse.Namespace, seed: int) -> dict[str, float]:
    """Success of the clone and of every contender, by name."""
    folder: Path = arguments.out / f"{arguments.task}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    demos, clone = folder / "demos.rrl", folder / "clone.onnx"
    if not demos.exists():
        command("demos", f"base:{arguments.task}", "--episodes", str(arguments.demos), "--only-success",
                "--set", SPARSE, "--seed", str(1000 + seed), "-o", str(demos))  # fmt: skip
    trained(arguments, "bc", seed, clone, ["horizon=8", f"demos={demos}"])
    shares = {"clone": success(arguments, clone)}
    for scale in arguments.ceiling:
        shares[f"at most {scale:g}"] = ceiling(arguments.task, clone, demos, scale, arguments.episodes)
    for name in () if arguments.ceiling else arguments.what:
        algorithm, changes = WHAT[name]
        base = [f"base={clone}"] if algorithm == "resfit" else []
        policy = folder / f"{name}.onnx"
        settings = [*base, f"demos={demos}", f"total_steps={arguments.steps}", *changes, *arguments.changes]
        trained(arguments, algorithm, seed, policy, settings)
        shares[name] = success(arguments, policy)
    return shares


def trained(arguments: argparse.Namespace, algorithm: str, seed: int, policy: Path, settings: list[str]) -> None:
    """Train and export, unless that is done; goes on with a training that was cut off."""
    run = policy.with_suffix("")
    if not finished(run):
        again = ["--resume"] if (run / "run.json").exists() else []
        command("train", arguments.task, "--algorithm", algorithm, "--seed", str(seed), "--out", str(run), "--quiet",
                *again, "--set", f"task.{SPARSE}", "task.threads=1", *settings)  # fmt: skip
        policy.unlink(missing_ok=True)
    if not policy.exists():
        command("export", str(run), "-o", str(policy))
        document(policy).unlink(missing_ok=True)


def document(policy: Path) -> Path:
    return policy.with_name(f"{policy.stem}-eval.json")


def success(arguments: argparse.Namespace, policy: Path) -> float:
    """Share of solved episodes, on starts that are the same for every policy."""
    path = document(policy)
    if not path.exists():
        command("eval", str(policy), "--scenarios", "task", "--episodes", str(arguments.episodes), "--no-video",
                "--set", SPARSE, "--seed", "77", "--json", str(path))  # fmt: skip
    return float(json.loads(path.read_text())["results"][0]["summary"]["success"]["value"])


@torch.no_grad()
def ceiling(task: str, clone: Path, demos: Path, scale: float, episodes: int) -> float:
    """Share of episodes solved by the clone with the best correction that the expert knows of."""
    env: Any = make_env(task, episodes, 77, overrides={"threads": 1, "reward_kind": "sparse", "auto_reset": False})
    env.reset(77)
    base, expert = (FrozenBase.read(n).proposer(env) for n in (str(clone), f"base:{task}"))
    config = ResFitConfig(demos=str(demos), scale=scale)
    actions = torch.cat([torch.from_numpy(e.arrays["action"]) for e in read_demos(config, {}, env.action_dim)])
    middle, reach = demonstrated(actions)
    solved, over = torch.zeros(episodes, dtype=torch.bool), torch.zeros(episodes, dtype=torch.bool)
    for _ in range(int(env.max_episode_steps)):
        signals = {name: value.numpy() for name, value in env.signals().items()}
        own, wanted = (torch.from_numpy(p.propose(signals)) for p in (base, expert))
        change = torch.clamp(wanted - own, -scale * reach, scale * reach)
        action = limited(own, change, middle, (1.0 + scale) * reach)
        base.executed(action)
        expert.executed(action)
        step = env.step(action)
        solved |= (step.reward > 0.5) & ~over
        over |= solved | step.terminated | step.truncated
    return solved.float().mean().item()


if __name__ == "__main__":
    main()
