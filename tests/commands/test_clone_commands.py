"""The user's way of cloning: record with pictures, train, export one file, play it; what a robot says to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rl.cli import main
from robot_rl.errors import ContractMismatch, MissingDependency
from robot_rl.policy_file import read_policy_file
from robot_rl.sim.task_spec import make_env

CAMERA = ("camera.size=16", "camera.names=[front,wrist]", "camera.instead=true")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds seen.rrl, a recording of two reaches with pictures."""
    try:
        make_env("panda-reach", 1, 0, overrides={"camera.size": 16}).signals()
    except MissingDependency as error:
        pytest.skip(f"no software rendering here: {error}")
    path = tmp_path_factory.mktemp("clone")
    short = ("threads=1", "episode_s=1.0", *CAMERA)
    assert main(["demos", "panda-reach", "--images", "--episodes", "2", "-o", f"{path}/seen.rrl", "--set", *short]) == 0
    return path


def cloned(folder: Path, name: str, *settings: str) -> Path:
    """A policy file after a few updates on those episodes."""
    words = ("demos=" + str(folder / "seen.rrl"), "which=all", "updates=4", "updates_per_iteration=2", "batch_size=16")
    run, file = folder / name, folder / f"{name}.onnx"
    task = (f"task.{c}" for c in ("threads=1", *CAMERA))
    train = ["train", "panda-reach", "--algorithm", "bc", "--quiet", "--out", str(run)]
    assert main([*train, "--set", *words, *task, *settings]) == 0
    assert main(["export", str(run), "-o", str(file)]) == 0
    return file


@pytest.mark.slow
def test_one_file_from_pictures_to_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from robot_rl.hardware.drivers.sim import DRIVER, SimOptions
    from robot_rl.hardware.fit import check_fit

    file = cloned(
        folder, "seen", "images=[front,wrist]", "horizon=4", "head=flow", "width=32", "blocks=1", "sampling_steps=2"
    )
    contract = read_policy_file(file).contract
    shapes = {s.name: s.shape for s in contract.signals}
    assert shapes["image_front"] == shapes["image_wrist"] == (16, 16, 3)
    capsys.readouterr()
    # The cameras of the evaluation are those of the contract, nobody need say so.
    assert main(["eval", str(file), "--scenarios", "task", "--episodes", "2", "--set", "episode_s=0.4"]) == 0
    assert "success" in capsys.readouterr().out
    driver = DRIVER(SimOptions(robot="panda"))
    with pytest.raises(ContractMismatch, match="signal 'image_front' is not provided"):
        check_fit(contract, driver, contract.rate.control_dt)
