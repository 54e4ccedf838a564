"""Pictures and films of a flight, drawn in software with OpenCV: no display, no GPU, no MuJoCo.

The vehicle is drawn larger than life, or it would be a dot. The film writer needs `imageio-ffmpeg`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError, MissingDependency
from robot_rl.sim.quadrotor.camera import Camera
from robot_rl.sim.quadrotor.equations import ROTOR_SPEED_MAX, ROTOR_X, ROTOR_Y, rotation

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Color = tuple[int, int, int]

_SKY_TOP, _SKY_BOTTOM = (16, 20, 30), (46, 56, 74)  # all colours RGB
_GRID, _GRID_AXIS = (70, 82, 104), (104, 120, 150)
_TARGET, _TEXT, _DIM = (255, 176, 66), (236, 240, 246), (150, 160, 176)
_FRONT, _BACK, _ROTOR = (255, 104, 92), (214, 222, 234), (126, 214, 255)
_SLOW, _FAST = np.array([64.0, 156.0, 255.0]), np.array([96.0, 255.0, 164.0])
_ARM = 0.028  # m, Crazyflie
_BLADE = 0.0231  # m
_SHIFT = 4  # OpenCV draws on 1/16 pixels


@dataclass(frozen=True)
class FlightTrajectory:
    """A recorded flight of T samples.

    Attributes:
        time: (T,) s, increasing. pos_w: (T, 3) m. quat_wxyz: (T, 4).
        target_pos_w: (T, 3) m or None. rotor_speed: (T, 4) rad/s or None.
    """

    time: Array
    pos_w: Array
    quat_wxyz: Array
    target_pos_w: Array | None = None
    rotor_speed: Array | None = None

    def __post_init__(self) -> None:
        widths = {"pos_w": 3, "quat_wxyz": 4, "target_pos_w": 3, "rotor_speed": 4}
        steps = np.asarray(self.time)
        if steps.ndim != 1 or len(steps) < 2 or np.any(np.diff(steps) <= 0):
            raise ConfigError(f"trajectory time must be (T ≥ 2,) and increasing, got shape {steps.shape}")
        object.__setattr__(self, "time", steps.astype(float))
        for name, width in widths.items():
            value = getattr(self, name)
            if value is None:
                continue
            array = np.asarray(value, dtype=float)
            if array.shape != (len(steps), width):
                raise ConfigError(f"trajectory {name} must be {(len(steps), width)}, got {array.shape}")
            object.__setattr__(self, name, array)

    def sample(self, times: Array) -> FlightTrajectory:
        """The nearest sample before each of the times (K,) in s."""
        rows = np.clip(np.searchsorted(self.time, times + 1e-9, side="right") - 1, 0, len(self.time) - 1)
        optional = [None if a is None else a[rows] for a in (self.target_pos_w, self.rotor_speed)]
        return FlightTrajectory(times, self.pos_w[rows], self.quat_wxyz[rows], *optional)


class FlightRenderer:
    """Draws one scene with a fixed camera; trails stay from frame to frame.

    Args:
        size: width and height in pixels, both even.
        scene: points (K, 3) that must be in view; None: a 1 m box about the first vehicle drawn.
        body_scale: how much larger than life the vehicle appears; None: so that it can be seen well.
    """

    def __init__(
        self, size: tuple[int, int] = (640, 480), scene: Array | None = None, body_scale: float | None = None
    ) -> None:
        if min(size) < 64 or size[0] % 2 or size[1] % 2:
            raise ConfigError(f"picture size {size}; both numbers must be even and at least 64")
        self._cv = _opencv()
        self.size, self._wanted_scale = size, body_scale
        self._canvas: Image | None = None
        self._last: dict[str, Array] = {}
        if scene is not None:
            self._prepare(np.asarray(scene, dtype=float))

    def frame(
        self,
        pos_w: Array,
        quat_wxyz: Array,
        target: Array | None = None,
        rotor_speed: Array | None = None,
        speed: float = 0.0,
        lines: tuple[str, ...] = (),
    ) -> Image:
        """The next picture (height, width, 3) uint8 RGB.

        Args:
            pos_w: (3,) m; quat_wxyz: (4,); target: (3,) m; rotor_speed: (4,) rad/s; speed: m/s, colours the trail.
            lines: text in the corner, the first one large.
        """
        pos_w = np.asarray(pos_w, dtype=float)
        if self._canvas is None:
            self._prepare(pos_w + np.array([[-0.5, -0.5, -0.4], [0.5, 0.5, 0.4]]))
        assert self._canvas is not None
        share = min(1.0, speed / 1.5)
        if target is not None:
            self._extend("target", np.asarray(target, dtype=float), _TARGET, 1)
        self._extend("vehicle", pos_w, _rgb(_SLOW + share * (_FAST - _SLOW)), 2)
        image = self._canvas.copy()
        self._shadow(image, pos_w)
        if target is not None:
            self._marker(image, np.asarray(target, dtype=float))
        self._vehicle(image, pos_w, np.asarray(quat_wxyz, dtype=float), rotor_speed)
        self._overlay(image, rotor_speed, lines)
        return image

    def _prepare(self, scene: Array) -> None:
        width, height = self.size
        margin = np.array([[0.12, 0.12, 0.05]])
        scene = np.concatenate([scene - margin, scene + margin])
        low = float(scene[:, 2].min())
        self._ground = 0.0 if 0.0 <= low < 1.0 else low - 0.1
        scene = np.concatenate([scene, np.c_[scene[:, :2], np.full(len(scene), self._ground)]])
        self.camera = Camera.looking_at(scene, self.size)
        apparent = 2 * _ARM * self.camera.pixels_per_metre(scene.mean(axis=0))
        self.body_scale = self._wanted_scale or max(1.0, 0.1 * height / apparent)
        ramp = np.linspace(0.0, 1.0, height)[:, None]
        sky = np.array(_SKY_TOP) + ramp * (np.array(_SKY_BOTTOM, dtype=float) - _SKY_TOP)
        self._canvas = np.ascontiguousarray(np.repeat(sky[:, None, :], width, axis=1).round().astype(np.uint8))
        self._grid(scene)

    def _grid(self, scene: Array) -> None:
        extent = float(np.abs(scene[:, :2]).max()) + 0.5
        cell = 0.25 if extent < 2.5 else 1.0 if extent < 12 else 5.0
        half = math.ceil(extent / cell)
        for i in range(-half, half + 1):
            color = _GRID_AXIS if i == 0 else _GRID
            for a, b in (((i, -half), (i, half)), ((-half, i), (half, i))):
                ends = np.array([[*a, 0.0], [*b, 0.0]]) * cell + [0, 0, self._ground]
                self._line(self._canvas, np.linspace(ends[0], ends[1], 16), color, 1)

    def _extend(self, name: str, point: Array, color: Color, width: int) -> None:
        last = self._last.get(name)
        if last is not None:
            self._line(self._canvas, np.stack([last, point]), color, width)
        self._last[name] = point

    def _line(self, image: Any, points: Array, color: Color, width: int) -> None:
        pixels, depth = self.camera.project(points)
        visible = depth > 0
        fixed = _fixed(pixels)
        for i in np.flatnonzero(visible[:-1] & visible[1:]):
            a, b = fixed[i].tolist(), fixed[i + 1].tolist()
            self._cv.line(image, a, b, color, width, self._cv.LINE_AA, _SHIFT)

    def _disc(self, image: Image, points: Array, color: Color, opacity: float) -> None:
        """A filled polygon through points (K, 3), mixed with what is behind it."""
        pixels, depth = self.camera.project(points)
        if np.any(depth <= 0):
            return
        low = np.clip(np.floor(pixels.min(axis=0)).astype(int) - 1, 0, self.size)
        high = np.clip(np.ceil(pixels.max(axis=0)).astype(int) + 2, 0, self.size)
        if np.any(high <= low):
            return
        part = image[low[1] : high[1], low[0] : high[0]]
        drawn = part.copy()
        self._cv.fillPoly(drawn, [_fixed(pixels - low)], color, self._cv.LINE_AA, _SHIFT)
        self._cv.addWeighted(drawn, opacity, part, 1 - opacity, 0.0, dst=part)

    def _shadow(self, image: Image, pos_w: Array) -> None:
        height = max(0.0, pos_w[2] - self._ground)
        circle = 1.6 * _ARM * self.body_scale * _CIRCLE + [pos_w[0], pos_w[1], self._ground]
        self._disc(image, circle, (6, 8, 12), 0.65 / (1 + 0.8 * height))
        foot = np.array([pos_w, [pos_w[0], pos_w[1], self._ground]])
        self._line(image, foot, _GRID_AXIS, 1)

    def _marker(self, image: Image, target: Array) -> None:
        pixels, depth = self.camera.project(target[None])
        if depth[0] > 0:
            radius = max(4.0, 0.03 * self.camera.pixels_per_metre(target))
            centre = _fixed(pixels)[0].tolist()
            self._cv.circle(image, centre, round(radius * 2**_SHIFT), _TARGET, 2, self._cv.LINE_AA, _SHIFT)
            self._cv.circle(image, centre, round(2 * 2**_SHIFT), _TARGET, -1, self._cv.LINE_AA, _SHIFT)

    def _vehicle(self, image: Image, pos_w: Array, quat: Array, rotor_speed: Array | None) -> None:
        R = np.array(rotation(*quat))
        k = self.body_scale
        hubs = k * _ARM * np.stack([ROTOR_X, ROTOR_Y, np.full(4, 0.25)], axis=1) @ R.T + pos_w
        thick = max(2, round(0.008 * k * self.camera.pixels_per_metre(pos_w)))
        order = np.argsort(-((hubs - self.camera.eye) @ self.camera.axes[2]))
        for i in order:
            self._line(image, np.stack([pos_w, hubs[i]]), _FRONT if i in (0, 3) else _BACK, thick)
        box = k * np.array([[s * 0.017, t * 0.012, 0.0] for s, t in ((1, 1), (1, -1), (-1, -1), (-1, 1))])
        self._disc(image, box @ R.T + pos_w, (40, 46, 58), 1.0)
        nose = k * np.array([[0.012, 0.0, 0.004], [0.026, 0.0, 0.004]]) @ R.T + pos_w
        self._line(image, nose, _FRONT, thick)
        for i in order:
            spin = 0.6 if rotor_speed is None else float(np.asarray(rotor_speed)[i]) / ROTOR_SPEED_MAX
            self._disc(image, k * _BLADE * _CIRCLE @ R.T + hubs[i], _ROTOR, 0.15 + 0.55 * min(1.0, spin))

    def _overlay(self, image: Image, rotor_speed: Array | None, lines: tuple[str, ...]) -> None:
        cv, font = self._cv, self._cv.FONT_HERSHEY_SIMPLEX
        for row, text in enumerate(lines):
            size, color = (0.6, _TEXT) if row == 0 else (0.45, _DIM)
            cv.putText(image, text, (16, 30 + 20 * row), font, size, color, 1, cv.LINE_AA)
        if rotor_speed is None:
            return
        bottom = self.size[1] - 16
        for i, speed in enumerate(np.asarray(rotor_speed, dtype=float)):
            left, full = 16 + 16 * i, 48
            level = round(full * min(1.0, max(0.0, speed / ROTOR_SPEED_MAX)))
            cv.rectangle(image, (left, bottom - full), (left + 9, bottom), _GRID, 1)
            cv.rectangle(image, (left, bottom - level), (left + 9, bottom), _ROTOR, -1)


_ANGLES = np.linspace(0.0, 2 * math.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES), np.zeros(24)], axis=1)


def render_flight(
    trajectory: FlightTrajectory,
    path: str | os.PathLike[str],
    fps: int = 50,
    size: tuple[int, int] = (640, 480),
    title: str = "",
) -> Path:
    """Write an mp4 (H.264) of a flight in real time.

    Returns:
        The path of the film, complete or not there at all.

    Raises:
        ConfigError: impossible size or rate, or the folder cannot be written to.
        MissingDependency: OpenCV or imageio-ffmpeg is absent.
    """
    if not 1 <= fps <= 240:
        raise ConfigError(f"fps = {fps}; allowed: 1 to 240")
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise MissingDependency("imageio-ffmpeg", "writing films", "pip install 'robot-rl[train]'") from error
    film = Path(path)
    aside = film.with_name(f".{film.stem}.part.mp4")
    try:
        film.parent.mkdir(parents=True, exist_ok=True)
        writer = imageio_ffmpeg.write_frames(
            str(aside), size, fps=fps, macro_block_size=2, codec="libx264", quality=6, output_params=_ENCODER
        )
        writer.send(None)
        for image in flight_frames(trajectory, fps, size, title):
            writer.send(image)
        writer.close()
        aside.replace(film)
    except OSError as error:
        raise ConfigError(f"film '{film}' cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
    return film


_ENCODER = ["-preset", "veryfast", "-movflags", "+faststart", "-threads", "1"]


def flight_frames(
    trajectory: FlightTrajectory, fps: int = 50, size: tuple[int, int] = (640, 480), title: str = ""
) -> Iterator[Image]:
    """The pictures of a film, (height, width, 3) uint8 RGB."""
    start, end = trajectory.time[0], trajectory.time[-1]
    frames = max(2, int((end - start) * fps) + 1)
    flight = trajectory.sample(start + np.arange(frames) / fps)
    seen = [flight.pos_w] if flight.target_pos_w is None else [flight.pos_w, flight.target_pos_w]
    scene = np.concatenate(seen)
    renderer = FlightRenderer(size, scene[np.all(np.isfinite(scene), axis=1)])
    speeds = np.linalg.norm(np.gradient(flight.pos_w, 1 / fps, axis=0), axis=1)
    for i in range(frames):
        target = None if flight.target_pos_w is None else flight.target_pos_w[i]
        rotor = None if flight.rotor_speed is None else flight.rotor_speed[i]
        lines = [title] if title else []
        lines.append(f"{flight.time[i] - start:5.2f} s   {speeds[i]:4.2f} m/s")
        if target is not None:
            lines.append(f"error {100 * np.linalg.norm(flight.pos_w[i] - target):5.1f} cm")
        yield renderer.frame(flight.pos_w[i], flight.quat_wxyz[i], target, rotor, float(speeds[i]), tuple(lines))


def _fixed(pixels: Array) -> NDArray[np.int32]:
    """Pixels as OpenCV's fixed-point numbers; far outside the picture they are cut off."""
    return np.round(np.clip(pixels, -8192, 8192) * 2**_SHIFT).astype(np.int32)


def _rgb(color: Array) -> Color:
    r, g, b = (int(c) for c in color)
    return r, g, b


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependency("OpenCV", "pictures of flights", "pip install 'robot-rl[train]'") from error
    return cv2
