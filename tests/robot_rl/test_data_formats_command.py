"""`robot-rl data import` and `export`: what all formats have in common."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from formats import SPEC, episode, imported, written

from robot_rl.cli import main
from robot_rl.data.store import EpisodeStore

FORMATS = ("lerobot", "robomimic", "minari")


def export(source: Path, target: Path, format: str, *more: str) -> int:
    return main(["data", "export", str(source), "-o", str(target), "--format", format, *more])


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_unknown_formats_and_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "a.rrl")
    assert export(tmp_path / "a.rrl", tmp_path / "b", "lerobt") == 2
    assert "unknown format 'lerobt'. Did you mean 'lerobot'?" in capsys.readouterr().err
    (tmp_path / "folder").mkdir()
    for source, told in (("folder", "none of the known formats"), ("nothing", "does not exist")):
        assert main(["data", "import", str(tmp_path / source), "-o", str(tmp_path / "b.rrl")]) == 2
        assert told in capsys.readouterr().err
    assert names(tmp_path) == ["a.rrl", "folder"]


@pytest.mark.parametrize(
    ("format", "module", "package"),
    [
        ("lerobot", "pyarrow", "pyarrow"),
        ("lerobot", "av", "av"),
        ("robomimic", "h5py", "h5py"),
        ("minari", "h5py", "h5py"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    format: str, module: str, package: str,
) -> None:  # fmt: skip
    written(tmp_path / "a.rrl")
    monkeypatch.setitem(sys.modules, module, None)  # what Python does where it is not installed
    assert export(tmp_path / "a.rrl", tmp_path / "b", format) == 2
    told = capsys.readouterr().err
    assert f"'{package}' is not installed" in told and "pip install 'robot-rl[data]'" in told
    assert names(tmp_path) == ["a.rrl"]


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str) -> None:
    written(tmp_path / "a.rrl")
    assert export(tmp_path / "a.rrl", tmp_path / "b.hdf5", format) == 0
    assert export(tmp_path / "a.rrl", tmp_path / "b.hdf5", format) == 2
    assert "exists; choose another name" in capsys.readouterr().err
    assert main(["data", "import", str(tmp_path / "b.hdf5"), "-o", str(tmp_path / "a.rrl")]) == 2
    assert "exists; choose another name" in capsys.readouterr().err
    assert names(tmp_path) == ["a.rrl", "b.hdf5"]


@pytest.mark.parametrize("format", FORMATS)
def test_names_change_on_the_way_out_and_come_back(tmp_path: Path, format: str) -> None:
    written(tmp_path / "a.rrl")
    new = {"lerobot": "observation.state", "robomimic": "obs/state", "minari": "observations/state"}[format]
    target = tmp_path / "b.hdf5"
    assert export(tmp_path / "a.rrl", target, format, "--rename", f"obs/joint_pos={new}") == 0
    assert imported(target, tmp_path / "c.rrl")[0] == SPEC
    more = ("--rename", f"{new}=obs/arm")
    assert "obs/arm" in imported(target, tmp_path / "d.rrl", *more)[0].features


@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_file_is_not_half_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str) -> None:
    written(tmp_path / "a.rrl")
    with EpisodeStore.open(tmp_path / "a.rrl") as store:
        at = store._frames[2].start
    data = bytearray((tmp_path / "a.rrl").read_bytes())
    data[at + 100] ^= 255
    (tmp_path / "a.rrl").write_bytes(data)
    assert export(tmp_path / "a.rrl", tmp_path / "b", format) == 2
    assert "episode 1 in" in capsys.readouterr().err and names(tmp_path) == ["a.rrl"]


def test_what_cannot_be_exported_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    EpisodeStore.create(tmp_path / "empty.rrl", SPEC).close()
    blind = dataclasses.replace(SPEC, features={n: f for n, f in SPEC.features.items() if n != "action"})
    odd = dataclasses.replace(SPEC, control_dt=0.03)
    for spec, file in ((blind, "blind.rrl"), (odd, "odd.rrl")):
        one = episode(4, 0)
        with EpisodeStore.create(tmp_path / file, spec) as store:
            store.append(dataclasses.replace(one, arrays={n: one.arrays[n] for n in spec.features}))
    for file, told in (("empty", "no episodes"), ("blind", "no feature 'action'"), ("odd", "33.333 frames a second")):
        assert export(tmp_path / f"{file}.rrl", tmp_path / "b", "lerobot") == 2
        assert told in capsys.readouterr().err
    assert export(tmp_path / "odd.rrl", tmp_path / "b", "minari", "--rename", "obs/phase") == 2
    assert "it must be OLD=NEW" in capsys.readouterr().err
