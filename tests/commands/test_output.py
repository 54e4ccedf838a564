"""Where results go: files in one piece, pipes and devices written through, a reader that leaves, arguments refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from robot_rl.cli import _explained, main
from robot_rl.commands.files import check_output, make_folder, write_text
from robot_rl.errors import RobotRlError


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.json"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two\n" and [p.name for p in path.parent.iterdir()] == ["r.json"]


def test_links_and_pipes_stay_what_they_are(tmp_path: Path) -> None:
    real, link, pipe = tmp_path / "real", tmp_path / "link", tmp_path / "pipe"
    real.touch()
    link.symlink_to(real)
    write_text(link, "through")
    assert link.is_symlink() and real.read_text() == "through\n"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    write_text(pipe, "water")
    assert reader.communicate(timeout=20)[0] == "water\n" and pipe.is_fifo()


def test_the_dash_is_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_output(Path("-"))
    write_text(Path("-"), "here")
    assert capsys.readouterr().out == "here\n" and not Path("-").exists()


def test_a_folder_that_cannot_be_is_reported_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RobotRlError, match="choose another"):
            make_folder(path)
    with pytest.raises(RobotRlError, match="choose another"):
        check_output(tmp_path / "file" / "r.json")
    assert main(["eval", "no-such-policy.onnx", "-o", str(tmp_path / "file")]) == 2
    assert "choose another" in capsys.readouterr().err, "the folder is looked at before the flights"


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-u", "-m", "robot_rl.cli", "list"]
    with os.fdopen(write, "wb") as stdout:
        ended = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 141 and ended.stderr == ""


@pytest.mark.parametrize(
    "command",
    [
        ["train", "quadrotor-hover", "--seed", "-1"],
        ["train", "quadrotor-hover", "--seed", "99999999999"],
        ["eval", "base:lee", "--seed", "one"],
        ["eval", "base:lee", "--require", "95"],
        ["eval", "base:lee", "--require", "nan"],
    ],
)
def test_numbers_out_of_range_are_refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2 and f"'{command[-1]}' is not a" in capsys.readouterr().err


def test_what_is_told_about_errors_of_the_machine() -> None:
    missing = ModuleNotFoundError(name="rich")
    assert "pip install rich" in str(_explained(missing, "eval"))
    assert "robot-rl[train]" in str(_explained(missing, "train"))
    assert "num_envs" in str(_explained(MemoryError("9 TB"), "train"))
    assert "num_envs" in str(_explained(RuntimeError("can't allocate memory: 9 TB"), "train"))
    assert _explained(RuntimeError("a mistake of ours"), "train") is None
    assert _explained(ModuleNotFoundError(name="robot_rl.gone"), "train") is None
    assert str(_explained(FileNotFoundError(2, "No such file", "x"), "eval")) == "No such file (x)"
