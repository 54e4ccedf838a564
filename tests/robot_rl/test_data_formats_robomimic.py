"""robomimic's HDF5, written here with h5py as its documentation lays it out."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from formats import SPEC, assert_round_trip, imported, picture, read, refused, written

from robot_rl.cli import main

ENV = {"env_name": "Lift", "env_type": 1, "env_kwargs": {"control_freq": 20, "robots": ["Panda"]}}


def made(path: Path, lengths: tuple[int, ...] = (4, 6), next_obs: bool = True, env: dict | None = ENV) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(lengths)
        if env is not None:
            data.attrs["env_args"] = json.dumps(env)
        for i, steps in enumerate(lengths):
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = steps
            eef = np.arange(3 * (steps + 1), dtype=np.float64).reshape(-1, 3) + 100 * i
            cam = np.stack([picture(k) for k in range(steps + 1)])
            demo["actions"] = np.linspace(-1, 1, 2 * steps).reshape(steps, 2)
            demo["rewards"] = np.eye(steps)[-1]
            demo["dones"] = np.eye(steps, dtype=np.int64)[-1] * (i == 0)
            demo["states"] = np.zeros((steps, 7))
            for group, part in (("obs", slice(None, -1)), *([("next_obs", slice(1, None))] if next_obs else [])):
                demo[f"{group}/robot0_eef_pos"] = eef[part]
                demo[f"{group}/agentview_image"] = cam[part]
        file["mask/train"] = np.array([b"demo_0"])
    return path


def test_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, episodes = imported(made(tmp_path / "low_dim.hdf5"), tmp_path / "a.rrl")
    told = capsys.readouterr().out
    assert "2 episodes, 10 steps from robomimic" in told and "left out: states" in told and "repeat" not in told
    assert (spec.control_dt, spec.task, spec.robot, spec.facts["env_args"]) == (0.05, "Lift", "Panda", ENV)
    assert set(spec.features) == {"obs/robot0_eef_pos", "image/agentview_image", "action", "reward"}
    assert episodes[1].arrays["obs/robot0_eef_pos"][-1].tolist() == [118, 119, 120], "what next_obs says"
    assert [(e.terminated, e.truncated, e.success) for e in episodes] == [(True, False, None), (False, True, None)]
    assert episodes[0].facts == {"demo": "demo_0", "mask": ["train"]} and episodes[1].facts == {"demo": "demo_1"}


def test_demonstrations_are_ordered_by_number(tmp_path: Path) -> None:
    _, episodes = imported(made(tmp_path / "a.hdf5", tuple(range(2, 14))), tmp_path / "a.rrl")
    assert [len(e) for e in episodes] == list(range(2, 14)), "demo_10 comes after demo_9"


@pytest.mark.parametrize(("last", "steps"), [("repeat", 4), ("drop", 3)])
def test_without_next_obs(tmp_path: Path, capsys: pytest.CaptureFixture[str], last: str, steps: int) -> None:
    source = made(tmp_path / "a.hdf5", (4,), next_obs=False)
    _, (one,) = imported(source, tmp_path / "a.rrl", "--last", last)
    assert len(one) == steps and one.arrays["obs/robot0_eef_pos"].shape == (steps + 1, 3)
    assert one.terminated == (last == "repeat") and one.truncated == (last == "drop")
    assert "not known" in capsys.readouterr().out
    assert one.facts["last_seen"] == {"repeat": "repeated", "drop": "last step dropped"}[last]


def test_the_rate_can_be_given_and_names_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = made(tmp_path / "a.hdf5", env=None)
    refused(source, tmp_path)
    assert "--control-dt" in capsys.readouterr().err
    more = ("--control-dt", "0.1", "--rename", "obs/robot0_eef_pos=obs/tip", "--rename", "states=obs/sim")
    spec, _ = imported(source, tmp_path / "a.rrl", *more)
    assert spec.control_dt == 0.1 and {"obs/tip", "obs/sim"} < set(spec.features)
    refused(source, tmp_path, "--control-dt", "0.1", "--rename", "obs/nothing=obs/tip")
    assert "no such feature" in capsys.readouterr().err
    refused(source, tmp_path, "--control-dt", "0.1", "--rename", "states=obs/robot0_eef_pos")
    assert "both be called" in capsys.readouterr().err
    refused(source, tmp_path, "--control-dt", "0.1", "--rename", "states=joints")
    assert "has no meaning here" in capsys.readouterr().err


def test_export_and_back(tmp_path: Path) -> None:
    expected = written(tmp_path / "a.rrl")
    target = tmp_path / "b.hdf5"
    assert main(["data", "export", str(tmp_path / "a.rrl"), "-o", str(target), "--format", "robomimic"]) == 0
    with h5py.File(target) as file:
        demo = file["data/demo_1"]
        assert file["data"].attrs["total"] == 18 and demo.attrs["num_samples"] == 6
        assert json.loads(file["data"].attrs["env_args"])["env_kwargs"]["control_freq"] == 25
        np.testing.assert_array_equal(demo["obs/joint_pos"], expected[1].arrays["obs/joint_pos"][:-1])
        np.testing.assert_array_equal(demo["next_obs/joint_pos"], expected[1].arrays["obs/joint_pos"][1:])
        assert demo["obs/front"].shape == (6, 32, 48, 3) and demo["obs/phase"].shape == (6, 1)
        assert demo["dones"][:].tolist() == [0] * 6 and file["data/demo_0/dones"][-1] == 1
    spec, episodes = imported(target, tmp_path / "c.rrl")
    assert spec == SPEC
    assert_round_trip(episodes, expected)


def damage(path: Path, kind: str) -> None:
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return
    with h5py.File(path, "r+") as file:
        demo = file["data/demo_1"]
        if kind == "nan":
            demo["actions"][2, 1] = np.nan
        elif kind == "no actions":
            del demo["actions"]
        elif kind == "no demos":
            del file["data"]
        elif kind == "count":
            demo.attrs["num_samples"] = 9
        else:
            name, shape = {"short": ("obs/robot0_eef_pos", (5, 3)), "ragged": ("obs/robot0_eef_pos", (6, 4)),
                           "text": ("obs/robot0_eef_pos", None)}[kind]  # fmt: skip
            del demo[name]
            demo[name] = np.zeros(shape) if shape else np.array([b"a"] * 6)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("truncated", "is it a whole HDF5 file"),
        ("nan", "'action' is not finite in row 2"),
        ("no actions", "'/data/demo_1' has no 'actions'"),
        ("no demos", "has no group 'data'; there are: mask"),
        ("count", "has 6 actions, but num_samples = 9"),
        ("short", "shape (5, 3); 6 actions need 6 rows"),
        ("ragged", "next_obs of 'obs/robot0_eef_pos' has shape (6, 3), obs (6, 4)"),
        ("text", "next_obs of 'obs/robot0_eef_pos'"),
    ],
)
def test_damage_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, told: str) -> None:
    source = made(tmp_path / "a.hdf5")
    damage(source, kind)
    refused(source, tmp_path, "--format", "robomimic")
    assert told in capsys.readouterr().err


def test_damaged_demonstrations_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = made(tmp_path / "a.hdf5", (4, 6, 5))
    damage(source, "nan")
    refused(source, tmp_path)
    assert "episode 1: " in capsys.readouterr().err
    _, episodes = imported(source, tmp_path / "a.rrl", "--skip-damaged")
    assert [len(e) for e in episodes] == [4, 5] and "left out episode 1" in capsys.readouterr().out
    assert len(read(tmp_path / "a.rrl")[1]) == 2
