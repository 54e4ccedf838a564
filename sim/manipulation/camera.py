"""Pictures of the scene by MuJoCo's renderer, with the settings that are fast in software, and varied looks.

Shadows, reflections, anti-aliasing, sky and haze are off. `MUJOCO_GL` chooses the library (`egl` or `osmesa`; EGL is
faster); where it is not set and there is no display, EGL is taken.
"""

# mujoco comes without stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.sim.manipulation.options import CameraOptions
from robot_rl.sim.manipulation.scenes import FIXTURE, OBJECT

if TYPE_CHECKING:
    import mujoco

_PER_CAMERA, _LIGHT, _COLOUR = 6, 4, 3  # numbers in a look: place and angles; brightness and place of the lamp; rgb


class Cameras:
    """Renders simulations one after the other from a private copy of the model.

    A *look* is a row of numbers in [−1, 1] that says how much of each range of `CameraOptions` a simulation has.

    Attributes:
        look_dim: numbers in a look; 0 without pictures.
    """

    def __init__(self, options: CameraOptions, model: mujoco.MjModel) -> None:
        """Raises:
        ConfigError: the scene has no such camera.
        """
        self.options = options
        known = [model.camera(i).name for i in range(model.ncam)]
        wrong = [name for name in options.names if name not in known]
        if options.size > 0 and wrong:
            raise ConfigError(f"camera.names = {options.names}: no camera {wrong}; the scene has {known}")
        self.look_dim = 0 if options.size == 0 else _PER_CAMERA * len(options.names) + _LIGHT + _COLOUR
        self._nominal, self._renderer = model, None

    def pictures(self, qpos: Tensor, fixture_pos: Tensor, fixture_quat: Tensor, looks: Tensor) -> dict[str, Tensor]:
        """`image_<camera>` → (N, size, size, 3) uint8 RGB on the CPU.

        Args:
            qpos: (N, nq). fixture_pos: (N, 3), fixture_quat: (N, 4). looks: (N, look_dim).
        """
        import mujoco

        if self._renderer is None:
            self._open()
        rows = [x.detach().cpu().numpy() for x in (qpos, fixture_pos, fixture_quat, looks)]
        size, names = self.options.size, self.options.names
        out = {f"image_{name}": np.empty((len(qpos), size, size, 3), np.uint8) for name in names}
        for i, (q, pos, quat, look) in enumerate(zip(*rows, strict=True)):
            self._dress(pos, quat, look)
            self._data.qpos[:] = q
            mujoco.mj_kinematics(self._model, self._data)
            mujoco.mj_camlight(self._model, self._data)
            for name, camera in zip(names, self._ids, strict=True):
                out[f"image_{name}"][i] = self._shot(camera)
        return {name: torch.from_numpy(image) for name, image in out.items()}

    def _open(self) -> None:
        if "DISPLAY" not in os.environ:
            os.environ.setdefault("MUJOCO_GL", "egl")
        import copy

        import mujoco

        self._model = model = copy.copy(self._nominal)
        quality, size = model.vis.quality, self.options.size
        quality.shadowsize, quality.offsamples = 0, 0
        quality.numslices, quality.numstacks, quality.numquads = 16, 8, 2  # time goes per vertex
        model.vis.global_.offwidth = model.vis.global_.offheight = size
        self._data = mujoco.MjData(model)
        self._renderer = mujoco.Renderer(model, size, size)
        flags = self._renderer.scene.flags
        for flag in ("SHADOW", "REFLECTION", "SKYBOX", "HAZE"):
            flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = 0
        self._flags = np.array(flags)
        self._painted = [g for g in range(model.ngeom) if model.geom(g).name == OBJECT]
        self._fixture = [b for b in range(model.nbody) if model.body(b).name == FIXTURE]
        self._ids = [model.camera(name).id for name in self.options.names]
        mujoco.mj_forward(model, self._data)
        self._shot(self._ids[0])  # the first picture of a context differs by a rounding from all later ones

    def _shot(self, camera: int) -> NDArray[np.uint8]:
        renderer: Any = self._renderer
        renderer.update_scene(self._data, camera=camera)
        renderer.scene.flags[:] = self._flags
        return renderer.render()

    def _dress(self, pos: NDArray[np.floating], quat: NDArray[np.floating], look: NDArray[np.floating]) -> None:
        """Fixture, cameras, lamp and colours of one simulation."""
        model, nominal, o = self._model, self._nominal, self.options
        for body in self._fixture:
            model.body_pos[body], model.body_quat[body] = pos, quat
        for k, camera in enumerate(self._ids):
            part = look[_PER_CAMERA * k :][:_PER_CAMERA]
            model.cam_pos[camera] = nominal.cam_pos[camera] + o.pos * part[:3]
            model.cam_quat[camera] = _turned(nominal.cam_quat[camera], o.angle * part[3:])
        lamp, paint = look[-_LIGHT - _COLOUR : -_COLOUR], look[-_COLOUR:]
        low, high = o.light
        factor = 0.5 * (low + high) + 0.5 * (high - low) * lamp[0]
        model.light_diffuse[:] = np.clip(factor * nominal.light_diffuse, 0.0, 1.0)
        model.light_ambient[:] = np.clip(factor * nominal.light_ambient, 0.0, 1.0)
        model.light_pos[:] = nominal.light_pos + o.light_pos * lamp[1:]
        for geom in self._painted:
            model.geom_rgba[geom, :3] = np.clip(nominal.geom_rgba[geom, :3] + o.colour * paint, 0.0, 1.0)


def _turned(quat: NDArray[np.floating], angle: NDArray[np.floating]) -> NDArray[np.floating]:
    """quat ⊗ a small rotation vector, rad."""
    import mujoco

    small = np.array([1.0, *(0.5 * angle)])
    out = np.empty(4)
    mujoco.mju_mulQuat(out, quat, small / np.linalg.norm(small))
    return out
