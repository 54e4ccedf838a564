"""From training to the robot, with a Go1 policy trained for a moment: its file, its C on a Cortex-M7, its first run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robot_rl.cli import main
from robot_rl.hardware.run import run_without_ros
from robot_rl.hardware.supervisor_config import RobotState
from robot_rl.policy import Policy
from robot_rl.registry import load
from robot_rl.sim.robots.go1 import OWN, WALK_THESE_WAYS
from robot_rl.sim.task_spec import TaskSpec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained_policy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("go1")
    changes = ["num_envs=16", "iterations=1", "task.threads=1"]
    arguments = ["train", "go1-velocity-flat", "--algorithm", "ppo", "--set", *changes, "--quiet"]
    assert main([*arguments, "--out", str(folder / "run")]) == 0
    assert main(["export", str(folder / "run"), "-o", str(folder / "go1.onnx")]) == 0
    return folder / "go1.onnx"


def test_its_contract_names_the_gains_it_was_trained_with(trained_policy):
    assert Policy.load(trained_policy).contract.gains == OWN.gains()
    task: TaskSpec = load("task", "go1-velocity-flat")
    assert task.gains({"parameters": "walk_these_ways"}) == WALK_THESE_WAYS.gains()
    assert load("task", "quadrotor-hover").gains() == {}


def test_it_runs_three_seconds_behind_the_supervisor_and_lies_down(trained_policy):
    result = run_without_ros(trained_policy, mission="stand", seconds=3.0, real_time=False)
    assert result.success, result.outcome
    running = [s is RobotState.RUNNING for s in result.state]
    assert sum(running) >= 3.0 / 0.02
    assert np.isfinite(result.command[running]).all()
    assert result.pos_w[-1, 2] < 0.1


def test_its_c_computes_the_same_here_and_on_an_emulated_cortex_m7(trained_policy, capsys):
    targets = ["--target", "host", "--target", "mps2-an500"]
    code = main(["verify", str(trained_policy), "--states", "20", *targets])
    text = capsys.readouterr().out
    if "skipped" in text:
        pytest.skip(next(line for line in text.splitlines() if "skipped" in line))
    assert code == 0, text
    assert "mps2-an500" in text
