"""Evaluation of policies of robots with joints, on a policy file that makes the Go1 stand."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from standing_policy import HAS_GL, write_standing_policy

from robot_rl.cli import main
from robot_rl.errors import ConfigError, UnknownName
from robot_rl.evaluation.jointed.plots import gaits
from robot_rl.evaluation.jointed.rollout import Player, play
from robot_rl.policy import Policy
from robot_rl.sim.articulated.render import SceneRenderer
from robot_rl.sim.tasks.go1_velocity_flat import TASK

SHORT = {"threads": 1, "episode_s": 0.4}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_standing_policy(tmp_path_factory.mktemp("policy") / "stand.onnx")


def test_command_writes_numbers_with_intervals_pictures_and_a_film(policy: Path, tmp_path: Path) -> None:
    out, found = tmp_path / "out", tmp_path / "r.json"
    command = ["eval", str(policy), "--episodes", "6", "--scenarios", "task,payload", "--seed", "3"]
    changes = ["--set", "threads=1", "episode_s=0.6", "push.every=0"]
    assert main([*command, *changes, "--json", str(found), "-o", str(out)]) == 0
    report = json.loads(found.read_text())
    assert [r["variant"] for r in report["results"]] == ["task", "payload"]
    assert report["facts"]["seed"] == 3 and report["facts"]["options"]["episode_s"] == 0.6
    first, heavy = report["results"]
    assert heavy["changes"]["randomize.base_mass"] == [2.0, 2.0]
    s = first["summary"]
    assert s["success"]["value"] == 1.0 and 0.5 < s["success"]["lower"] < 1.0
    assert s["metrics"]["tracking"]["lower"] <= s["metrics"]["tracking"]["value"] <= s["metrics"]["tracking"]["upper"]
    assert set(s["violations"]) == {"joint_speed", "foot_force", "fall"}
    assert first["episodes"]["seconds"] == pytest.approx([0.6] * 6)
    assert s["metrics"]["tracking"]["value"] == pytest.approx(np.mean(first["episodes"]["tracking"]))
    rows = list(csv.DictReader((out / "episodes.csv").open()))
    assert len(rows) == 12 and float(rows[7]["reward"]) == pytest.approx(heavy["episodes"]["reward"][1], rel=1e-5)
    written = {"episodes.csv", "gait.png", "joints.png", "torques.png", "tracking.png", "variants.png"}
    assert written | ({"sheet.png", "episode.mp4"} if HAS_GL else set()) == {f.name for f in out.iterdir()}


def test_one_player_measures_what_a_plain_loop_measures(policy: Path) -> None:
    task = TASK.overridden({**SHORT, "auto_reset": False})
    episodes, record = play(Player(policy, task, 2, 0), 2, seed=5)
    env, act = task.make(2, 0), Policy.load(policy, num_envs=2)
    env.reset(5)
    reward, tracking = torch.zeros(2), torch.zeros(2)
    for k in range(20):
        assert np.array_equal(record.qpos[k], env.physics.qpos.numpy())  # type: ignore[attr-defined]
        signals = {k: v.numpy() for k, v in env.signals().items()}  # type: ignore[attr-defined]
        step = env.step_command({k: torch.from_numpy(v) for k, v in act.act(signals).items()})  # type: ignore[attr-defined]
        reward, tracking = reward + step.reward, tracking + env.metrics()["tracking"]  # type: ignore[attr-defined]
    assert episodes.reward == pytest.approx(reward.numpy(), abs=1e-5)
    assert episodes.metrics["tracking"] == pytest.approx(tracking.numpy() / 20, abs=1e-5)


def test_every_robot_counts_once_however_soon_it_fails(policy: Path) -> None:
    """Robots that fall at once must not fill the sample with their many short episodes."""
    task = TASK.overridden({**SHORT, "start_tilt": 0.3, "fallen_tilt": 0.25, "push.every": 0.0})
    episodes, record = play(Player(policy, task, 8, 0), 20, seed=1)
    assert len(episodes) == 20
    assert 0 < episodes.failed.sum() < 20
    assert np.array_equal(episodes.failed, ~episodes.success)
    assert episodes.seconds[~episodes.failed] == pytest.approx(0.4)
    assert (episodes.seconds[episodes.failed] <= 0.4).all()
    assert record.alive.sum(0) * record.dt == pytest.approx(episodes.seconds[:8])


def test_same_seed_same_episodes_and_rounds_differ(policy: Path) -> None:
    task = TASK.overridden(SHORT)
    first, _ = play(Player(policy, task, 3, 0), 6, seed=2)
    again, _ = play(Player(policy, task, 3, 0), 6, seed=2)
    assert np.array_equal(first.reward, again.reward)
    assert len(np.unique(first.reward)) == 6


def test_variants_that_change_nothing_are_left_out() -> None:
    assert {"pushes", "noise", "pybullet"} <= set(TASK.tested_variants("all"))
    assert "mujoco" not in TASK.tested_variants("all")
    assert "pushes" not in TASK.overridden({"push.every": 0.0}).tested_variants("all")
    twice = TASK.tested_variants("pushes")["pushes"][1]
    assert twice == {"push.speed": tuple(2 * v for v in TASK.options.push.speed)}
    with pytest.raises(UnknownName, match=r"payloadd.*payload"):
        TASK.tested_variants("payloadd")


def test_another_simulator(policy: Path, tmp_path: Path) -> None:
    found = tmp_path / "r.json"
    command = ["eval", str(policy), "--episodes", "2", "--scenarios", "task", "--physics", "pybullet"]
    assert main([*command, "--set", "episode_s=0.2", "push.every=0", "--json", str(found)]) == 0
    result = json.loads(found.read_text())["results"][0]
    assert result["changes"]["physics"] == "pybullet" and result["summary"]["success"]["value"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--margins"], "--margins: only for policies that fly"),
        (["--baseline", "base:lee"], "--baseline: only for policies that fly"),
        (["--scenarios", "task", "--set", "fly=1"], "unknown configuration key 'fly'"),
        (["--episodes", "0"], "must be at least 1"),
    ],
)
def test_refusals(policy: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(policy), *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_flight_has_no_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "base:lee", "--physics", "mujoco"]) == 2
    assert "flight has its scenarios" in capsys.readouterr().err


def test_required_success(policy: Path) -> None:
    command = ["eval", str(policy), "--episodes", "3", "--scenarios", "task", "--require", "0.9", "--set", "threads=1"]
    assert main([*command, "episode_s=0.2", "push.every=0"]) == 0
    assert main([*command, "episode_s=0.2", "push.every=0", "fallen_tilt=0.001"]) == 1


def test_wrong_rate_is_refused(policy: Path) -> None:
    with pytest.raises(ConfigError, match="control_dt"):
        Player(policy, dataclasses.replace(TASK, options=TASK.overridden({"control_dt": 0.01}).options), 1, 0)


def test_gait_of_a_known_rhythm() -> None:
    """Foot 0: 0.3 s down, 0.2 s up; foot 1 never lifts."""
    dt, k = 0.01, np.arange(1001)
    touching = np.stack([(k % 50) < 30, np.ones(1001, bool)], axis=1)
    trot, still = gaits(touching, dt)
    assert trot.duty == pytest.approx(0.6, abs=0.01) and trot.frequency == pytest.approx(2.0)
    assert still.duty == 1.0 and still.frequency == 0.0


@pytest.mark.skipif(not HAS_GL, reason="no OpenGL without a screen; apt-get install libegl1 libgl1-mesa-dri")
def test_pictures_show_where_the_robot_is() -> None:
    env = TASK.overridden(SHORT).make(1, 0)
    still = env.physics.qpos[0].numpy()  # type: ignore[attr-defined]
    moved = still.copy()
    moved[0] += 0.4
    with SceneRenderer(env.model, (160, 120)) as renderer:  # type: ignore[attr-defined]
        first, second, again = renderer.frame(still), renderer.frame(moved), renderer.frame(still)
    assert first.shape == (120, 160, 3) and np.array_equal(first, again)
    assert (first != second).any(axis=2).mean() > 0.02
    with pytest.raises(ConfigError, match="no body 'wheel'; it has world, trunk"):
        SceneRenderer(env.model, follow="wheel")  # type: ignore[attr-defined]


def test_without_opengl_the_package_is_named() -> None:
    """The name of a display system that is not there, in an interpreter of its own: OpenGL is loaded once."""
    code = (
        "from robot_rl.sim.tasks.go1_velocity_flat import TASK\n"
        "from robot_rl.sim.articulated.render import SceneRenderer\n"
        "SceneRenderer(TASK.overridden({'threads': 1}).make(1, 0).model)"
    )
    # mujoco's EGL part refuses when PyOpenGL has been told to use something else: as if EGL were absent.
    env = {**os.environ, "MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "osmesa", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "MissingDependency" in done.stderr and "apt-get install libegl1 libgl1-mesa-dri" in done.stderr


def test_a_scripted_expert_plays_its_own_task(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "base:panda-reach", "--episodes", "8", "--scenarios", "nominal", "--require", "0.9", "--json", "-"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["task"] == "panda-reach" and report["policy"] == "panda-reach"
    assert main(["view", "base:lee"]) == 2
    assert "lee" in capsys.readouterr().err
