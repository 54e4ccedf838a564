"""`robot-rl data plot` and `video`: what the pictures show, and what they say where there is nothing to show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from test_data_store import SPEC, filled

from robot_rl.cli import main
from robot_rl.data.episode import DataError, DataSpec, Episode, Feature
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import MissingDependency
from robot_rl.evaluation.episodes.film import HEIGHT, side_by_side
from robot_rl.evaluation.episodes.plots import action_range, at_an_end, save_plots, spans
from robot_rl.evaluation.plots import COLOURS

SHADED = tuple(int(COLOURS[4][i : i + 2], 16) * 0.25 + 255 * 0.75 for i in (1, 3, 5))  # a quarter of it on white


def film_of(path: Path) -> list[np.ndarray]:
    """Its frames, RGB."""
    film, frames = cv2.VideoCapture(str(path)), list[Any]()
    while (read := film.read())[0]:
        frames.append(read[1][:, :, ::-1])
    return frames


def shaded_pixels(picture: Path) -> int:
    pixels = cv2.imread(str(picture))[:, :, ::-1].astype(float)
    return int((np.abs(pixels - SHADED).max(axis=2) < 2.0).sum())


def test_plots_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "a.rrl", tmp_path / "plots"
    filled(path)
    assert main(["data", "plot", str(path), "-o", str(out), "--episode", "1"]) == 0
    assert {f.name for f in out.iterdir()} == {"overview.png", "episode-1.png", "actions.png"}
    assert capsys.readouterr().out.count("wrote") == 3
    for picture in out.iterdir():
        pixels = cv2.imread(str(picture))
        assert min(pixels.shape[:2]) > 200 and pixels.std() > 10.0, picture
    assert shaded_pixels(out / "episode-1.png") > 1000, "a person acted in every second step"
    assert main(["data", "plot", str(path)]) == 0 and (tmp_path / "a-plots" / "episode-0.png").exists()


def test_nothing_is_shaded_where_nobody_acted(tmp_path: Path) -> None:
    spec = DataSpec(0.1, {"reward": Feature(), "intervention": Feature("bool"), "obs/wide": Feature("float32", (300,))})
    with EpisodeStore.create(tmp_path / "a.rrl", spec) as store:
        rows = {"reward": np.ones(5, np.float32), "intervention": np.zeros(5, np.bool_)}
        store.append(Episode({**rows, "obs/wide": np.zeros((6, 300), np.float32)}, False, True))
    written = save_plots(tmp_path / "a.rrl", tmp_path / "p")
    assert [p.name for p in written] == ["overview.png", "episode-0.png"], "there are no actions"
    assert shaded_pixels(tmp_path / "p" / "episode-0.png") == 0


def test_numbers_behind_the_plots() -> None:
    low, high = action_range(np.array([[-0.2, 3.0], [0.5, -7.0]]))
    assert low.tolist() == [-1.0, -7.0] and high.tolist() == [1.0, 3.0]
    assert at_an_end(np.array([-1.0, 0.99, 0.5, 0.0]), -1.0, 1.0) == 0.5
    assert spans(np.array([True, False, True, True])) == [(0, 1), (2, 4)]


def test_a_film_has_a_picture_for_each_observation(tmp_path: Path) -> None:
    path, out = tmp_path / "a.rrl", tmp_path / "v.mp4"
    spec = DataSpec(0.05, {**SPEC.features, "image/wrist": Feature("uint8", (6, 10, 3))})
    seen = {"obs/joint_pos": np.zeros((8, 3), np.float32), "image/front": np.zeros((8, 8, 8, 3), np.uint8)}
    seen["image/front"][:, :, :, 0] = np.arange(8, dtype=np.uint8)[:, None, None] * 30
    seen["image/wrist"] = np.full((8, 6, 10, 3), (0, 0, 200), np.uint8)
    steps = {"action": np.zeros((7, 2), np.float32), "reward": np.zeros(7, np.float32)}
    with EpisodeStore.create(path, spec) as store:
        store.append(Episode({**seen, **steps, "intervention": np.zeros(7, np.bool_)}, False, True, True))
    assert main(["data", "video", str(path), "-o", str(out)]) == 0
    frames = film_of(out)
    assert len(frames) == 8 and cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FPS) == pytest.approx(20)
    height, width = frames[0].shape[:2]
    assert width == HEIGHT + 400 and height > HEIGHT, "both cameras, enlarged, under lines of text"
    reds = [frame[-HEIGHT // 2, HEIGHT // 2, 0] for frame in frames]
    np.testing.assert_allclose(reds, np.arange(8) * 30.0, atol=20)
    assert frames[3][-HEIGHT // 2, HEIGHT + 200, 2] > 150
    text = [frame[: height - HEIGHT].astype(int) for frame in frames]
    assert text[0].max() > 150 and np.abs(text[0] - text[5]).max() > 100, "step and time go on"
    assert main(["data", "video", str(path), "-o", str(out), "--camera", "wrist"]) == 0
    assert film_of(out)[0].shape[1] == 400


def test_sides_are_even_and_grey_is_a_colour() -> None:
    sheet = side_by_side([np.full((241, 241, 1), 7, np.uint8), np.full((240, 240, 3), 9, np.uint8)])
    assert sheet.shape == (242, 482, 3) and sheet[0, 0].tolist() == [7, 7, 7] and sheet[0, 300].tolist() == [9, 9, 9]


def test_what_cannot_be_shown_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, blind, out = tmp_path / "a.rrl", tmp_path / "b.rrl", str(tmp_path / "v.mp4")
    filled(path)
    EpisodeStore.create(blind, DataSpec(0.1, {"action": Feature()})).close()
    for words, said in (
        (["video", str(blind), "-o", out], "holds no images; `robot-rl demos TASK -o FILE --images` records them"),
        (["video", str(path), "-o", out, "--camera", "back"], "no camera 'back'; it has front"),
        (["video", str(path), "-o", out, "--episode", "3"], "it has 0 to 2"),
        (["plot", str(blind)], "it is empty"),
        (["plot", str(tmp_path / "none.rrl")], "cannot be opened"),
    ):
        assert main(["data", *words]) == 2
        assert said in capsys.readouterr().err
    assert {f.name for f in tmp_path.iterdir()} == {"a.rrl", "b.rrl"}, "nothing is left behind"


def test_recorded_images_become_a_film(tmp_path: Path) -> None:
    """The real thing: cameras of a task, side by side."""
    path = tmp_path / "a.rrl"
    words = ["panda-pick", "--images", "--episodes", "1", "--set", "threads=1", "episode_s=0.2", "camera.size=32"]
    status = main(["demos", *words, "camera.names=[front,wrist]", "-o", str(path)])
    if status == 2:
        try:
            from robot_rl.sim.task_spec import make_env

            make_env("panda-pick", 1, 0, overrides={"camera.size": 32}).signals()  # type: ignore[attr-defined]
        except MissingDependency as error:
            pytest.skip(f"no software rendering here: {error}")
    assert status == 0
    with EpisodeStore.open(path) as store:
        (episode,) = list(store)
    assert episode.arrays["image/front"].shape == episode.arrays["image/wrist"].shape == (6, 32, 32, 3)
    assert np.abs(np.diff(episode.arrays["image/wrist"].astype(int), axis=0)).max(axis=(1, 2, 3)).min() > 0
    assert main(["data", "video", str(path), "-o", str(tmp_path / "v.mp4")]) == 0
    frames = film_of(tmp_path / "v.mp4")
    assert len(frames) == 6 and frames[0].shape[1] == 2 * 256 and frames[0][-256:].std() > 10.0


def test_images_of_another_kind_are_refused(tmp_path: Path) -> None:
    from robot_rl.evaluation.episodes.film import cameras_of

    with pytest.raises(DataError, match="a film takes uint8"):
        cameras_of(DataSpec(0.1, {"image/depth": Feature("float32", (4, 4))}), tmp_path / "a.rrl")
