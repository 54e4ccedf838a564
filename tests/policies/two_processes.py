"""What each of two processes does in test_distributed.py; started by torchrun.

torchrun --nproc-per-node 2 two_processes.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))


def learner(num_envs: int, **changes):
    """A learner whose rollout does not come from an environment (`fill`)."""
    from fakes import PointMass

    from robot_rl.policies.algorithms.ppo import Ppo, PpoConfig

    sizes = {"steps_per_env": 8, "actor_hidden": (16,), "critic_hidden": (16,), "epochs": 3, "minibatches": 1}
    config = PpoConfig(num_envs=num_envs, **(sizes | changes))
    return Ppo(PointMass(num_envs), config, seed=3)


def fill(learned, first: int) -> None:
    """Rows `first` … of a rollout of 16 environments that every process can make."""
    g, r, n = torch.Generator().manual_seed(5), learned.rollout, learned.config.num_envs
    for name in ("policy", "critic", "action", "mean", "reward", "logp", "value", "advantage", "returns"):
        field = getattr(r, name)
        drawn = torch.randn(field.shape[0], 16, *field.shape[2:], generator=g)
        setattr(r, name, drawn[:, first : first + n].clone())
    r.logp = r.logp.abs().neg()
    r.mean *= 0.1
    r.action = r.mean + 0.5 * r.action
    r.done = torch.rand(8, 16, generator=g)[:, first : first + n] < 0.2
    if learned.config.gru:
        states = torch.randn(2, 16, learned.config.gru, generator=g)[:, first : first + n].clone()
        r.actor_state, r.critic_state = states


def update(learned, first: int) -> dict:
    """What an update and the normalisers make of the rollout."""
    fill(learned, first)
    learned._normalise(learned.rollout.policy, learned.rollout.critic)
    metrics = learned._update()
    return {"state": learned.state_dict()["modules"], "rate": metrics["policy/learning_rate"], "metrics": metrics}


def main(folder: Path) -> None:
    from point_mass_run import run

    from robot_rl.policies.distributed import joined

    torch.set_num_threads(1)
    with joined() as ranks:
        for name, changes in (("mlp", {}), ("gru", {"gru": 8})):
            torch.save(update(learner(8, **changes), 8 * ranks.rank), folder / f"{name}-{ranks.rank}.pt")
        for part, resume in ((10, False), (20, True)):
            stop_early(part)
            result = run("ppo", folder / "resumed", resume=resume)
        stop_early(None)
        whole = run("ppo", folder / "whole")
        for name, done in (("resumed", result), ("whole", whole)):
            torch.save(done.algorithm.state_dict(), folder / f"{name}-{ranks.rank}.pt")
    names = {comm.read_text().strip() for comm in Path("/proc/self/task").glob("*/comm")}
    torch.save(names, folder / f"threads-{ranks.rank}.pt")


def stop_early(iterations: int | None) -> None:
    """Only rank 1 is asked to stop after so many iterations; both must."""
    from robot_rl.policies.algorithms import ppo
    from robot_rl.policies.distributed import current_ranks

    step = getattr(ppo.Ppo, "plain_step", ppo.Ppo.step)
    ppo.Ppo.plain_step = step  # type: ignore[attr-defined]

    def stopping(self, env):
        import os
        import signal

        metrics = step(self, env)
        if self.iteration == iterations and current_ranks().rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return metrics

    ppo.Ppo.step = step if iterations is None else stopping  # type: ignore[method-assign]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
