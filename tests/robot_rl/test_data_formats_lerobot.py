"""LeRobotDataset v3.0, written here with pyarrow and OpenCV as its documentation lays it out."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from formats import SPEC, assert_round_trip, imported, picture, refused, written
from PIL import Image

from robot_rl.cli import main
from robot_rl.data.formats.statistics import joined, of_numbers

FPS = 20
LENGTHS = (5, 7, 4, 6)  # two episodes in each of two data files; all in one film but the last
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FILM = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
CAMERA = "observation.images.top"


def blue(index: int, frame: int) -> int:
    return 60 * index + 9 * frame


def film(path: Path, values: list[int]) -> None:
    """MPEG-4, which OpenCV writes by itself everywhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (48, 32))
    assert writer.isOpened()
    for value in values:
        writer.write(np.ascontiguousarray(picture(value)[..., ::-1]))
    writer.release()


def png(image: np.ndarray) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, format="PNG")
    return packed.getvalue()


def frames(index: int) -> dict[str, list]:
    n, before = LENGTHS[index], sum(LENGTHS[:index])
    done = [k == n - 1 and index != 1 for k in range(n)]
    return {
        "observation.state": [[float(index), float(k), 0.5] for k in range(n)],
        "observation.images.wrist": [{"bytes": png(picture(blue(index, k))), "path": None} for k in range(n)],
        "action": [[k / 10.0, -k / 10.0] for k in range(n)], "next.reward": [float(k) for k in range(n)],
        "next.done": done, "next.success": [d and index == 2 for d in done], "subtask": ["reach"] * n,
        "timestamp": [k / FPS for k in range(n)], "frame_index": list(range(n)), "episode_index": [index] * n,
        "index": list(range(before, before + n)), "task_index": [index % 2] * n,
    }  # fmt: skip


SCHEMA = pa.schema({
    "observation.state": pa.list_(pa.float32(), 3), "action": pa.list_(pa.float32()), "next.reward": pa.float32(),
    "observation.images.wrist": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    "next.done": pa.bool_(), "next.success": pa.bool_(), "subtask": pa.string(), "timestamp": pa.float32(),
    "frame_index": pa.int64(), "episode_index": pa.int64(), "index": pa.int64(), "task_index": pa.int64(),
})  # fmt: skip


def table(indices: tuple[int, ...]) -> pa.Table:
    parts = [frames(i) for i in indices]
    return pa.table({name: [row for part in parts for row in part[name]] for name in SCHEMA.names}, SCHEMA)


def save(path: Path, content: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, path)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lerobot") / "data set"
    for file, indices in enumerate(((0, 1), (2, 3))):
        save(root / DATA.format(chunk_index=0, file_index=file), table(indices))
    films = ([blue(i, k) for i in (0, 1, 2) for k in range(LENGTHS[i])], [blue(3, k) for k in range(LENGTHS[3])])
    for file, values in enumerate(films):
        film(root / FILM.format(video_key=CAMERA, chunk_index=0, file_index=file), values)
    starts = [0, 5 / FPS, 12 / FPS, 0]
    about = {
        "episode_index": [0, 1, 2, 3], "tasks": [["pick"], ["place"]] * 2, "length": list(LENGTHS),
        "data/chunk_index": [0] * 4, "data/file_index": [0, 0, 1, 1], "dataset_from_index": [0, 5, 12, 16],
        "dataset_to_index": [5, 12, 16, 22], f"videos/{CAMERA}/chunk_index": [0] * 4,
        f"videos/{CAMERA}/file_index": [0, 0, 0, 1], f"videos/{CAMERA}/from_timestamp": starts,
        f"videos/{CAMERA}/to_timestamp": [s + n / FPS for s, n in zip(starts, LENGTHS, strict=True)],
        "stats/action/mean": [[0.0, 0.0]] * 4,
    }  # fmt: skip
    for file in (0, 1):
        part = {name: values[2 * file : 2 * file + 2] for name, values in about.items()}
        save(root / "meta/episodes/chunk-000" / f"file-{file:03d}.parquet", pa.table(part))
    save(root / "meta/tasks.parquet", pa.table({"task_index": [0, 1], "__index_level_0__": ["pick", "place"]}))
    one = {"shape": [1], "names": None}
    picture_of = {"shape": [32, 48, 3], "names": ["height", "width", "channels"]}
    features = {
        "observation.state": {"dtype": "float32", "shape": [3], "names": {"motors": ["a", "b", "c"]}},
        CAMERA: {"dtype": "video", **picture_of}, "observation.images.wrist": {"dtype": "image", **picture_of},
        "action": {"dtype": "float32", "shape": [2], "names": ["x", "y"]}, "next.reward": {"dtype": "float32", **one},
        "next.done": {"dtype": "bool", **one}, "next.success": {"dtype": "bool", **one},
        "subtask": {"dtype": "string", **one}, "timestamp": {"dtype": "float32", **one},
        **{n: {"dtype": "int64", **one} for n in ("frame_index", "episode_index", "index", "task_index")},
    }  # fmt: skip
    info = {
        "codebase_version": "v3.0", "robot_type": "so100", "total_episodes": 4, "total_frames": 22, "total_tasks": 2,
        "chunks_size": 1000, "fps": FPS, "splits": {"train": "0:4"}, "data_path": DATA, "video_path": FILM,
        "features": features,
    }  # fmt: skip
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


@pytest.fixture
def source(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "source"))


def test_import(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, episodes = imported(source, tmp_path / "a.rrl")
    told = capsys.readouterr().out
    assert "4 episodes, 22 steps from lerobot" in told and "left out: subtask" in told
    assert "(image/top, image/wrist, obs/state): the last one was repeated (4 episodes)" in told
    assert (spec.control_dt, spec.robot, spec.task, spec.facts) == (0.05, "so100", "", {"tasks": ["pick", "place"]})
    assert spec.features["obs/state"].names == ("a", "b", "c") and spec.features["reward"].shape == ()
    for i, one in enumerate(episodes):
        rows = [*range(LENGTHS[i]), LENGTHS[i] - 1]
        assert one.arrays["obs/state"].tolist() == [[i, k, 0.5] for k in rows]
        assert [int(p[..., 2].mean()) for p in one.arrays["image/wrist"]] == [blue(i, k) for k in rows]
        shown = one.arrays["image/top"][..., 2].mean((1, 2))
        assert np.abs(shown - [blue(i, k) for k in rows]).max() < 4, "each frame, and no neighbour of it"
        assert one.facts["task"] == ["pick", "place"][i % 2] and one.facts["last_seen"] == "repeated"
    assert [e.terminated for e in episodes] == [True, False, True, True]
    assert [(e.truncated, e.success) for e in episodes] == [
        (False, False),
        (True, False),
        (False, True),
        (False, False),
    ]


def test_the_last_step_can_be_dropped(source: Path, tmp_path: Path) -> None:
    more = ("--last", "drop", "--rename", "observation.state=obs/joint_pos")
    spec, episodes = imported(source, tmp_path / "a.rrl", *more)
    assert [len(e) for e in episodes] == [n - 1 for n in LENGTHS] and "obs/joint_pos" in spec.features
    assert not any(e.terminated for e in episodes) and all(e.truncated for e in episodes)


def test_export_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = written(tmp_path / "a.rrl")
    target = tmp_path / "b"
    assert main(["data", "export", str(tmp_path / "a.rrl"), "-o", str(target), "--format", "lerobot"]) == 0
    assert "films lose a little" in capsys.readouterr().out
    info = json.loads((target / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"], info["total_frames"]) == ("v3.0", 25, 3, 18)
    assert info["features"]["observation.images.front"]["dtype"] == "video"
    content = pq.read_table(target / "data/chunk-000/file-000.parquet")
    assert set(content.column_names) == set(info["features"]) - {"observation.images.front"}
    assert content["frame_index"].to_pylist() == [*range(5), *range(6), *range(7)]
    assert content["timestamp"].to_pylist()[:3] == pytest.approx([0, 0.04, 0.08])
    np.testing.assert_array_equal(content["action"].to_pylist()[5:11], expected[1].arrays["action"])
    about = pq.read_table(target / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["videos/observation.images.front/from_timestamp"] for row in about] == [0, 0.2, 0.44]
    assert pq.read_table(target / "meta/tasks.parquet").to_pylist() == [{"task_index": 0, "task": "panda-push"}]
    stats = json.loads((target / "meta/stats.json").read_text())
    everything = np.concatenate([e.arrays["action"] for e in expected])
    np.testing.assert_allclose(stats["action"]["std"], everything.std(0), rtol=1e-6)
    assert np.shape(stats["observation.images.front"]["mean"]) == (3, 1, 1)
    spec, episodes = imported(target, tmp_path / "c.rrl")
    assert spec == SPEC
    assert_round_trip(episodes, expected, films=True)


def test_statistics_of_parts_are_those_of_the_whole() -> None:
    rows = np.random.default_rng(0).normal(3, 2, (50, 2))
    both, whole = joined(of_numbers(rows[:20]), of_numbers(rows[20:])), of_numbers(rows)
    for key in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(both[key], whole[key])


def edited(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def damage(root: Path, kind: str) -> None:
    info, data = root / "meta/info.json", root / DATA.format(chunk_index=0, file_index=1)
    content = pq.read_table(data)
    if kind == "old":
        edited(info, codebase_version="v2.1")
    elif kind == "fps":
        edited(info, fps=0)
    elif kind == "json":
        info.write_text(info.read_text()[:-20])
    elif kind == "count":
        edited(info, total_episodes=5)
    elif kind == "truncated":
        data.write_bytes(data.read_bytes()[:500])
    elif kind == "column":
        save(data, content.drop_columns(["action"]))
    elif kind == "rows":
        save(data, content.slice(0, 8))
    elif kind == "film":
        film(root / FILM.format(video_key=CAMERA, chunk_index=0, file_index=0), [0] * 14)
    elif kind == "no film":
        (root / FILM.format(video_key=CAMERA, chunk_index=0, file_index=1)).unlink()
    elif kind == "broken film":
        (root / FILM.format(video_key=CAMERA, chunk_index=0, file_index=0)).write_bytes(b"\0" * 900)
    else:
        rows = content["action"].to_pylist()
        rows[5] = {"ragged": [1.0], "nan": [1.0, float("nan")], "null": None}[kind]
        column = pa.array(rows, pa.list_(pa.float32()))
        save(data, content.set_column(content.schema.get_field_index("action"), "action", column))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("old", "codebase_version = v2.1; allowed: v3.x"),
        ("fps", "has no fps"),
        ("json", "info.json' is damaged"),
        ("count", "has 4 episodes, info.json says 5"),
        ("truncated", "cannot be read as Parquet"),
        ("column", "has no column action"),
        ("rows", "has 4 rows of episode 3, meta/episodes says 6"),
        ("film", "has no frame at 0.700 s"),
        ("no film", "file-001.mp4' is missing"),
        ("broken film", "cannot be decoded"),
        ("ragged", "'action' has 2 values in row 0 and 1 in row 1"),
        ("nan", "episode 3: this episode cannot be kept: 'action' is not finite in row 1"),
        ("null", "'action' has 1 missing values"),
    ],
)
def test_damage_is_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, told: str
) -> None:
    damage(source, kind)
    refused(source, tmp_path)
    assert told in capsys.readouterr().err


def test_an_export_that_was_changed_is_not_taken_for_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "a.rrl")
    assert main(["data", "export", str(tmp_path / "a.rrl"), "-o", str(tmp_path / "b"), "--format", "lerobot"]) == 0
    edited(tmp_path / "b/meta/robot_rl.json", episodes=[])
    refused(tmp_path / "b", tmp_path)
    assert "describes other episodes" in capsys.readouterr().err
    (tmp_path / "b/meta/robot_rl.json").unlink()
    spec, _ = imported(tmp_path / "b", tmp_path / "c.rrl")
    assert {"obs/joint_pos", "cost/force", "intervention", "action_proposed"} < set(spec.features)
