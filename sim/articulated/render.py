"""Pictures and films of one simulation of a robot with joints, drawn by MuJoCo without a screen.

Works for every physics backend: only positions are needed. Shadows, reflections and multi-sampling are off, which makes
software rendering some ten times faster.
"""

# mujoco comes without stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_rl.errors import ConfigError, MissingDependency
from robot_rl.sim.articulated.offscreen import Image, Offscreen
from robot_rl.sim.articulated.scene import GOAL, place

if TYPE_CHECKING:
    import mujoco

SIZE = (640, 480)
FPS = 25
_SKY_TOP, _SKY_BOTTOM = (122, 146, 174), (208, 218, 228)
_TEXT, _EDGE = (255, 255, 255), (24, 28, 34)
_AXES = np.array([(1, 0.2, 0.2, 1), (0.2, 0.8, 0.2, 1), (0.2, 0.4, 1, 1)], dtype=np.float32)  # x, y, z
_ENCODER = ["-preset", "veryfast", "-movflags", "+faststart", "-threads", "1"]


class SceneRenderer:
    """Draws one compiled scene from positions; close it, or use it as a context, to free the graphics memory.

    Args:
        model: the scene; a copy of it is changed for drawing.
        size: width and height in pixels.
        follow: name of the body in the middle of the picture; empty: the whole scene is.
        distance: m from camera to what it looks at; None: so that the robot fills the picture.

    Raises:
        MissingDependency: no OpenGL without a screen; names the Debian package.
        ConfigError: impossible size, or a body that is not there.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        size: tuple[int, int] = SIZE,
        follow: str = "",
        distance: float | None = None,
        azimuth: float = 130.0,
        elevation: float = -18.0,
    ) -> None:
        import mujoco

        if not all(16 <= side <= 4096 for side in size):
            raise ConfigError(f"picture size {size}; both numbers must be from 16 to 4096")
        self._mj, self.size = mujoco, size
        self.model = _for_drawing(model)
        self._data = mujoco.MjData(self.model)
        self._screen = Offscreen(self.model, size)
        self._scene = self._screen.scene
        self.camera = mujoco.MjvCamera()
        self.camera.azimuth, self.camera.elevation = azimuth, elevation
        self._follow = _body(model, follow) if follow else None
        self._frame_scene(distance)
        self._sky = np.linspace(_SKY_TOP, _SKY_BOTTOM, size[1] // 2).round().astype(np.uint8)

    def frame(self, qpos: ArrayLike, lines: Sequence[str] = (), placed: Mapping[str, ArrayLike] | None = None) -> Image:
        """The picture (height, width, 3) uint8 RGB of positions qpos (nq,).

        Args:
            lines: text in the corner, the first one large.
            placed: name → (7,) position and quaternion wxyz of bodies without joints, see `env.placed`; the goal gets
                three axes.
        """
        mj, placed = self._mj, placed or {}
        place(self.model, placed)
        self._data.qpos[:] = np.asarray(qpos, dtype=float)
        mj.mj_kinematics(self.model, self._data)
        mj.mj_comPos(self.model, self._data)
        mj.mj_camlight(self.model, self._data)
        if self._follow is not None:
            self.camera.lookat[:] = self._data.xpos[self._follow]
        self._screen.look(self._data, self.camera)
        if GOAL in placed:
            self._axes(np.asarray(placed[GOAL], dtype=float))
        picture = self._screen.picture()
        half = picture[: len(self._sky)]
        empty = ~half.any(axis=2)
        half[empty] = np.broadcast_to(self._sky[:, None], half.shape)[empty]
        return with_text(picture, lines) if lines else picture

    def close(self) -> None:
        """Free the graphics memory; calling it again does nothing."""
        self._screen.close()

    def __enter__(self) -> SceneRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _frame_scene(self, distance: float | None) -> None:
        """Look at the robot in its first pose: its centre, from so far away that all of it is in the picture."""
        mj, model = self._mj, self.model
        mj.mj_forward(model, self._data)
        solid = (model.geom_group < 3) & (model.geom_type != mj.mjtGeom.mjGEOM_PLANE)
        solid &= model.geom_type != mj.mjtGeom.mjGEOM_HFIELD
        if self._follow is not None:
            solid &= model.body_rootid[model.geom_bodyid] == model.body_rootid[self._follow]
        places, reach = self._data.geom_xpos[solid], model.geom_rbound[solid][:, None]
        low, high = (places - reach).min(axis=0), (places + reach).max(axis=0)
        self.camera.lookat[:] = 0.5 * (low + high)
        span = float(np.linalg.norm(high - low))
        self.camera.distance = distance or 1.35 * span

    def _axes(self, pose: NDArray[np.float64]) -> None:
        """Three coloured rods of a pose, added to the scene."""
        mj, rotation = self._mj, np.zeros(9)
        mj.mju_quat2Mat(rotation, pose[3:7])
        for i, colour in enumerate(_AXES):
            if self._scene.ngeom >= self._scene.maxgeom:
                return
            geom = self._scene.geoms[self._scene.ngeom]
            mj.mjv_initGeom(geom, mj.mjtGeom.mjGEOM_CAPSULE, np.zeros(3), np.zeros(3), np.zeros(9), colour)
            end = pose[:3] + 0.06 * rotation.reshape(3, 3)[:, i]
            mj.mjv_connector(geom, mj.mjtGeom.mjGEOM_CAPSULE, 0.005, pose[:3], end)
            self._scene.ngeom += 1


def with_text(picture: Image, lines: Sequence[str]) -> Image:
    """The picture with lines of text in its upper left corner, legible on any ground."""
    cv = _opencv()
    for row, text in enumerate(lines):
        size = 0.6 if row == 0 else 0.48
        for colour, shift in ((_EDGE, 1), (_TEXT, 0)):
            place = (14 + shift, 28 + 20 * row + shift)
            cv.putText(picture, text, place, cv.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv.LINE_AA)
    return picture


def contact_sheet(pictures: Sequence[Image], columns: int = 4) -> Image:
    """Pictures of one size side by side, row after row; gaps at the end stay white."""
    if not pictures:
        raise ConfigError("a contact sheet needs at least one picture")
    rows = -(-len(pictures) // columns)
    height, width = pictures[0].shape[:2]
    sheet = np.full((rows * height, columns * width, 3), 255, dtype=np.uint8)
    for i, picture in enumerate(pictures):
        top, left = (i // columns) * height, (i % columns) * width
        sheet[top : top + height, left : left + width] = picture
    return sheet


def write_png(picture: Image, path: Path) -> Path:
    """Raises ConfigError where the file cannot be written."""
    cv = _opencv()
    if not cv.imwrite(str(path), cv.cvtColor(picture, cv.COLOR_RGB2BGR)):
        raise ConfigError(f"picture '{path}' cannot be written")
    return path


def write_film(pictures: Iterable[Image], path: Path, fps: int = FPS, size: tuple[int, int] = SIZE) -> Path:
    """An mp4 (H.264), complete or not there at all.

    Raises:
        ConfigError: odd size, impossible rate, or the folder cannot be written to.
        MissingDependency: imageio-ffmpeg is absent.
    """
    if not 1 <= fps <= 240 or size[0] % 2 or size[1] % 2:
        raise ConfigError(f"film at {fps} pictures/s of {size} pixels; allowed: 1 to 240, both sides even")
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise MissingDependency("imageio-ffmpeg", "writing films", "pip install 'robot-rl[train]'") from error
    aside = path.with_name(f".{path.stem}.part.mp4")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = imageio_ffmpeg.write_frames(
            str(aside), size, fps=fps, macro_block_size=2, codec="libx264", quality=6, output_params=_ENCODER
        )
        writer.send(None)
        for picture in pictures:
            writer.send(np.ascontiguousarray(picture))
        writer.close()
        aside.replace(path)
    except OSError as error:
        raise ConfigError(f"film '{path}' cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
    return path


def _for_drawing(model: mujoco.MjModel) -> Any:
    import mujoco

    own = copy.copy(model)
    own.vis.quality.shadowsize = own.vis.quality.offsamples = 0
    own.vis.headlight.ambient[:], own.vis.headlight.diffuse[:] = 0.45, 0.4
    own.vis.headlight.specular[:] = 0.1
    own.light_type[:] = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    return own


def _body(model: mujoco.MjModel, name: str) -> int:
    try:
        return int(model.body(name).id)
    except KeyError:
        names = ", ".join(model.body(i).name for i in range(model.nbody))
        raise ConfigError(f"the scene has no body '{name}'; it has {names}") from None


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependency("OpenCV", "pictures", "pip install 'robot-rl[train]'") from error
    return cv2
