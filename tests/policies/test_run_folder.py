"""Checkpoint files: atomic, checked, plain, and nothing in them is executed."""

from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from robot_rl.errors import CheckpointError
from robot_rl.policies.run_folder import RunFolder, read_checkpoint, write_atomically, write_checkpoint

STATE = {"weights": torch.arange(1000.0), "steps": 3, "nested": {"list": [1, 2.5, None, "x", (True,)]}}


@pytest.fixture
def folder(tmp_path):
    run = RunFolder(tmp_path / "run", keep=3)
    run.open_new()
    yield run
    run.close()


def test_what_is_written_is_read_back(tmp_path):
    write_checkpoint(tmp_path / "a.pt", STATE)
    state = read_checkpoint(tmp_path / "a.pt")
    assert torch.equal(state["weights"], STATE["weights"])
    assert state["steps"] == 3 and state["nested"] == STATE["nested"]
    assert os.listdir(tmp_path) == ["a.pt"], "nothing is left aside"


def test_every_flipped_byte_of_the_weights_and_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "a.pt"
    write_checkpoint(path, STATE)
    good = path.read_bytes()
    start = good.index(torch.arange(1000.0).numpy().tobytes())
    for position in range(start, start + 4000, 397):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(CheckpointError, match=r"checksum"):
            read_checkpoint(path)
    for length in range(0, len(good), 611):
        path.write_bytes(good[:length])
        with pytest.raises(CheckpointError, match=r"damaged or incomplete"):
            read_checkpoint(path)


def test_a_checkpoint_cannot_run_code(tmp_path):
    marker = tmp_path / "ran"

    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    write_checkpoint(tmp_path / "a.pt", STATE)
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "b.pt", "w") as target:
        for item in source.namelist():
            evil = item.endswith("data.pkl")
            target.writestr(item, pickle.dumps(Malicious(), protocol=2) if evil else source.read(item))
    with pytest.raises(CheckpointError, match=r"b\.pt is damaged"):
        read_checkpoint(tmp_path / "b.pt")
    assert not marker.exists()


def test_only_plain_values_are_saved_and_the_place_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"checkpoint\['env'\]\['x'\]\[1\] is a numpy.ndarray"):
        write_checkpoint(tmp_path / "a.pt", {"env": {"x": [1, np.zeros(3)]}})
    with pytest.raises(CheckpointError, match=r"numpy.float64"):
        write_checkpoint(tmp_path / "a.pt", {"x": np.float64(1.0)})
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    (tmp_path / "limit").mkdir()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left on device; .* MB are free there; free some space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and sorted(os.listdir(tmp_path)) == ["a.json", "limit"]


def test_the_newest_sound_checkpoint_is_taken_and_bad_ones_are_set_aside(folder):
    for i in (1, 2, 3):
        folder.save(i, {"iteration": i})
    for name in ("0000003.pt", "0000002.pt"):
        (folder.checkpoints / name).write_bytes(b"PK garbage")
    said: list[str] = []
    state = folder.load_newest(said.append)
    assert state is not None and state["iteration"] == 1
    assert "0000003.pt" in said[0] and "0000002.pt" in said[0] and "0000001.pt" in said[0]
    names = sorted(os.listdir(folder.checkpoints))
    assert names == ["0000001.pt", "0000002.pt.damaged", "0000003.pt.damaged"]


def test_only_damaged_checkpoints_is_an_error_and_none_is_not(folder):
    assert folder.load_newest() is None
    folder.save(1, {"iteration": 1})
    (folder.checkpoints / "0000001.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read"):
        folder.load_newest()


def test_a_sound_checkpoint_is_never_dropped_for_a_damaged_one(folder):
    folder.save(1, {"iteration": 1})
    path = folder.save(2, {"iteration": 2})
    path.write_bytes(b"")
    with pytest.raises(CheckpointError):
        folder.keep_only(path)
    assert (folder.checkpoints / "0000001.pt").exists()


def test_a_damaged_run_json_is_named(folder):
    (folder.path / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"run\.json cannot be read"):
        folder.read_info()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", "{}", '{"task": "t", "algorithm": "a", "seed": 0}'])
def test_a_damaged_run_json_is_refused(folder, content):
    (folder.path / "run.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"run\.json .*start a new run"):
        folder.read_info()
