"""The shapes of a scene as triangles, and where its bodies are: what viewers without MuJoCo's own drawing need."""

# mujoco comes without stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_rl.sim.articulated.scene import place

if TYPE_CHECKING:
    import mujoco

Floats = NDArray[np.float64]
Faces = NDArray[np.int64]

ROUND = 20  # corners of a circle
_HIDDEN_GROUPS = 3  # geoms of this group and above are collision shapes


@dataclass(frozen=True)
class Shape:
    """One geom fixed to a body: (V, 3) corners in m and (F, 3) triangles in its own frame, which is at pos, quat.

    `colour` is RGB 0 to 255; `flat` says that its faces meet at edges.
    """

    body: int
    name: str
    corners: Floats
    triangles: Faces
    colour: tuple[int, int, int]
    opacity: float
    pos: Floats
    quat: Floats
    flat: bool


def drawn_shapes(model: mujoco.MjModel) -> list[Shape]:
    """All shapes meant to be seen; endless planes are left out (draw a grid)."""
    import mujoco

    found = []
    for i in range(model.ngeom):
        if model.geom_group[i] >= _HIDDEN_GROUPS or _colour(model, i)[3] == 0:
            continue
        made = _triangles(model, i, mujoco.mjtGeom)
        if made is None:
            continue
        r, g, b, opacity = _colour(model, i)
        flat = model.geom_type[i] in (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_HFIELD)
        colour = (round(255 * r), round(255 * g), round(255 * b))
        pos, quat = np.array(model.geom_pos[i]), np.array(model.geom_quat[i])
        found.append(Shape(int(model.geom_bodyid[i]), f"geom{i}", *made, colour, opacity, pos, quat, bool(flat)))
    return found


class BodyPoses:
    """Where the bodies of a scene are for given positions."""

    def __init__(self, model: mujoco.MjModel) -> None:
        import mujoco

        self._mj, self.model, self._data = mujoco, copy.copy(model), mujoco.MjData(model)

    def at(self, qpos: ArrayLike, placed: Mapping[str, ArrayLike]) -> tuple[Floats, Floats]:
        """(nbody, 3) m and (nbody, 4) wxyz in the world at positions qpos (nq,); `placed`: see `env.placed`."""
        place(self.model, placed)
        self._data.qpos[:] = np.asarray(qpos, dtype=float)
        self._mj.mj_kinematics(self.model, self._data)
        return self._data.xpos.copy(), self._data.xquat.copy()


def ellipsoid(half: ArrayLike) -> tuple[Floats, Faces]:
    """Corners and triangles of an ellipsoid with half axes (3,)."""
    angle = np.linspace(0.0, np.pi, ROUND // 2 + 1)
    corners, triangles = _revolved(np.stack([np.sin(angle), -np.cos(angle)], axis=1))
    return corners * np.asarray(half), triangles


def capsule(radius: float, half_length: float) -> tuple[Floats, Faces]:
    """A capsule along z; `half_length` is that of its cylinder."""
    angle = np.linspace(0.0, 0.5 * np.pi, ROUND // 4 + 1)
    cap = radius * np.stack([np.sin(angle), np.cos(angle)], axis=1) + [0.0, half_length]
    return _revolved(np.concatenate([cap * [1.0, -1.0], cap[::-1]]))


def cylinder(radius: float, half_length: float) -> tuple[Floats, Faces]:
    """A closed cylinder along z; its rims are double, so that they look sharp."""
    rim = [(0.0, -1.0), (radius, -1.0), (radius, -1.0), (radius, 1.0), (radius, 1.0), (0.0, 1.0)]
    return _revolved(np.array(rim) * [1.0, half_length])


def box(half: ArrayLike) -> tuple[Floats, Faces]:
    """A box with half sides (3,)."""
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = [t for a, b, c, d in sides for t in ((a, b, c), (a, c, d))]
    return signs * np.asarray(half), np.array(triangles)


def _revolved(profile: Floats) -> tuple[Floats, Faces]:
    """The surface of a profile (K, 2) of radius and height, upwards, turned about z; outside is outside."""
    angle = np.linspace(0.0, 2 * np.pi, ROUND, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    corners = np.concatenate([np.c_[r * ring, np.full(ROUND, z)] for r, z in profile])
    return corners, _woven(len(profile), ROUND, closed=True)


def _woven(rows: int, columns: int, closed: bool) -> Faces:
    """Two triangles for each cell of a grid of corners, row after row."""
    last = columns if closed else columns - 1
    i, j = (a.ravel() for a in np.meshgrid(np.arange(rows - 1), np.arange(last), indexing="ij"))
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, b, d], axis=1), np.stack([a, d, c], axis=1)])


def _triangles(model: mujoco.MjModel, i: int, kinds: Any) -> tuple[Floats, Faces] | None:
    kind, size = model.geom_type[i], model.geom_size[i]
    if kind == kinds.mjGEOM_BOX:
        return box(size)
    if kind == kinds.mjGEOM_SPHERE:
        return ellipsoid((size[0],) * 3)
    if kind == kinds.mjGEOM_ELLIPSOID:
        return ellipsoid(size)
    if kind == kinds.mjGEOM_CAPSULE:
        return capsule(float(size[0]), float(size[1]))
    if kind == kinds.mjGEOM_CYLINDER:
        return cylinder(float(size[0]), float(size[1]))
    if kind == kinds.mjGEOM_MESH:
        return _mesh(model, int(model.geom_dataid[i]))
    return _height_field(model, int(model.geom_dataid[i])) if kind == kinds.mjGEOM_HFIELD else None


def _mesh(model: mujoco.MjModel, k: int) -> tuple[Floats, Faces]:
    corner, face = int(model.mesh_vertadr[k]), int(model.mesh_faceadr[k])
    corners = model.mesh_vert[corner : corner + int(model.mesh_vertnum[k])]
    return np.array(corners, dtype=float), np.array(model.mesh_face[face : face + int(model.mesh_facenum[k])])


def _height_field(model: mujoco.MjModel, k: int) -> tuple[Floats, Faces]:
    rows, columns, start = int(model.hfield_nrow[k]), int(model.hfield_ncol[k]), int(model.hfield_adr[k])
    half_x, half_y, top, _ = model.hfield_size[k]
    y, x = np.meshgrid(np.linspace(-half_y, half_y, rows), np.linspace(-half_x, half_x, columns), indexing="ij")
    z = top * np.array(model.hfield_data[start : start + rows * columns])
    return np.stack([x.ravel(), y.ravel(), z], axis=1), _woven(rows, columns, closed=False)


def _colour(model: mujoco.MjModel, i: int) -> Any:
    material = int(model.geom_matid[i])
    own = model.geom_rgba[i]
    # MuJoCo's rule: the material counts where the geom has the default grey.
    return model.mat_rgba[material] if material >= 0 and np.allclose(own, (0.5, 0.5, 0.5, 1.0)) else own
