"""`robot-rl refine` from a clone to one file, on an arm; what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robot_rl.cli import main
from robot_rl.policy import Policy

SPARSE = ["reward_kind=sparse", "threads=1"]
TASK = [f"task.{option}" for option in SPARSE]
SHORT = ["total_steps=400", "warmup_steps=200", "critic_updates=20", "num_envs=2", "batch_size=32", "heads=2"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone")
    demos, run = str(folder / "reach.rrl"), str(folder / "run")
    assert main(["demos", "base:panda-reach", "--episodes", "5", "--set", *SPARSE, "-o", demos]) == 0
    settings = [f"demos={demos}", "horizon=4", "updates=300", "hidden=[32,32]", *TASK]
    assert main(["train", "panda-reach", "--algorithm", "bc", "--set", *settings, "--out", run, "--quiet"]) == 0
    assert main(["export", run, "-o", str(folder / "clone.onnx")]) == 0
    return folder / "clone.onnx"


def test_a_clone_is_refined_in_one_command(clone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, run, demos = tmp_path / "refined.onnx", tmp_path / "run", clone.with_name("reach.rrl")
    words = ["refine", str(clone), "--demos", str(demos), "-o", str(out), "--out", str(run), "--quiet"]
    assert main([*words, "--episodes", "10", "--set", *SHORT, *TASK]) == 0
    printed = capsys.readouterr().out
    assert "before: success" in printed and "after:  success" in printed and "400 steps" in printed
    assert json.loads((run / "run.json").read_text())["algorithm"] == "resfit"
    base, refined = Policy.load(clone).contract, Policy.load(out).contract
    assert refined.composition.kind == "residual" and refined.composition.over_sha256 == base.graph_sha256
    assert {s.name for s in base.signals} <= {s.name for s in refined.signals}
    assert {m.name for m in refined.memory} == {"previous_action", "base_plan", "base_plan_left"}
    assert main([*words, "--set", *SHORT, *TASK]) == 2
    assert "exists" in capsys.readouterr().err


def test_without_demonstrations_its_own_successes_are_recorded(
    clone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = tmp_path / "refined.onnx", tmp_path / "run"
    words = ["refine", str(clone), "--own-demos", "2", "-o", str(out), "--out", str(run), "--quiet"]
    assert main([*words, "--episodes", "5", "--set", *SHORT, *TASK]) == 0
    assert (tmp_path / "run-demos.rrl").is_file() and out.is_file()
    capsys.readouterr()


def test_what_flies_is_told_the_other_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["refine", "base:lee", "--task", "quadrotor-hover"]) == 2
    assert "--algorithm resfit" in capsys.readouterr().err
