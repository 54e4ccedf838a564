"""Pictures of the scene as policies see it, with the settings that are fast in software, and varied looks."""

# mujoco comes without stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.signals import Signal
from robot_rl.sim.articulated.offscreen import Offscreen
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
        signals: the pictures, as a policy's contract names them; empty without.
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
        shape = (options.size, options.size, 3)
        self.signals = tuple(Signal(f"image_{name}", shape) for name in options.names) if options.size else ()
        self._nominal = model
        self._screen: Offscreen | None = None

    def pictures(self, qpos: Tensor, fixture_pos: Tensor, fixture_quat: Tensor, looks: Tensor) -> dict[str, Tensor]:
        """`image_<camera>` → (N, size, size, 3) uint8 RGB on the CPU.

        Args:
            qpos: (N, nq). fixture_pos: (N, 3), fixture_quat: (N, 4). looks: (N, look_dim).
        """
        import mujoco

        if self._screen is None:
            self._open()
        rows = [x.detach().cpu().numpy() for x in (qpos, fixture_pos, fixture_quat, looks)]
        size, names = self.options.size, self.options.names
        out = {f"image_{name}": np.empty((len(qpos), size, size, 3), np.uint8) for name in names}
        for i, (q, pos, quat, look) in enumerate(zip(*rows, strict=True)):
            self._dress(pos, quat, look)
            self._data.qpos[:] = q
            mujoco.mj_kinematics(self._model, self._data)
            mujoco.mj_camlight(self._model, self._data)
            for name, view in zip(names, self._views, strict=True):
                out[f"image_{name}"][i] = self._shot(view)
        return {name: torch.from_numpy(image) for name, image in out.items()}

    def _open(self) -> None:
        import copy

        import mujoco

        self._model = model = copy.copy(self._nominal)
        quality, size = model.vis.quality, self.options.size
        quality.shadowsize, quality.offsamples = 0, 0
        quality.numslices, quality.numstacks, quality.numquads = 16, 8, 2  # time goes per vertex
        self._data = mujoco.MjData(model)
        self._screen = Offscreen(model, (size, size))
        self._painted = [g for g in range(model.ngeom) if model.geom(g).name == OBJECT]
        self._fixture = [b for b in range(model.nbody) if model.body(b).name == FIXTURE]
        self._views = []
        for name in self.options.names:
            view = mujoco.MjvCamera()
            view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera(name).id
            self._views.append(view)
        mujoco.mj_forward(model, self._data)
        self._shot(self._views[0])  # the first picture of a context differs by a rounding from all later ones

    def _shot(self, view: Any) -> NDArray[np.uint8]:
        assert self._screen is not None
        self._screen.look(self._data, view)
        return self._screen.picture()

    def _dress(self, pos: NDArray[np.floating], quat: NDArray[np.floating], look: NDArray[np.floating]) -> None:
        """Fixture, cameras, lamp and colours of one simulation."""
        model, nominal, o = self._model, self._nominal, self.options
        for body in self._fixture:
            model.body_pos[body], model.body_quat[body] = pos, quat
        for k, view in enumerate(self._views):
            camera = view.fixedcamid
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
