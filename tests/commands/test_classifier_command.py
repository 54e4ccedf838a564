"""`robot-rl classifier`: from recorded episodes to a file that says when the task is solved, and trains with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robot_rl.cli import main
from robot_rl.policy import Policy

QUICK = ["num_envs=2", "warmup_steps=40", "total_steps=120", "batch_size=32", "heads=2", "task.threads=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Episodes of `panda-reach`: six times solved, six times hindered by noise until time was over."""
    folder = tmp_path_factory.mktemp("classifier")
    options = ["reward_kind=sparse", "threads=1", "episode_s=0.8", "tolerance=0.05", "camera.size=16"]
    for name, noise in (("good", "1e-6"), ("bad", "9")):
        words = ["demos", "base:panda-reach", "--episodes", "6", "--noise", noise, "-o", str(folder / f"{name}.rrl")]
        assert main([*words, "--images", "--set", *options]) == 0
    files = [str(folder / f"{name}.rrl") for name in ("good", "bad", "all")]
    assert main(["data", "merge", *files[:2], "-o", files[2]]) == 0
    return folder


def test_learn_report_and_train_with_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(folder / "classifier.onnx")
    words = ["classifier", "train", str(folder / "all.rrl"), "-o", file, "--set", "updates=300", "margin=2"]
    assert main([*words, "--plots", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "false alarm in" in said
    assert "successes noticed" in said
    assert (tmp_path / "classifier.png").stat().st_size > 1000
    assert main(words) == 2  # it exists
    facts = Policy.load(file).contract.provenance["classifier"]
    capsys.readouterr()
    assert main(["classifier", "report", file, str(folder / "all.rrl"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["threshold"] == facts["threshold"]
    assert report["auc"] > 0.8
    run = str(tmp_path / "run")
    training = ["train", "panda-reach", "--algorithm", "rlpd", "--out", run, "--quiet", "--set", *QUICK]
    assert main([*training, f"reward.classifier={file}", "reward.threshold=0.5"]) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["reward"]["classifier"] == file
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert "env/success" in row
    assert main(["export", run, "-o", str(tmp_path / "policy.onnx")]) == 0


def test_pictures_are_looked_at_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(folder / "seen.onnx")
    words = ["classifier", "train", str(folder / "all.rrl"), "-o", file, "--json"]
    assert main([*words, "--set", "updates=20", "images=[front]", "margin=2"]) == 0
    assert "image_front" in {s.name for s in Policy.load(file).contract.signals}


def test_what_is_no_classifier_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classifier", "train", str(folder / "good.rrl"), "-o", str(folder / "x.onnx")]) == 2
    assert "failed episodes; at least 5" in capsys.readouterr().err
