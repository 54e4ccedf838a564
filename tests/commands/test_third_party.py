"""Tasks of other projects through the command line: demonstrations, cloning, training, resuming, export, evaluation."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl.cli import main
from robot_rl.commands.compose import load_trained
from robot_rl.data.store import EpisodeStore
from robot_rl.policy import Policy
from robot_rl.sim.task_spec import make_env

HERE = Path(__file__).parents[1] / "sim"
WALK = "gym:foreign_envs:walk?kind=Walk"
OPTIONS = ["episode_steps=20", "end_on_success=true"]
TRAINING = [f"task.{option}" for option in OPTIONS]


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE) + os.pathsep + os.environ.get("PYTHONPATH", ""))


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_from_an_expert_to_a_clone_that_succeeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demos, folder, policy = (tmp_path / name for name in ("demos.rrl", "run", "policy.onnx"))
    expert = "expert=foreign_envs:expert"
    assert run("demos", WALK, "--episodes", 4, "--only-success", "-o", demos, "--set", expert, *OPTIONS) == 0
    assert "success 4 of 4" in capsys.readouterr().out
    with EpisodeStore.open(demos) as store:
        assert store.spec.task == WALK and store.spec.control_dt == 0.05
        for episode in store:
            assert episode.success and episode.terminated and not episode.truncated
            env = make_env(WALK, 1, 0, overrides=episode.facts["options"])
            rows = [env.reset(episode.facts["seed"])["policy"]]
            rows += [env.step(torch.tensor(a)[None]).final_obs["policy"] for a in episode.arrays["action"]]
            np.testing.assert_array_equal(torch.cat(rows).numpy(), episode.arrays["obs/policy"])
    settings = [f"demos={demos}", "updates=150", "hidden=[32]", "runner.tensorboard=false", *TRAINING]
    assert run("train", WALK, "--algorithm", "bc", "--quiet", "--out", folder, "--set", *settings) == 0
    assert run("export", folder, "-o", policy) == 0
    loaded = Policy.load(policy)
    assert loaded.contract.task == WALK and loaded.contract.robot == "third-party"
    assert [s.name for s in loaded.contract.signals] == ["obs"] and loaded.contract.commands[0].upper == (2.0, 4.0)
    report = tmp_path / "report.json"
    words = ["--task", WALK, "--episodes", 12, "--json", report, "-o", tmp_path / "eval", "--set", *OPTIONS]
    assert run("eval", policy, *words, "--require", 0.9) == 0
    (result,) = json.loads(report.read_text())["results"]
    assert result["summary"]["success"]["value"] == 1.0 and result["summary"]["success"]["lower"] < 0.9
    assert len(result["episodes"]["seconds"]) == 12 and (tmp_path / "eval" / "episodes.csv").is_file()


def test_the_experts_own_figures_and_noise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["expert=foreign_envs:expert", *OPTIONS]
    assert run("eval", "base:expert", "--task", WALK, "--episodes", 4, "--require", 1, "--set", *options) == 0
    assert "100.0 %" in capsys.readouterr().out
    noisy = tmp_path / "noisy.rrl"
    assert run("demos", WALK, "--noise", 0.3, "--episodes", 2, "-o", noisy, "--set", *options) == 0
    with EpisodeStore.open(noisy) as store:
        (first, _) = store
    assert np.abs(first.arrays["action"] - first.arrays["action_proposed"]).mean() > 0.05
    assert np.abs(first.arrays["action"]).max() <= 1.0


def test_only_the_user_may_name_code_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy, folder = tmp_path / "policy.onnx", tmp_path / "run"
    settings = ["steps_per_env=16", "iterations=1", "num_envs=2", "runner.tensorboard=false", *TRAINING]
    assert run("train", WALK, "--algorithm", "ppo", "--quiet", "--out", folder, "--set", *settings) == 0
    assert run("export", folder, "-o", policy) == 0
    assert run("eval", policy, "--episodes", 2) == 2
    assert "names code to be run" in capsys.readouterr().err


def train(folder: Path, algorithm: str, *settings: object, resume: bool = False) -> int:
    shared = ["num_envs=4", "runner.tensorboard=false", "task.workers=2", "task.episode_steps=30"]
    words = ["gym:Reacher-v5", "--algorithm", algorithm, "--quiet", "--out", folder, *(["--resume"] if resume else [])]
    return run("train", *words, "--set", *settings, *shared)


def test_training_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    settings = ["steps_per_env=25", "epochs=1", "minibatches=2"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, "ppo", "iterations=4", *settings) == 0
    assert train(parts, "ppo", "iterations=2", *settings) == 0
    assert train(parts, "ppo", "iterations=4", *settings, resume=True) == 0
    first, second = (load_trained(folder).actor.state_dict() for folder in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_off_policy_learning_and_stable_baselines(tmp_path: Path) -> None:
    small = ["batch_size=16", "actor_hidden=[16]", "critic_hidden=[16]", "atoms=11", "warmup_steps=40"]
    assert train(tmp_path / "sac", "fast-sac", "total_steps=240", "steps_per_iteration=20", *small) == 0
    assert run("export", tmp_path / "sac", "-o", tmp_path / "sac.onnx") == 0
    assert run("eval", tmp_path / "sac.onnx", "--episodes", 2, "--set", "episode_steps=30") == 0, "its own task"
    arguments = "arguments={n_steps: 16, batch_size: 16, n_epochs: 1}"
    assert train(tmp_path / "sb3", "sb3:PPO", "total_steps=128", arguments) == 0


@pytest.mark.parametrize("network", ["simba", "bro"])
def test_actors_of_residual_blocks_are_exported_and_verified(tmp_path: Path, network: str) -> None:
    blocks = [f"{part}_{what}" for part in ("actor", "critic") for what in (f"network={network}", "hidden=[16,16]")]
    assert train(tmp_path / "sac", "sac", "total_steps=400", "warmup_steps=100", "batch_size=16", *blocks) == 0
    assert run("export", tmp_path / "sac", "-o", tmp_path / "sac.onnx") == 0
    assert run("verify", tmp_path / "sac.onnx") == 0


def test_tasks_that_say_nothing_of_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent, options = "gym:foreign_envs:walk?kind=Falls", ["expert=foreign_envs:expert", "episode_steps=10"]
    path = tmp_path / "demos.rrl"
    assert run("demos", silent, "--episodes", 2, "-o", path, "--set", *options) == 0
    with EpisodeStore.open(path) as store:
        assert [e.success for e in store] == [None, None]
    assert run("demos", silent, "--only-success", "-o", tmp_path / "b.rrl", "--set", *options) == 2
    assert "does not say what a success is" in capsys.readouterr().err
    report = tmp_path / "report.json"
    assert run("eval", "base:expert", "--task", silent, "--episodes", 3, "--json", report, "--set", *options) == 0
    assert " – " in capsys.readouterr().out
    (result,) = json.loads(report.read_text())["results"]
    assert result["summary"]["success"]["value"] is None and "success" not in result["episodes"]


def test_the_list_names_the_schemes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "tasks") == 0
    assert "gym:<ID>" in capsys.readouterr().out
    assert run("train", "gym:No Such", "--algorithm", "ppo") == 2
    assert "not of the form" in capsys.readouterr().err
    assert run("view", "base:expert", "--task", WALK) == 2
