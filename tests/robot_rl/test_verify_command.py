"""`robot-rl verify` on a policy for a robot that this project does not simulate."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from policy_builder import write_policy

from robot_rl.cli import main


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler: apt-get install gcc")
def test_a_policy_without_a_simulation_is_compared_between_its_golden_states(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_policy(tmp_path / "mine.onnx")
    assert main(["verify", str(path), "--states", "50"]) == 0
    out = capsys.readouterr().out
    assert "drawn between the golden ones" in out
    assert "50 states" in out


@pytest.mark.parametrize("count", ["0", "-5"])
def test_no_states_prove_nothing(count: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(write_policy(tmp_path / "mine.onnx")), "--states", count]) == 2
    assert f"--states is {count}" in capsys.readouterr().err


def test_a_file_without_a_contract_says_how_to_give_it_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx
    from policy_builder import build_model

    onnx.save(build_model(), tmp_path / "bare.onnx")
    assert main(["verify", str(tmp_path / "bare.onnx")]) == 2
    assert "export_policy" in capsys.readouterr().err
