"""Two processes that train together equal one that has all the data; started by torchrun as users do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from point_mass_run import run
from two_processes import learner, update

from robot_rl.errors import CheckpointError
from robot_rl.policies.distributed import Ranks
from robot_rl.policies.run_folder import read_checkpoint
from robot_rl.policies.runner import load_policy

ROOT = Path(__file__).parents[2]


def torchrun(*command: str) -> str:
    """Output of two processes that must succeed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command]
    done = subprocess.run(start, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("two")
    torchrun(str(Path(__file__).with_name("two_processes.py")), str(path))
    return path


def flat(state) -> torch.Tensor:
    return torch.cat([t.double().reshape(-1) for module in state.values() for t in module.values()])


@pytest.mark.parametrize("name, changes", [("mlp", {}), ("gru", {"gru": 8})])
def test_half_the_environments_each_give_the_update_of_all(folder, name, changes):
    """Three gradient steps: parameters, normalisers, learning rate and metrics, up to the order of summation."""
    both = [torch.load(folder / f"{name}-{rank}.pt") for rank in (0, 1)]
    assert torch.equal(flat(both[0]["state"]), flat(both[1]["state"])), "both processes hold the same networks"
    alone = update(learner(16, **changes), 0)
    before = flat(learner(16, **changes).state_dict()["modules"])
    assert (flat(alone["state"]) - before).abs().max() > 1e-3
    assert torch.allclose(flat(both[0]["state"]), flat(alone["state"]), rtol=1e-4, atol=2e-5)
    assert both[0]["rate"] == pytest.approx(alone["rate"])
    for key in ("loss/surrogate", "loss/value", "policy/kl", "policy/clipped"):
        assert both[0]["metrics"][key] == pytest.approx(alone["metrics"][key], rel=1e-3, abs=1e-6)


def test_a_run_stops_everywhere_when_one_process_is_asked_to_and_resumes_exactly(folder):
    record = json.loads((folder / "resumed/run.json").read_text())
    assert record["status"] == "completed" and len(record["resumed"]) == 1
    assert record["env_steps"] == 2 * 20 * 16 * 8
    rows = [json.loads(line) for line in (folder / "resumed/metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == list(range(1, 21)), "rank 0 alone writes"
    for rank in (0, 1):
        resumed, whole = (torch.load(folder / f"{name}-{rank}.pt") for name in ("resumed", "whole"))
        assert torch.equal(flat(resumed["modules"]), flat(whole["modules"]))
        assert torch.equal(resumed["obs"]["policy"], whole["obs"]["policy"])
        assert torch.equal(resumed["generator"], whole["generator"])


def test_processes_see_different_worlds_and_hold_the_same_networks(folder):
    first, second = (torch.load(folder / f"whole-{rank}.pt") for rank in (0, 1))
    assert not torch.equal(first["obs"]["policy"], second["obs"]["policy"])
    assert torch.equal(flat(first["modules"]), flat(second["modules"]))


def test_nothing_of_the_group_is_left_when_they_part(folder):
    """A thread of the group that outlives the interpreter aborts the process, now and then."""
    for rank in (0, 1):
        names = torch.load(folder / f"threads-{rank}.pt")
        assert names and not [name for name in names if "gloo" in name]


def test_one_process_can_deploy_but_not_continue_what_two_have_trained(folder, tmp_path):
    from fakes import PointMass

    state = read_checkpoint(next((folder / "whole/checkpoints").iterdir()))
    assert len(state["other_processes"]) == 1
    assert load_policy(folder / "whole", PointMass(16))(torch.zeros(1, 3)).shape == (1, 1)
    with pytest.raises(CheckpointError, match=r"trained by 2 processes, now there are 1.*--nproc-per-node 2"):
        run("ppo", folder / "whole", resume=True)


def test_the_command_line_under_torchrun(tmp_path):
    small = ["num_envs=8", "steps_per_env=4", "iterations=2", "epochs=1", "actor_hidden=[8]", "critic_hidden=[8]"]
    command = ["-m", "robot_rl.cli", "train", "quadrotor-hover", "--algorithm", "ppo", "--quiet"]
    output = torchrun(*command, "--out", str(tmp_path / "run"), "--set", *small)
    assert output.count("wrote") == 1
    assert json.loads((tmp_path / "run/run.json").read_text())["env_steps"] == 2 * 8 * 4 * 2


def test_alone_nothing_changes():
    x, ranks = torch.randn(7, 3), Ranks()
    n, mean, variance = ranks.moments(x)
    assert n == 7 and torch.equal(mean, x.mean(0)) and torch.equal(variance, x.var(0, unbiased=False))
    assert ranks.seed(4) == 4 and ranks.gather("a") == ["a"] and ranks.from_first("a") == "a"
    assert Ranks(1, 2).seed(4) != Ranks(1, 2).seed(5) != ranks.seed(5)
