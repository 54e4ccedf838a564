"""The user's own commands, one after the other, on the one-second training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from robot_rl import registry
from robot_rl.cli import VERBS, main


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of `train --fast` and its policy file."""
    folder = tmp_path_factory.mktemp("chain")
    assert main(["train", "quadrotor-hover", "--fast", "--out", str(folder / "run"), "--quiet"]) == 0
    assert main(["export", str(folder / "run"), "-o", str(folder / "policy.onnx")]) == 0
    return folder


def test_trained_policy_flies(work: Path) -> None:
    report = work / "report.json"
    command = ["eval", str(work / "policy.onnx"), "--scenarios", "nominal", "--episodes", "250", "--require", "0.92"]
    assert main([*command, "--json", str(report), "-o", str(work / "eval"), "--no-video"]) == 0
    result = json.loads(report.read_text())["results"][0]
    assert result["summary"]["steady_error"]["value"] < 0.05
    assert {"trajectories_nominal.png", "error_nominal.png", "episodes.csv"} <= {
        f.name for f in (work / "eval").iterdir()
    }


def test_required_success_decides_the_exit_status(work: Path) -> None:
    command = ["eval", str(work / "policy.onnx"), "--scenarios", "delay-20ms", "--episodes", "50", "--require", "0.9"]
    assert main(command) == 1, "this training has no delay in it and cannot stand 20 ms"


def test_pytorch_onnxruntime_and_c_agree(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(work / "policy.onnx"), "--run", str(work / "run"), "--target", "host"]) == 0
    out = capsys.readouterr().out
    assert "pytorch" in out and "host" in out and "DIFFERS" not in out


def test_firmware_is_written_once(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["firmware", str(work / "policy.onnx"), "-o", str(work / "fw")]) == 0
    assert (work / "fw" / "policy.c").is_file() and (work / "fw" / "policy.h").is_file()
    capsys.readouterr()
    assert main(["firmware", str(work / "policy.onnx"), "-o", str(work / "fw")]) == 2
    assert "not empty" in capsys.readouterr().err


def test_run_without_ros(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", str(work / "policy.onnx"), "--mission", "hover", "--seconds", "3", "--fast-forward"]
    assert main([*command, "--json", str(work / "run.json")]) == 0
    assert json.loads((work / "run.json").read_text())["success"] is True


def test_existing_results_are_never_overwritten(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (work / "policy.onnx").read_bytes()
    assert main(["train", "quadrotor-hover", "--fast", "--out", str(work / "run"), "--quiet"]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main(["export", str(work / "run"), "-o", str(work / "policy.onnx")]) == 2
    assert "--force" in capsys.readouterr().err
    assert (work / "policy.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "quadrotor-hoover"], "Did you mean 'quadrotor-hover'? Available: go1-recover, "),
        (["train", "quadrotor-hover", "--algorithm", "apq"], "Did you mean 'apg'"),
        (["train", "quadrotor-hover", "--set", "learning=1"], "lr"),
        (["train", "quadrotor-hover", "--set", "task.delay=1"], "delay_max"),
        (["train", "quadrotor-hover", "--set", "robot.mass=1"], "algorithm, async, reward, runner, task"),
        (["train", "quadrotor-hover", "--set", "task.delay_max=1"], "0 … 0.03"),
        (["train", "quadrotor-hover", "--set", "num_envs=33"], "multiple of 32"),
        (["train", "quadrotor-hover", "--algorithm", "ppo", "--fast"], "apg"),
        (["train", "quadrotor-hover", "--algorithm", "sb3:PP0"], "PPO"),
        (["train", "quadrotor-hover", "--config", "no-such.yaml"], "no-such.yaml"),
        (["export", "no-such-run"], "run.json"),
        (["eval", "no-such.onnx"], "no-such.onnx"),
        (["eval", "base:mpc"], "Available: lee, lqr, "),
        (["verify", "no-such.onnx"], "no-such.onnx"),
        (["firmware", "no-such.onnx"], "no-such.onnx"),
        (["run", "no-such.onnx"], "no-such.onnx"),
        (["run", "x.onnx", "--mission", "loop"], "figure-eight"),
        (["list", "robotz"], "robot"),
        (["bench", "speed"], "simulator-vs-l2f"),
    ],
)
def test_wrong_words_get_the_right_ones(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and expected in error
    assert not (tmp_path / "runs").exists(), "a refused command leaves nothing behind"


def test_a_policy_for_another_robot_is_refused(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import dataclasses

    import onnx

    from robot_rl.policy_file import read_policy_file, write_policy_file

    contract = read_policy_file(work / "policy.onnx").contract
    other = tmp_path / "other.onnx"
    write_policy_file(other, onnx.load(work / "policy.onnx"), dataclasses.replace(contract, robot="hummingbird"))
    assert main(["run", str(other), "--mission", "hover", "--fast-forward"]) == 2
    error = capsys.readouterr().err
    assert "hummingbird" in error and "crazyflie" in error


def test_list_names_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for word in ("crazyflie", "quadrotor-track", "apg", "td3-l2f", "ppo", "lee", "sim", "stm32f405", "sb3:<Class>"):
        assert word in out


@pytest.mark.parametrize("kind", registry.KINDS)
def test_list_of_a_kind_says_what_each_is(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", f"{kind}s" if kind != "physics" else kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in registry.names(kind):
        assert any(line.split()[0] == name and len(line.split()) > 3 for line in lines), name


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_needs_no_heavy_package(verb: str) -> None:
    code = (
        "import sys; from robot_rl.cli import build_parser; build_parser().format_help();"
        f"build_parser('{verb}').parse_args(['{verb}', '--help'])"
    )
    run = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0 and "usage: robot-rl" in run.stdout
    loaded = {line.split("|")[-1].strip() for line in run.stderr.splitlines() if line.startswith("import time:")}
    assert not loaded & {"torch", "numpy", "onnx", "rich", "rclpy", "matplotlib"}
