"""Watching and steering: the session, the shapes, the film, the page in a real browser."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import chromium
import msgspec
import numpy as np
import pytest
from standing_policy import HAS_GL, write_standing_policy
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from robot_rl.cli import main
from robot_rl.errors import ConfigError, UnknownName
from robot_rl.evaluation.jointed.session import LONGEST_LATENCY, Session, Watched
from robot_rl.evaluation.jointed.viewer import Viewer
from robot_rl.sim.articulated.shapes import BodyPoses, box, capsule, cylinder, drawn_shapes, ellipsoid
from robot_rl.sim.tasks.go1_velocity_flat import TASK

CAMERA = {
    "type": "ViewerCameraMessage", "wxyz": (1.0, 0.0, 0.0, 0.0), "position": (1.0, 1.0, 1.0), "fov": 1.0, "near": 0.01,
    "far": 100.0, "image_height": 600, "image_width": 800, "look_at": (0.0, 0.0, 0.0), "up_direction": (0.0, 0.0, 1.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_standing_policy(tmp_path_factory.mktemp("policy") / "stand.onnx")


@pytest.fixture
def session(policy: Path) -> Session:
    return Session(Watched(policy, TASK))


def test_controls_survive_resets_and_other_simulators(session: Session) -> None:
    assert session.env.command.tolist() == [[0.0, 0.0, 0.0]]
    session.set("forward", 0.5)
    session.set("payload", 3.0)
    session.reset()
    session.advance()
    assert session.controls()["forward"].value == pytest.approx(0.5)
    own = session.env.model.body("trunk").mass[0]
    assert session.env.physics.batch.expanded("body_mass")[0, 1] == pytest.approx(own + 3.0, rel=1e-5)
    session.use_physics("pybullet")
    session.advance()
    assert session.env.physics.name == "pybullet"
    assert session.env.command.tolist() == [[0.5, 0.0, 0.0]]


def test_latency_reaches_the_drives(session: Session) -> None:
    """A target that steps reaches the drives later by as much as the slider says."""
    control = session.controls()["latency"]
    assert control.low == 0.0 and control.high == pytest.approx(LONGEST_LATENCY)
    assert control.value == 0.0
    session.set("latency", 0.04)
    assert session.env._delay.tolist() == pytest.approx([0.04])
    session.reset()
    assert session.env._delay.tolist() == pytest.approx([0.04])


def test_friction_is_that_of_the_floor(session: Session) -> None:
    session.set("friction", 0.3)
    floor = session.env.model.geom("floor").id
    assert session.env.physics.batch.expanded("geom_friction")[0, floor, 0] == pytest.approx(0.3, rel=1e-5)
    session.set("friction", 1.2)
    assert session.env.physics.batch.expanded("geom_friction")[0, floor, 0] == pytest.approx(1.2, rel=1e-5)


@pytest.mark.parametrize(("direction", "axis", "sign"), [(0.0, 0, 1), (np.pi / 2, 1, 1), (np.pi, 0, -1)])
def test_a_push_moves_the_robot_where_it_was_pushed(session: Session, direction: float, axis: int, sign: int) -> None:
    for _ in range(20):
        session.advance()
    before = session.env.base_lin_vel_b()[0]
    session.push(1.0, direction)
    for _ in range(5):
        session.advance()
    change = session.env.base_lin_vel_b()[0] - before
    assert sign * float(change[axis]) > 0.3
    for _ in range(30):
        session.advance()
    assert float(session.env.physics.batch.bind("xfrc_applied")[0].max()) == 0.0


def test_requests_come_from_other_threads_and_wrong_ones_are_told(session: Session) -> None:
    ask = threading.Thread(
        target=lambda: (session.ask(lambda: session.set("yaw", 9.0)), session.ask(lambda: session.set("yaw", -0.5)))
    )
    ask.start()
    ask.join()
    session.advance()
    assert session.troubles == ["control 'yaw' = 9; allowed: -1 to 1"]
    assert session.controls()["yaw"].value == -0.5
    with pytest.raises(UnknownName, match="control 'speed'"):
        session.set("speed", 1.0)
    with pytest.raises(ConfigError, match="no goal"):
        session.move_goal(np.zeros(7))


def test_pause_stops_time_and_a_fallen_robot_starts_anew(session: Session) -> None:
    session.paused = True
    session.advance()
    assert session.time == 0.0
    session.paused = False
    session.set("strength", 0.2)
    session.set("payload", 10.0)
    while session.resets == 0 and session.time < 20.0:
        session.advance()
    assert session.failures == 1 and session.resets == 1
    assert session.readouts()["falls"] == "1"


def test_shapes_have_their_volume_and_face_outwards() -> None:
    def volume(corners: np.ndarray, triangles: np.ndarray) -> float:
        a, b, c = (corners[triangles[:, i]] for i in range(3))
        return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)

    assert volume(*box((0.1, 0.2, 0.3))) == pytest.approx(8 * 0.1 * 0.2 * 0.3)
    # A circle of 20 corners has 0.984 of its area.
    assert volume(*cylinder(0.1, 0.2)) == pytest.approx(0.984 * np.pi * 0.01 * 0.4, rel=0.01)
    assert volume(*ellipsoid((0.1, 0.2, 0.3))) == pytest.approx(4 / 3 * np.pi * 0.006, rel=0.05)
    assert volume(*capsule(0.1, 0.2)) == pytest.approx(np.pi * 0.01 * 0.4 + 4 / 3 * np.pi * 0.001, rel=0.05)


def test_bodies_are_where_the_physics_has_them(session: Session) -> None:
    session.advance()
    pos, quat = BodyPoses(session.env.model).at(session.qpos, session.placed)
    trunk = session.env.model.body("trunk").id
    assert pos[trunk] == pytest.approx(session.qpos[:3]) and quat[trunk] == pytest.approx(session.qpos[3:7], abs=1e-6)
    assert {s.body for s in drawn_shapes(session.env.model)} == set(range(trunk, session.env.model.nbody))


@pytest.mark.skipif(not HAS_GL, reason="no OpenGL without a screen; apt-get install libegl1 libgl1-mesa-dri")
def test_film_without_a_browser(policy: Path, tmp_path: Path) -> None:
    import imageio_ffmpeg

    film = tmp_path / "tour.mp4"
    assert main(["view", str(policy), "--headless-video", str(film), "--seconds", "0.8"]) == 0
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(film))
    assert frames == 20 and seconds == pytest.approx(0.8)


def test_refusals(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(policy), "--task", "quadrotor-hover"]) == 2
    assert "is flight" in capsys.readouterr().err
    assert main(["view", str(policy), "--port", "0"]) == 2
    assert "--port 0" in capsys.readouterr().err


@pytest.fixture
def running(session: Session) -> Iterator[Viewer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    viewer = Viewer(session, port=port)
    thread = threading.Thread(target=viewer.run, daemon=True)
    thread.start()
    yield viewer
    viewer.stop.set()
    thread.join(20)
    viewer.close()


def test_a_client_of_the_web_socket_steers(running: Viewer) -> None:
    """What a browser would send when its slider moves, without a browser."""
    import viser

    protocol = Subprotocol(f"viser-v{viser.__version__}")
    moved = {"type": "GuiUpdateMessage", "uuid": running.sliders["forward"]._impl.uuid, "updates": {"value": 0.7}}
    heard = threading.Event()
    running.sliders["forward"].on_update(lambda _: heard.set())
    with connect(running.url.replace("http", "ws"), subprotocols=[protocol], max_size=None) as client:
        assert len(client.recv(timeout=30)) > 100
        client.send(msgspec.msgpack.encode(CAMERA))  # the first thing a page tells
        client.send(msgspec.msgpack.encode(moved))
        assert heard.wait(30)
        done = threading.Event()
        running.session.ask(done.set)
        assert done.wait(30)
    assert running.session.env.command.tolist()[0] == pytest.approx([0.7, 0.0, 0.0])


@pytest.mark.slow
@pytest.mark.skipif(chromium.installed() is None, reason="no Chromium; apt-get install chromium")
def test_the_page_in_a_real_browser(running: Viewer, tmp_path: Path) -> None:
    """It loads, draws, and an arrow key on the first slider changes the command of the running simulation."""
    with chromium.Page(running.url, tmp_path) as page:
        page.wait(lambda: page.run("document.querySelectorAll('[role=slider]').length") >= 9)
        assert page.run("document.querySelectorAll('canvas').length") >= 1
        assert page.run("document.querySelector('canvas').getContext('webgl2') !== null")
        page.wait(lambda: "real time" in page.run("document.body.innerText"))
        page.run("document.querySelectorAll('[role=slider]')[0].focus()")
        page.press("ArrowRight", 39, times=10)
        page.wait(lambda: running.session.controls()["forward"].value == pytest.approx(0.1))
        before = running.session.resets
        page.run("[...document.querySelectorAll('button')].find(b => b.innerText.trim() === 'Reset').click()")
        page.wait(lambda: running.session.resets > before)
