"""Films of flights: the vehicle is where it should be in the picture, and the file is a film."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robot_rl.errors import ConfigError
from robot_rl.sim.quadrotor.camera import Camera
from robot_rl.sim.quadrotor.references import figure_eight
from robot_rl.sim.quadrotor.render import FlightRenderer, FlightTrajectory, flight_frames, render_flight

cv2 = pytest.importorskip("cv2", reason="opencv is not installed")
UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])


def flight(seconds: float = 1.0) -> FlightTrajectory:
    t = np.arange(0.0, seconds, 0.01)
    pos = figure_eight(np, t + 2.0).pos.T + np.array([0.0, 0.0, 1.0])
    return FlightTrajectory(t, pos, np.tile(UPRIGHT, (len(t), 1)), pos + 0.02, np.full((len(t), 4), 1500.0))


def test_camera_sees_all_points_and_keeps_up_up() -> None:
    points = np.random.default_rng(0).uniform(-2.0, 3.0, (200, 3))
    camera = Camera.looking_at(points, (640, 480))
    pixels, depth = camera.project(points)
    assert np.all(depth > 0)
    assert np.all((pixels > -40) & (pixels < [680, 520]))
    (low, high), _ = camera.project(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert high[1] < low[1] - 20 and abs(high[0] - low[0]) < 3
    assert camera.project(camera.eye[None] - camera.axes[2])[1][0] == -1.0


def test_the_vehicle_is_drawn_where_it_is() -> None:
    scene = np.array([[-1.0, -1.0, 0.0], [1.0, 1.0, 1.5]])
    at, away = np.array([0.5, -0.3, 1.0]), np.array([-0.5, 0.4, 0.6])
    renderer = FlightRenderer(scene=scene)
    a = renderer.frame(at, UPRIGHT).astype(int)
    b = FlightRenderer(scene=scene).frame(away, UPRIGHT).astype(int)
    changed = np.abs(a - b).sum(axis=2) > 60
    for point in (at, away):
        x, y = renderer.camera.project(point[None])[0][0].round().astype(int)
        assert changed[y - 12 : y + 12, x - 12 : x + 12].mean() > 0.2
    rows, columns = np.nonzero(changed)
    assert len(rows) < 0.2 * changed.size and np.ptp(columns) > 50


def test_trails_and_text_stay() -> None:
    frames = list(flight_frames(flight(), fps=25, title="flight"))
    assert len(frames) == 25 and all(f.shape == (480, 640, 3) and f.dtype == np.uint8 for f in frames)
    text = frames[-1][15:40, 10:120]
    assert text.max() > 200
    # What has been drawn of the trail stays: the last picture differs from the first in more places.
    differs = [np.count_nonzero(np.any(f != frames[0], axis=2)) for f in (frames[5], frames[-1])]
    assert differs[1] > differs[0]


def test_film_can_be_read_again(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")
    film = render_flight(flight(), tmp_path / "new" / "flight.mp4", fps=30, size=(320, 240), title="flight")
    video = cv2.VideoCapture(str(film))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 30 and video.get(cv2.CAP_PROP_FPS) == 30
    ok, image = video.read()
    assert ok and image.shape == (240, 320, 3) and image.std() > 5
    assert [p.name for p in film.parent.iterdir()] == ["flight.mp4"]


def test_wrong_input_is_refused(tmp_path: Path) -> None:
    t = np.arange(5.0)
    with pytest.raises(ConfigError, match="quat_wxyz"):
        FlightTrajectory(t, np.zeros((5, 3)), np.zeros((4, 4)))
    with pytest.raises(ConfigError, match="increasing"):
        FlightTrajectory(t * 0, np.zeros((5, 3)), np.zeros((5, 4)))
    with pytest.raises(ConfigError, match="even"):
        FlightRenderer(size=(641, 480))
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        render_flight(flight(), blocked / "flight.mp4")
