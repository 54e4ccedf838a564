"""Minari's HDF5, written here with h5py as its documentation lays it out."""

from __future__ import annotations

import io
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from formats import SPEC, assert_round_trip, imported, picture, refused, written
from PIL import Image

from robot_rl.cli import main


def jpeg(image: np.ndarray) -> np.ndarray:
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, format="JPEG", quality=95)
    return np.frombuffer(packed.getvalue(), np.uint8)


def made(folder: Path, lengths: tuple[int, ...] = (4, 6), parts: bool = False) -> Path:
    data = folder / "data"
    data.mkdir(parents=True)
    with h5py.File(data / "main_data.hdf5", "w", track_order=True) as file:
        for i, steps in enumerate(lengths):
            group = file.create_group(f"episode_{i}")
            group.attrs.update({"id": i, "seed": 7 + i, "total_steps": steps})
            group["observations/arm/pos"] = np.arange(3.0 * (steps + 1)).reshape(-1, 3)
            group["observations/pair/_index_0"] = np.arange(steps + 1)
            group["observations/words"] = ["a"] * (steps + 1)
            group.create_dataset("observations/eye", (steps + 1,), h5py.vlen_dtype(np.uint8))
            for k in range(steps + 1):
                group["observations/eye"][k] = jpeg(picture(10 * k))
            for name in ("actions/arm", "actions/hand") if parts else ("actions",):
                group[name] = np.full((steps, 2), 0.5, np.float32)
            group["rewards"] = np.ones(steps)
            group["terminations"] = np.arange(steps) == (steps - 1 if i == 0 else -1)
            group["truncations"] = np.zeros(steps, bool)
            group["infos/success"] = np.arange(steps + 1) == (steps if i == 0 else -1)
            group["infos/force"] = np.arange(steps + 1.0)
    metadata = {
        "total_episodes": len(lengths), "total_steps": sum(lengths), "data_format": "hdf5", "jpeg_encoding": True,
        "dataset_id": "arm/push-v0", "minari_version": "0.5.4", "observation_space": "{}", "action_space": "{}",
    }  # fmt: skip
    (data / "metadata.json").write_text(json.dumps(metadata))
    return folder


@pytest.mark.parametrize("inside", ["", "data", "data/main_data.hdf5"])
def test_import(tmp_path: Path, capsys: pytest.CaptureFixture[str], inside: str) -> None:
    source = made(tmp_path / "push") / inside
    more = ("--control-dt", "0.05", "--rename", "infos/force=cost/force")
    spec, episodes = imported(source, tmp_path / "a.rrl", *more)
    told = capsys.readouterr().out
    assert "2 episodes, 10 steps from minari" in told and "left out: observations/words" in told
    assert "taken as truncated (1 episode)" in told and "infos/success" not in told
    assert spec.task == "arm/push-v0" and spec.features["image/eye"].shape == (32, 48, 3)
    assert set(spec.features) == {"obs/arm/pos", "obs/pair/_index_0", "image/eye", "action", "reward", "cost/force"}
    assert episodes[0].arrays["cost/force"].tolist() == [1, 2, 3, 4], "what came with the reset belongs to no step"
    assert [(e.terminated, e.truncated, e.success) for e in episodes] == [(True, False, True), (False, True, False)]
    assert episodes[1].facts["seed"] == 8
    assert np.abs(episodes[1].arrays["image/eye"][6].astype(int) - picture(60)).mean() < 3


def test_facts_that_json_cannot_hold_become_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = made(tmp_path / "push")
    with h5py.File(source / "data" / "main_data.hdf5", "r+") as file:
        file["episode_0"].attrs["mass"] = np.nan
    metadata = source / "data" / "metadata.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "limit": float("inf")}))
    spec, episodes = imported(source, tmp_path / "a.rrl", "--control-dt", "0.05")
    assert episodes[0].facts["mass"] == "NaN" and spec.facts["minari"]["limit"] == "Infinity"
    told = capsys.readouterr().out
    assert "the fact 'mass' was kept with a text" in told and "the fact 'minari' was kept with a text" in told


def test_the_rate_must_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(made(tmp_path / "push"), tmp_path)
    assert "--control-dt SECONDS" in capsys.readouterr().err


def test_actions_in_parts_are_chosen_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = made(tmp_path / "push", parts=True)
    refused(source, tmp_path, "--control-dt", "0.05")
    assert "choose one with --rename OLD=action, of: actions/arm, actions/hand" in capsys.readouterr().err
    spec, _ = imported(source, tmp_path / "a.rrl", "--control-dt", "0.05", "--rename", "actions/arm=action")
    assert spec.features["action"].shape == (2,)


def test_export_and_back(tmp_path: Path) -> None:
    expected = written(tmp_path / "a.rrl")
    assert main(["data", "export", str(tmp_path / "a.rrl"), "-o", str(tmp_path / "b"), "--format", "minari"]) == 0
    metadata = json.loads((tmp_path / "b/data/metadata.json").read_text())
    assert (metadata["total_episodes"], metadata["total_steps"], metadata["dataset_id"]) == (3, 18, "panda-push-v0")
    spaces = json.loads(metadata["observation_space"])["subspaces"]
    assert spaces["joint_pos"] == {"type": "Box", "dtype": "float32", "shape": [3], "low": [-np.inf] * 3,
                                   "high": [np.inf] * 3}  # fmt: skip
    assert json.loads(metadata["action_space"])["shape"] == [2]
    with h5py.File(tmp_path / "b/data/main_data.hdf5") as file:
        assert sorted(file) == ["episode_0", "episode_1", "episode_2"] and file["episode_1"].attrs["seed"] == 1
        assert file["episode_0/terminations"][:].tolist() == [False] * 4 + [True]
        assert file["episode_1/observations/front"].shape == (7, 32, 48, 3)
        assert file["episode_1/infos/cost/force"].shape == (7,)
    spec, episodes = imported(tmp_path / "b", tmp_path / "c.rrl")
    assert spec == SPEC
    assert_round_trip(episodes, expected)


def damage(folder: Path, kind: str) -> None:
    main_file, metadata = folder / "data/main_data.hdf5", folder / "data/metadata.json"
    if kind == "truncated":
        main_file.write_bytes(main_file.read_bytes()[:3000])
    elif kind == "metadata":
        metadata.write_text("{")
    elif kind == "arrow":
        metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "data_format": "arrow"}))
    else:
        with h5py.File(main_file, "r+") as file:
            if kind == "missing":
                del file["episode_1"]
            elif kind == "no rewards":
                del file["episode_1/rewards"]
            elif kind == "rows":
                del file["episode_1/observations/arm/pos"]
                file["episode_1/observations/arm/pos"] = np.zeros((6, 3))
            elif kind == "nan":
                file["episode_0/actions"][3, 0] = np.inf
            elif kind == "picture":
                file["episode_1/observations/eye"][2] = np.zeros(20, np.uint8)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("truncated", "is it a whole HDF5 file"),
        ("metadata", "is damaged: it is not a JSON object"),
        ("arrow", "data_format = 'arrow'; allowed: hdf5"),
        ("missing", "1 of 2 episodes are missing, the first is episode_1"),
        ("no rewards", "'/episode_1' has no 'rewards'"),
        ("rows", "has 6 rows; 6 rewards need 7"),
        ("nan", "episode 0: this episode cannot be kept: 'action' is not finite in row 3"),
        ("picture", "has a picture that cannot be read"),
    ],
)
def test_damage_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, told: str) -> None:
    source = made(tmp_path / "push")
    damage(source, kind)
    refused(source, tmp_path, "--control-dt", "0.05")
    assert told in capsys.readouterr().err
