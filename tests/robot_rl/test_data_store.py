"""Episodes on disk: they come back as they went, and what a crash, a flipped bit or a second writer does to them."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.episode import DataError, DataSpec, Episode, EpisodeRecorder, Feature
from robot_rl.data.store import EpisodeStore

SPEC = DataSpec(
    0.04,
    {
        "obs/joint_pos": Feature("float32", (3,), "rad", ("a", "b", "c")),
        "image/front": Feature("uint8", (8, 8, 3)),
        "action": Feature("float32", (2,)),
        "reward": Feature(),
        "intervention": Feature("bool"),
    },
    task="panda-push",
    facts={"operator": "scripted"},
)


def episode(steps: int, seed: int) -> Episode:
    rng = np.random.default_rng(seed)
    recorder = EpisodeRecorder(SPEC)

    def seen() -> dict[str, np.ndarray]:
        return {
            "obs/joint_pos": rng.normal(size=3).astype(np.float32),
            "image/front": np.full((8, 8, 3), seed, np.uint8),
        }

    recorder.begin(seen())
    for k in range(steps):
        recorder.add({"action": rng.normal(size=2), "reward": float(k), "intervention": k % 2 == 0}, seen())
    return recorder.end(False, True, success=seed % 2 == 0, seed=seed)


def filled(path: Path, count: int = 3) -> list[Episode]:
    episodes = [episode(4 + i, i) for i in range(count)]
    with EpisodeStore.create(path, SPEC) as store:
        assert [store.append(e) for e in episodes] == list(range(count))
    return episodes


def assert_same(found: Episode, expected: Episode) -> None:
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)
    assert (found.terminated, found.truncated, found.success) == (False, True, expected.success)
    assert found.facts == expected.facts


def test_episodes_come_back_as_they_went(tmp_path: Path) -> None:
    written = filled(tmp_path / "a.rrl")
    with EpisodeStore.open(tmp_path / "a.rrl") as store:
        assert len(store) == 3 and store.spec == SPEC
        for found, expected in zip(store, written, strict=True):
            assert_same(found, expected)
        assert_same(store[-1], written[2])
        assert store.about(1)["steps"] == 5 and store.about(1)["facts"] == {"seed": 1}
        with pytest.raises(IndexError):
            store[3]


def test_appending_goes_on_where_it_ended(tmp_path: Path) -> None:
    written = filled(tmp_path / "a.rrl")
    with EpisodeStore.open(tmp_path / "a.rrl", append=True) as store:
        assert store.repaired == 0
        assert store.append(episode(2, 7)) == 3
        assert_same(store[3], episode(2, 7))
        assert_same(store[0], written[0])


def test_whatever_was_torn_off_the_rest_is_whole(tmp_path: Path) -> None:
    """The file is cut at every length between its second and third episode; then another one is appended."""
    path = tmp_path / "a.rrl"
    written = filled(path)
    whole = path.read_bytes()
    path.unlink()
    filled(path, 2)
    start = len(path.read_bytes())
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        with EpisodeStore.open(path, append=True) as store:
            assert len(store) == 2 and store.repaired == end - start
            if end > start:
                kept = tmp_path / "a.rrl.torn-1"
                assert kept.read_bytes() == whole[start:end]
                kept.unlink()
            if end % 50 == 0:
                store.append(written[2])
                assert_same(store[2], written[2])
        if end % 50 == 0:
            assert path.read_bytes() == whole


def test_an_end_of_zeros_is_cut_off(tmp_path: Path) -> None:
    """What a power cut leaves: the file has its length, the last bytes were never written."""
    path = tmp_path / "a.rrl"
    filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] + bytes(100))
    with EpisodeStore.open(path) as store:
        assert len(store) == 2 and store.repaired == 0, "reading changes nothing"
    with EpisodeStore.open(path, append=True) as store:
        assert len(store) == 2 and store.repaired > 100


@pytest.mark.parametrize("where", ["head", "payload"])
def test_a_damaged_episode_is_named_and_the_others_stay(tmp_path: Path, where: str) -> None:
    path = tmp_path / "a.rrl"
    written = filled(path)
    data = bytearray(path.read_bytes())
    with EpisodeStore.open(path) as store:
        at = store._frames[2].start
    data[at - 10 if where == "head" else at + 200] ^= 1
    path.write_bytes(data)
    with EpisodeStore.open(path, append=True) as store:
        assert len(store) == 3 and store.repaired == 0
        with pytest.raises(DataError, match=r"episode 1 .*damaged"):
            store[1]
        assert_same(store[0], written[0])
        assert_same(store[2], written[2])
    assert path.read_bytes() == bytes(data)


def test_killed_while_it_appends_it_loses_at_most_one(tmp_path: Path) -> None:
    path = tmp_path / "a.rrl"
    code = f"""
        import sys
        sys.path[:0] = {[str(Path(__file__).parent)]!r}
        from test_data_store import SPEC, EpisodeStore, episode
        store = EpisodeStore.create({str(path)!r}, SPEC)
        for i in range(10**6):
            store.append(episode(3, i % 200))
            print(i, flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    told = 20 + len(process.stdout.read().splitlines())
    process.wait()
    with EpisodeStore.open(path, append=True) as store:
        assert told <= len(store) <= told + 1, "what append returned from is there"
        for i, found in enumerate(store):
            assert_same(found, episode(3, i % 200))


def test_one_writer_at_a_time_and_any_number_of_readers(tmp_path: Path) -> None:
    filled(tmp_path / "a.rrl")
    with EpisodeStore.open(tmp_path / "a.rrl", append=True), EpisodeStore.open(tmp_path / "a.rrl") as reader:
        assert len(reader) == 3
        with pytest.raises(DataError, match="another process appends"):
            EpisodeStore.open(tmp_path / "a.rrl", append=True)
        with pytest.raises(DataError, match="open for reading"):
            reader.append(episode(3, 0))


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk."""
    path = tmp_path / "a.rrl"
    filled(path)
    before = path.read_bytes()
    code = f"""
        import resource, signal, sys
        sys.path[:0] = {[str(Path(__file__).parent)]!r}
        from test_data_store import DataError, EpisodeStore, episode
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = EpisodeStore.open({str(path)!r}, append=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 100}, {resource.RLIM_INFINITY}))
        try:
            store.append(episode(50, 1))
        except DataError as error:
            print(error)
    """
    told = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "no room" in told.stdout and "3 before are safe" in told.stdout
    assert path.read_bytes() == before


def test_what_does_not_fit_is_refused_with_a_reason(tmp_path: Path) -> None:
    good = episode(3, 0)
    with EpisodeStore.create(tmp_path / "a.rrl", SPEC) as store:
        size = (tmp_path / "a.rrl").stat().st_size
        for name, array, message in (
            ("action", np.zeros((3, 5), np.float32), r"'action' is float32 \(3, 5\), expected float32 \(3, 2\)"),
            ("action", np.full((3, 2), np.nan, np.float32), "'action' is not finite in row 0"),
            ("reward", np.zeros(4, np.float32), "'reward' is"),
            ("obs/joint_pos", np.zeros((4, 3)), "'obs/joint_pos' is float64"),
            ("cost/force", np.zeros(3, np.float32), "'cost/force' is not among"),
        ):
            with pytest.raises(DataError, match=message):
                store.append(Episode({**good.arrays, name: array}, False, True))
        assert len(store) == 0 and (tmp_path / "a.rrl").stat().st_size == size


def test_recorder_refuses_and_stays_as_it_was() -> None:
    recorder = EpisodeRecorder(SPEC)
    step = {"action": np.zeros(2), "reward": 0.0, "intervention": False}
    seen = {"obs/joint_pos": np.zeros(3), "image/front": np.zeros((8, 8, 3), np.uint8)}
    with pytest.raises(DataError, match="begin"):
        recorder.add(step, seen)
    recorder.begin(seen)
    for wrong, message in (
        ({"action": np.zeros(3)}, r"shape \(3,\), expected \(2,\)"),
        ({"image/front": np.zeros((8, 8, 3), np.int64)}, "would be changed"),
        ({"wrench": 0.0}, "not expected: wrench"),
    ):
        with pytest.raises(DataError, match=message):
            recorder.add({**step, **wrong}, {k: v for k, v in seen.items() if k not in wrong})
    recorder.add(step, seen)
    assert len(recorder.end(True, False)) == 1
    with pytest.raises(DataError, match="begin"):
        recorder.add(step, seen)


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match="not a file of episodes"):
        EpisodeStore.open(tmp_path / "text")
    with pytest.raises(DataError, match="cannot be opened"):
        EpisodeStore.open(tmp_path / "none")
    filled(tmp_path / "a.rrl", 1)
    with pytest.raises(DataError, match="exists"):
        EpisodeStore.create(tmp_path / "a.rrl", SPEC)
    (tmp_path / "short").write_bytes((tmp_path / "a.rrl").read_bytes()[:30])
    with pytest.raises(DataError, match="ends before its description"):
        EpisodeStore.open(tmp_path / "short")


@pytest.mark.parametrize(
    ("control_dt", "features", "message"),
    [
        (0.0, {"action": Feature()}, "control_dt"),
        (0.1, {}, "no features"),
        (0.1, {"velocity": Feature()}, "no meaning"),
        (0.1, {"obs/": Feature()}, "no meaning"),
    ],
)
def test_wrong_specs_are_refused(control_dt: float, features: dict[str, Feature], message: str) -> None:
    with pytest.raises(DataError, match=message):
        DataSpec(control_dt, features)
