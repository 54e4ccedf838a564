"""`robot-rl demos`: what is recorded can be replayed to the last bit, is what the policy does, and is never lost."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx.helper as oh
import onnx.numpy_helper as onh
import pytest
import torch
from standing_policy import write_standing_policy

from robot_rl.cli import main
from robot_rl.contract import Contract, Golden, GoldenStep, Memory
from robot_rl.data.episode import Episode
from robot_rl.data.store import EpisodeStore
from robot_rl.data.tools import check
from robot_rl.evaluation.episodes.record import seed_of, truncated_noise
from robot_rl.evaluation.jointed.rollout import Player
from robot_rl.policy_file import graph_sha256, write_policy_file
from robot_rl.registry import load, names
from robot_rl.sim.robots.go1 import OWN
from robot_rl.sim.task_spec import make_env

EXPERTS = [name for name in names("base") if name.startswith("panda-")]
SPARSE = ["threads=1", "reward_kind=sparse"]  # an episode ends where it is solved: half the time


def demos(path: Path, *words: str) -> int:
    return main(["demos", *words, "-o", str(path)])


def episodes(path: Path) -> list[Episode]:
    assert check(path) == []
    with EpisodeStore.open(path) as store:
        return list(store)


def assert_replays(path: Path, task: str) -> None:
    """Every episode: a fresh environment under the recorded actions sees, gives and charges the same."""
    for episode in episodes(path):
        env: Any = make_env(task, 1, episode.facts["seed"], overrides=episode.facts["options"])
        seen = [{k: v.clone() for k, v in env.reset(episode.facts["seed"]).items()}]
        for k, action in enumerate(episode.arrays["action"]):
            step = env.step(torch.tensor(action)[None])
            seen.append(step.final_obs)
            assert step.reward.item() == episode.arrays["reward"][k]
            for name, cost in step.cost.items():
                assert cost.item() == episode.arrays[f"cost/{name}"][k]
        assert (bool(step.terminated), bool(step.truncated)) == (episode.terminated, episode.truncated)
        for group in ("policy", "critic"):
            rows = torch.cat([observed[group] for observed in seen]).numpy()
            np.testing.assert_array_equal(rows, episode.arrays[f"obs/{group}"])


@pytest.mark.parametrize("task", EXPERTS)
def test_an_expert_succeeds_as_recorded(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demos.rrl"
    assert demos(path, task, "--episodes", "1", "--seed", "4", "--set", *SPARSE) == 0
    kept = episodes(path)
    assert [(e.success, e.facts["seed"]) for e in kept] == [(True, seed_of(4, 0))]
    assert all(e.arrays["reward"][-1] == 1.0 and e.terminated and not e.truncated for e in kept)
    assert "success 1 of 1: 100.0 % (20.7–100.0); wrote 1 episode " in capsys.readouterr().out
    with EpisodeStore.open(path) as store:
        expert = load("base", task)
        wanted = ("dx", "dy", "dz") + ("dyaw",) * expert.turns + ("gripper",) * expert.grips
        assert store.spec.features["action"].names == wanted and "action_proposed" not in store.spec.features
        assert store.spec.task == task and store.spec.facts["policy"] == f"base:{task}"


def test_noise_is_executed_and_the_experts_own_action_kept(tmp_path: Path) -> None:
    path = tmp_path / "demos.rrl"
    assert demos(path, "base:panda-pick", "--episodes", "1", "--noise", "0.2", "--set", "threads=1", "episode_s=1") == 0
    assert_replays(path, "panda-pick")
    (episode,) = episodes(path)
    done, proposed = episode.arrays["action"], episode.arrays["action_proposed"]
    assert np.abs(done).max() <= 1.0 and np.abs(proposed).max() <= 1.0
    inside = np.abs(proposed) < 0.4
    assert 0.1 < (done - proposed)[inside].std() < 0.3 and (done != proposed).mean() > 0.99
    assert episode.truncated and not episode.success and len(episode) == 25
    assert demos(path, "base:panda-pick", "--episodes", "1", "--append") == 2, "other features"


def test_noise_is_normal_cut_off_at_the_ends() -> None:
    rng, sigma = np.random.default_rng(0), 0.3
    drawn = truncated_noise(np.repeat(np.float32([0.0, 0.9, 1.0, -1.0]), 20_000), sigma, rng).reshape(4, -1)
    assert np.abs(drawn).max() <= 1.0 and (np.abs(drawn) == 1.0).mean() < 1e-3, "nothing piles up at the ends"
    assert drawn[0].mean() == pytest.approx(0.0, abs=0.01) and drawn[0].std() == pytest.approx(sigma, rel=0.03)
    half = sigma * np.sqrt(2.0 / np.pi)  # mean of a normal distribution cut in the middle
    assert drawn[2].mean() == pytest.approx(1.0 - half, abs=0.01)
    assert drawn[3].mean() == pytest.approx(-1.0 + half, abs=0.01)
    assert drawn[2].mean() > drawn[1].mean() > drawn[2].mean() - 0.1


def test_a_controller_flies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demos.rrl"
    assert demos(path, "base:lee") == 2 and "--task" in capsys.readouterr().err
    words = ["base:lee", "--task", "quadrotor-hover", "--episodes", "2", "--set", "episode_s=1"]
    assert demos(path, *words) == 0
    assert_replays(path, "quadrotor-hover")
    first, second = episodes(path)
    assert first.success and second.success and len(first) == 100
    names_of = EpisodeStore.open(path).spec.features["action"].names
    assert len(names_of) == 4


def write_remembering_policy(path: Path) -> Path:
    """The Go1's targets from action = tanh(0.9 · previous action + 0.3), which the file remembers."""
    task = load("task", "go1-velocity-flat")
    pose, scale = np.float32(OWN.default_pose), np.float32(task.options.action_scale)
    signal = next(s for s in task.signals if s.name == "joint_pos")
    nodes = [
        oh.make_node("Mul", ["memory_in.previous_action", "share"], ["left"]),
        oh.make_node("Add", ["left", "bias"], ["sum"]),
        oh.make_node("Tanh", ["sum"], ["memory_out.previous_action"]),
        oh.make_node("Mul", ["memory_out.previous_action", "scale"], ["away"]),
        oh.make_node("Mul", ["joint_pos", "zero"], ["nothing"]),
        oh.make_node("Add", ["away", "nothing"], ["moved"]),
        oh.make_node("Add", ["moved", "pose"], ["joint_pos_target"]),
    ]
    values = {"share": np.float32(0.9), "bias": np.float32(0.3), "scale": scale, "zero": np.float32(0), "pose": pose}
    names_in, names_out = ("joint_pos", "memory_in.previous_action"), ("joint_pos_target", "memory_out.previous_action")
    ends = [[oh.make_tensor_value_info(n, 1, ["batch", 12]) for n in part] for part in (names_in, names_out)]
    graph = oh.make_graph(nodes, "remembering", *ends, [onh.from_array(np.array(v), k) for k, v in values.items()])
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)
    zeros, action = (0.0,) * 12, np.tanh(np.full(12, 0.3, np.float32))
    step = GoldenStep(
        {"joint_pos": zeros}, {"previous_action": zeros}, {"joint_pos_target": tuple((pose + scale * action).tolist())},
        {"previous_action": tuple(action.tolist())},
    )  # fmt: skip
    contract = Contract(
        task=task.name, robot=task.robot, signals=(signal,), commands=task.commands, rate=task.rate,
        memory=(Memory("previous_action", (12,), zeros),), graph_sha256=graph_sha256(model),
        golden=Golden(2e-6, (step,)),
    )  # fmt: skip
    write_policy_file(path, model, contract)
    return path


def test_a_policy_file_does_what_it_does_in_an_evaluation(tmp_path: Path) -> None:
    policy, path = write_remembering_policy(tmp_path / "policy.onnx"), tmp_path / "demos.rrl"
    assert demos(path, str(policy), "--episodes", "1", "--set", "threads=1", "episode_s=0.5") == 0
    assert_replays(path, "go1-velocity-flat")
    (episode,) = episodes(path)
    assert episode.facts["sha256"] == hashlib.sha256(policy.read_bytes()).hexdigest()
    player = Player(policy, load("task", "go1-velocity-flat").overridden({"threads": 1, "episode_s": 0.5}), 1, 0)
    player.reset(episode.facts["seed"])
    critic = np.array([player.step().obs["critic"][0].numpy() for _ in range(len(episode))])
    known = critic.any(axis=0)  # under commands the environment does not know the previous action
    assert known.mean() > 0.6
    np.testing.assert_allclose(critic[:, known], episode.arrays["obs/critic"][1:][:, known], atol=2e-3)


def test_a_policy_file_remembers_what_was_executed(tmp_path: Path) -> None:
    policy, path = write_remembering_policy(tmp_path / "policy.onnx"), tmp_path / "demos.rrl"
    words = ["--episodes", "1", "--noise", "0.3", "--set", "threads=1", "episode_s=0.5"]
    assert demos(path, str(policy), *words) == 0
    assert_replays(path, "go1-velocity-flat")
    (episode,) = episodes(path)
    done, proposed = episode.arrays["action"], episode.arrays["action_proposed"]
    before = np.concatenate([np.zeros((1, 12), np.float32), done[:-1]])
    np.testing.assert_allclose(proposed, np.tanh(0.9 * before + 0.3), atol=1e-5)
    assert (done - proposed).std() > 0.1


def test_a_file_without_memory_goes_through_the_inverse_of_the_action_map(tmp_path: Path) -> None:
    policy, path = write_standing_policy(tmp_path / "stand.onnx"), tmp_path / "demos.rrl"
    words = [str(policy), "--episodes", "1", "--set", "threads=1", "episode_s=0.4", "command.forward=[1.0,1.0]"]
    assert demos(path, *words, "command.standing=0") == 0
    assert_replays(path, "go1-velocity-flat")
    (episode,) = episodes(path)
    scale = load("task", "go1-velocity-flat").options.action_scale
    np.testing.assert_allclose(episode.arrays["action"], 0.05 / scale, rtol=1e-4)


def test_commands_that_are_no_actions_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demos.rrl"
    assert demos(path, "panda-reach", "--set", "threads=1", "step_size=0.02") == 2
    assert "cannot be expressed as actions of 'panda-reach'" in capsys.readouterr().err
    lean = write_standing_policy(tmp_path / "lean.onnx", lean=2.0)
    assert demos(path, str(lean), "--set", "threads=1", "command.forward=[1.0,1.0]", "command.standing=0") == 2
    assert "cannot be expressed" in capsys.readouterr().err and not path.exists()


def test_only_successes_are_kept_or_it_is_given_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demos.rrl"
    words = ["panda-reach", "--only-success", "--set", *SPARSE]
    assert demos(path, *words, "episode_s=0.36", "--episodes", "3", "--seed", "1") == 0  # too short for most
    kept = episodes(path)
    assert len(kept) == 3 and all(e.success for e in kept)
    last = kept[-1].facts["run"]
    assert last["played"] == last["attempt"] + 1 > last["succeeded"] == 3
    assert f"success 3 of {last['played']}:" in capsys.readouterr().out
    never = tmp_path / "never.rrl"
    assert demos(never, *words, "episode_s=0.04", "--episodes", "1") == 1
    assert "success 0 of 10" in capsys.readouterr().out and not never.exists()


def test_nothing_is_overwritten_and_more_can_be_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demos.rrl"
    words = ["panda-reach", "--episodes", "2", "--set", "threads=1", "episode_s=0.2"]
    assert demos(path, *words, "--append") == 0
    before = path.read_bytes()
    assert demos(path, *words) == 2 and "--append" in capsys.readouterr().err
    assert demos(path, "panda-push", *words[1:], "--append") == 2
    shown = capsys.readouterr().err
    assert "task: 'panda-reach' and 'panda-push'" in shown and "obs/policy" in shown
    assert path.read_bytes() == before
    assert demos(path, *words, "--append") == 0
    assert path.read_bytes().startswith(before)
    assert [e.facts["seed"] for e in episodes(path)] == [seed_of(0, k) for k in range(4)], "none comes twice"


def test_impossible_wishes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demos.rrl"
    for words, said in (
        (["panda-reach", "--episodes", "0"], "at least 1"),
        (["panda-reach", "--noise", "-0.1"], "from 0 to 10"),
        (["go1-velocity-flat"], "no scripted expert"),
        (["base:lee", "--task", "quadrotor-hover", "--images"], "no cameras"),
        (["base:nobody"], "nobody"),
        (["panda-reach", "--set", "colour=red"], "colour"),
    ):
        assert demos(path, *words) == 2
        assert said in capsys.readouterr().err
    assert not path.exists()
