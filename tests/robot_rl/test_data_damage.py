"""What could cost recorded episodes: short reads, a fork, other writers, a crash in `create`, a bit that flips."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_data_store import SPEC, assert_same, episode, filled

from robot_rl.cli import main
from robot_rl.data.disk import lock, publish
from robot_rl.data.episode import DataError, DataSpec, Episode, EpisodeRecorder, Feature, problems
from robot_rl.data.frames import MAGIC, framed
from robot_rl.data.store import EpisodeStore, spec_to_json
from robot_rl.data.tools import info, merge


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own, with what the tests of the store have."""
    head = f"import sys\nsys.path[:0] = [{str(Path(__file__).parent)!r}]\nfrom test_data_store import *\nimport os\n"
    return subprocess.run([sys.executable, "-c", head + textwrap.dedent(code)], capture_output=True, text=True)


def flip(path: Path, at: int) -> bytes:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    return bytes(data)


def test_reads_that_give_less_than_asked_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system gives at most 2 GiB at a time; here, 100 bytes."""
    path = tmp_path / "a.rrl"
    written = filled(path)
    whole, read = path.read_bytes(), os.pread
    monkeypatch.setattr(os, "pread", lambda handle, length, at: read(handle, min(length, 100), at))
    with EpisodeStore.open(path, append=True) as store:
        assert store.repaired == 0
        for found, expected in zip(store, written, strict=True):
            assert_same(found, expected)
    assert path.read_bytes() == whole


def test_after_a_fork_only_the_one_who_opened_appends(tmp_path: Path) -> None:
    path = tmp_path / "a.rrl"
    told = python(f"""
        store = EpisodeStore.create({str(path)!r}, SPEC)
        store.append(episode(4, 0))
        begin, go = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go)
            try:
                store.append(episode(7, 9))
            except DataError as error:
                print(error, flush=True)
            os.read(begin, 1)
            with EpisodeStore.open({str(path)!r}, append=True) as mine:  # as the message says
                mine.append(episode(6, 2))
            os._exit(0)
        store.append(episode(5, 1))
        store.close()
        os.write(go, b".")
        sys.exit(os.waitpid(child, 0)[1])
    """)
    assert told.returncode == 0, told.stderr
    assert "was opened for appending by process" in told.stdout
    with EpisodeStore.open(path) as store:
        for found, (steps, seed) in zip(store, [(4, 0), (5, 1), (6, 2)], strict=True):
            assert_same(found, episode(steps, seed))


def test_a_child_that_closes_leaves_the_lock_to_its_parent(tmp_path: Path) -> None:
    told = python(f"""
        store = EpisodeStore.create({str(tmp_path / "a.rrl")!r}, SPEC)
        child = os.fork()
        if child == 0:
            store.close()
            os._exit(0)
        os.waitpid(child, 0)
        EpisodeStore.open({str(tmp_path / "a.rrl")!r}, append=True)
    """)
    assert "another process appends" in told.stderr


def test_what_another_program_wrote_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.rrl"
    with EpisodeStore.create(path, SPEC) as store:
        store.append(episode(4, 0))
        with open(path, "ab") as other:
            other.write(b"theirs")
        before = path.read_bytes()
        with pytest.raises(DataError, match="something else has written to it"):
            store.append(episode(4, 1))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("value", "told"),
    [(np.int64(3), "int64"), (Path("x"), "Path"), (float("nan"), "float"), ([np.float32(1)], "list"), (b"x", "bytes")],
)
def test_facts_that_json_cannot_hold_are_named_and_nothing_is_lost(tmp_path: Path, value: Any, told: str) -> None:
    with pytest.raises(DataError, match=rf"fact 'goal' is a .*{told}"):
        dataclasses.replace(SPEC, facts={"goal": value})
    recorder = EpisodeRecorder(SPEC)
    seen = {"obs/joint_pos": np.zeros(3), "image/front": np.zeros((8, 8, 3), np.uint8)}
    recorder.begin(seen)
    recorder.add({"action": np.zeros(2), "reward": 0.0, "intervention": False}, seen)
    with pytest.raises(DataError, match=rf"fact 'goal' is a .*{told}"):
        recorder.end(True, False, goal=value)
    with EpisodeStore.create(tmp_path / "a.rrl", SPEC) as store:
        assert store.append(recorder.end(True, False, goal="other")) == 0


def test_a_spec_that_json_cannot_hold_leaves_no_file(tmp_path: Path) -> None:
    spec = DataSpec(0.04, {"action": Feature(shape=(np.int64(2),))})  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="int64"):
        EpisodeStore.create(tmp_path / "a.rrl", spec)
    assert names(tmp_path) == []


def test_nan_in_the_facts_of_an_older_file_is_read_as_text(tmp_path: Path) -> None:
    text = json.dumps({**spec_to_json(SPEC), "facts": {"mass": float("nan")}})
    (tmp_path / "a.rrl").write_bytes(MAGIC + framed(text.encode()))
    with EpisodeStore.open(tmp_path / "a.rrl") as store:
        assert store.spec.facts == {"mass": "NaN"}


def test_killed_in_create_nothing_is_in_the_way(tmp_path: Path) -> None:
    """The kernel kills the process in the middle of the description: a limit on the size of files does."""
    path = tmp_path / "a.rrl"
    told = python(f"""
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, {resource.RLIM_INFINITY}))
        EpisodeStore.create({str(path)!r}, SPEC)
    """)
    assert told.returncode < 0 and not path.exists()
    with EpisodeStore.create(path, SPEC) as store:
        assert store.append(episode(4, 0)) == 0


@pytest.mark.parametrize(
    ("dtype", "value", "told"),
    [
        ("uint8", np.uint16(300), "300; uint8 goes from 0 to 255"),
        ("int32", np.int64(2**40 + 5), f"{2**40 + 5}; int32 goes from -2147483648"),
        ("int64", np.uint64(2**63), f"{2**63}; int64"),
        ("int32", -(2**31) - 1, "-2147483649; int32"),
    ],
)
def test_integers_that_do_not_fit_are_refused(dtype: str, value: Any, told: str) -> None:
    recorder = EpisodeRecorder(DataSpec(0.1, {"action": Feature(dtype, (2,))}))
    with pytest.raises(DataError, match=f"'action' has the value {told}"):
        recorder.add({"action": np.array([value, value])}, {})
    limits = np.iinfo(dtype)
    source = {"uint8": np.uint16, "int32": np.int64, "int64": np.int64}[dtype]
    recorder.add({"action": np.array([limits.min, limits.max], source)}, {})
    np.testing.assert_array_equal(recorder.end(True, False).arrays["action"], [[limits.min, limits.max]])


def test_new_names_are_brought_to_the_disk(tmp_path: Path) -> None:
    """A hook of the interpreter hears which folders are opened; `os.fsync` itself raises no event."""
    filled(tmp_path / "in.rrl")
    (tmp_path / "made").mkdir()
    (tmp_path / "merged").mkdir()
    told = python(f"""
        from robot_rl.data.tools import merge
        folders = []
        fsync = os.fsync
        def heard(handle):
            folders.append(os.path.realpath(f"/proc/self/fd/{{handle}}"))
            fsync(handle)
        os.fsync = heard
        EpisodeStore.create({str(tmp_path / "made" / "a.rrl")!r}, SPEC).close()
        print(folders[-1])
        folders.clear()
        merge([Path({str(tmp_path / "in.rrl")!r})], Path({str(tmp_path / "merged" / "a.rrl")!r}))
        print(folders[-1], len(folders))
    """)
    lines = told.stdout.splitlines()
    assert lines[0] == str(tmp_path / "made"), told.stderr
    assert lines[1].split() == [str(tmp_path / "merged"), "4"], "the empty file and its folder, its episodes, its name"


class Late(list[Path]):
    """Files to be merged; when they have been gone through, somebody else writes the result's name."""

    out: Path

    def __iter__(self) -> Iterator[Path]:
        yield from super().__iter__()
        self.out.write_text("theirs")


def test_merge_replaces_nothing_that_appeared_meanwhile(tmp_path: Path) -> None:
    filled(tmp_path / "a.rrl")
    paths = Late([tmp_path / "a.rrl"])
    paths.out = tmp_path / "b.rrl"
    with pytest.raises(DataError, match="exists"):
        merge(paths, paths.out)
    assert paths.out.read_text() == "theirs" and names(tmp_path) == ["a.rrl", "b.rrl"]


def test_a_name_is_given_only_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    with pytest.raises(DataError, match="exists"):
        publish(tmp_path / "new", tmp_path / "old")
    publish(tmp_path / "new", tmp_path / "there")
    assert (tmp_path / "old").read_text() == "old" and names(tmp_path) == ["old", "there"]
    with pytest.raises(DataError, match="cannot be written"):
        publish(tmp_path / "old", tmp_path / "nowhere" / "a")


def test_merge_tells_of_a_torn_end_and_keeps_all_facts(tmp_path: Path) -> None:
    first, second = tmp_path / "a.rrl", tmp_path / "b.rrl"
    for path, operator in ((first, "Anna"), (second, "Ben")):
        with EpisodeStore.create(path, dataclasses.replace(SPEC, facts={"operator": operator, "arm": "left"})) as store:
            store.append(episode(4, 0))
            store.append(episode(5, 1))
    os.truncate(second, second.stat().st_size - 7)
    count, left_out = merge([first, second], tmp_path / "c.rrl")
    assert count == 3 and len(left_out) == 1 and "bytes of no whole episode at the end" in left_out[0]
    with EpisodeStore.open(tmp_path / "c.rrl") as store:
        assert store.spec.facts == {
            "arm": "left",
            "merged": [
                {"file": "a.rrl", "facts": {"operator": "Anna", "arm": "left"}},
                {"file": "b.rrl", "facts": {"operator": "Ben", "arm": "left"}},
            ],
        }


def test_check_goes_on_after_a_file_that_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path / "b.rrl")
    (tmp_path / "a.rrl").write_text("hello")
    words = [str(tmp_path / name) for name in ("none.rrl", "a.rrl", "b.rrl")]
    assert main(["data", "check", *words]) == 1
    shown = capsys.readouterr().out
    assert "cannot be opened" in shown and "not a file of episodes" in shown and "b.rrl: sound" in shown


def test_a_recording_that_was_not_begun_has_no_end() -> None:
    recorder = EpisodeRecorder(SPEC)
    with pytest.raises(DataError, match=r"end\(\) before begin\(\)"):
        recorder.end(True, False)
    with pytest.raises(DataError, match="no array"):
        EpisodeRecorder(DataSpec(0.1, {"action": Feature(shape=(2,))})).add({"action": [[1], [2, 3]]}, {})


def test_arrays_without_rows_are_problems() -> None:
    arrays = episode(3, 0).arrays
    flat = Episode({**arrays, "reward": np.array(1.0, np.float32)}, True, False)
    assert problems(flat, SPEC) == ["'reward' is one value; it needs a row per step"]
    empty = Episode({"obs/joint_pos": np.zeros((0, 3), np.float32), **arrays}, True, False)
    assert problems(Episode({n: a[:0] for n, a in empty.arrays.items()}, True, False), SPEC) == ["it has no steps"]


@pytest.mark.parametrize("wrong", [{"features": [1]}, {"facts": [1]}, {"control_dt": None}])
def test_a_description_of_another_shape_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    path = tmp_path / "a.rrl"
    path.write_bytes(MAGIC + framed(json.dumps({**spec_to_json(SPEC), **wrong}).encode()))
    with pytest.raises(DataError, match="description that cannot be read"):
        EpisodeStore.open(path, append=True)
    open_files = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]
    assert str(path) not in open_files


def test_a_damaged_description_costs_no_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.rrl"
    filled(path, 1)
    os.truncate(path, path.stat().st_size - 7)
    damaged = flip(path, 40)
    with pytest.raises(DataError, match=r"the description in .* is damaged"):
        EpisodeStore.open(path, append=True)
    assert path.read_bytes() == damaged and names(tmp_path) == ["a.rrl"]


def test_a_file_that_cannot_be_locked_is_refused_and_closed(tmp_path: Path) -> None:
    """A handle that only names its file cannot be locked; on some network file systems no handle can."""
    (tmp_path / "a").touch()
    file = FileIO(os.open(tmp_path / "a", os.O_PATH))
    with pytest.raises(DataError, match="cannot be locked"):
        lock(file, tmp_path / "a")
    assert file.closed


def test_a_flipped_bit_in_the_last_episode_destroys_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.rrl"
    written = filled(path)
    with EpisodeStore.open(path) as store:
        at = store._frames[3].start
    damaged = flip(path, at + 200)
    assert main(["data", "info", str(path)]) == 0 and "damaged episode at the end" in capsys.readouterr().out
    (tmp_path / "a.rrl.torn-1").write_text("of another time")
    with caplog.at_level(logging.WARNING, "robot_rl.data"), EpisodeStore.open(path, append=True) as store:
        assert len(store) == 2 and store.torn == 0 and store.repaired > 200
        store.append(written[2])
        assert_same(store[2], written[2])
    kept = tmp_path / "a.rrl.torn-2"
    assert damaged.endswith(kept.read_bytes()) and len(kept.read_bytes()) == store.repaired
    assert f"{store.repaired} bytes" in caplog.text and str(kept) in caplog.text and str(path) in caplog.text
    assert names(tmp_path) == ["a.rrl", "a.rrl.torn-1", "a.rrl.torn-2"]
    assert info(path).kept_aside == ["a.rrl.torn-1", "a.rrl.torn-2"] and info(path).torn == 0
    for verb in ("info", "check"):
        assert main(["data", verb, str(path)]) == 0 and "moved into a.rrl.torn-2" in capsys.readouterr().out
    data = bytearray(kept.read_bytes())
    data[200 + len(data) - (len(damaged) - at)] ^= 1
    path.write_bytes(damaged[: -len(data)] + data)
    with EpisodeStore.open(path) as store:
        assert_same(store[2], written[2])


def test_without_room_to_keep_it_a_torn_end_stays_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.rrl"
    filled(path)
    os.truncate(path, path.stat().st_size - 7)
    before = path.read_bytes()
    told = python(f"""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, {resource.RLIM_INFINITY}))
        EpisodeStore.open({str(path)!r}, append=True)
    """)
    assert "nothing was cut off" in told.stderr
    assert path.read_bytes() == before and names(tmp_path) == ["a.rrl"]
