"""Drawing by MuJoCo without a screen: one OpenGL context, the same for every kind of picture.

`MUJOCO_GL` chooses the library (`egl` or `osmesa`; EGL is faster); where it is not set, what is installed is taken,
even if MuJoCo was imported before.
"""

# mujoco comes without stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import ctypes.util
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import MissingDependency

if TYPE_CHECKING:
    import mujoco

Image = NDArray[np.uint8]

PACKAGES = {"egl": "apt-get install libegl1 libgl1-mesa-dri", "osmesa": "apt-get install libosmesa6"}
_LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
_COSTLY = ("SHADOW", "REFLECTION", "SKYBOX", "HAZE")


class Offscreen:
    """Pictures of one model, without shadows, reflections, sky and haze, which cost most in software.

    Args:
        model: what is drawn; whatever changes in it shows in the next picture. size: width and height in pixels.

    Raises:
        MissingDependency: no OpenGL without a screen; names the Debian package.

    Attributes:
        scene: the `MjvScene` of the last picture.
    """

    def __init__(self, model: mujoco.MjModel, size: tuple[int, int]) -> None:
        import mujoco

        model.vis.global_.offwidth, model.vis.global_.offheight = size
        self._mj, self.model, self.size = mujoco, model, size
        self._context: Any = _gl_context(size)
        self.scene = mujoco.MjvScene(model, maxgeom=4000)
        for name in _COSTLY:
            self.scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{name}")] = 0
        self._options, self._rect = mujoco.MjvOption(), mujoco.MjrRect(0, 0, *size)
        self._context.make_current()
        self._drawing = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._drawing)

    def look(self, data: mujoco.MjData, camera: mujoco.MjvCamera) -> None:
        """Put the scene together as the camera sees it; geoms may be added to `scene` before `picture`."""
        mj = self._mj
        mj.mjv_updateScene(self.model, data, self._options, None, camera, mj.mjtCatBit.mjCAT_ALL.value, self.scene)

    def picture(self) -> Image:
        """(height, width, 3) uint8 RGB of the scene."""
        self._context.make_current()
        self._mj.mjr_render(self._rect, self.scene, self._drawing)
        picture = np.empty((self.size[1], self.size[0], 3), dtype=np.uint8)
        self._mj.mjr_readPixels(picture, None, self._rect, self._drawing)
        return np.ascontiguousarray(picture[::-1])

    def close(self) -> None:
        """Free the graphics memory; calling it again does nothing."""
        if self._context is not None:
            self._context.make_current()
            self._drawing.free()
            self._context.free()
            self._context = None

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be ending
            self.close()


def gl_backend() -> str:
    """`egl` or `osmesa`: what `MUJOCO_GL` says, else what is installed.

    Raises:
        MissingDependency: neither library is there; names the Debian packages.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower().strip()
    if wanted in _LIBRARIES:
        return wanted
    for name, library in _LIBRARIES.items():
        if ctypes.util.find_library(library):
            return name
    raise MissingDependency("OpenGL without a screen (EGL or OSMesa)", "drawing pictures", PACKAGES["egl"])


def _gl_context(size: tuple[int, int]) -> Any:
    name = gl_backend()
    try:
        if name == "egl":
            from mujoco.egl import GLContext
        else:
            from mujoco.osmesa import GLContext
        return GLContext(*size)
    except Exception as error:  # what OpenGL's loaders raise shares no base class
        raise MissingDependency(
            f"OpenGL through {name.upper()} ({error})", "drawing pictures", PACKAGES[name]
        ) from error
