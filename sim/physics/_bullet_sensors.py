"""Readings of a model's sensors for states that PyBullet computed.

MuJoCo's own sensor functions run on an `MjData` that is given Bullet's positions and velocities, and for sensors of
force and acceleration also Bullet's accelerations and contact forces. Only sensors that look at single contacts are
evaluated here.
"""
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from robot_rl.errors import ConfigError

_SENSOR, _OBJECT, _GEOM = mujoco.mjtSensor, mujoco.mjtObj, mujoco.mjtGeom
_FOUND, _FORCE = 1 << int(mujoco.mjtConDataField.mjCONDATA_FOUND), 1 << int(mujoco.mjtConDataField.mjCONDATA_FORCE)
_NET_FORCE = 3
"""`reduce="netforce"` in a contact sensor's second parameter."""


@dataclass(frozen=True)
class Touch:
    """One contact point between two geoms: `force` (3,) N in the world frame on the second; normal part in N."""

    geoms: tuple[int, int]
    bodies: tuple[int, int]
    position: np.ndarray
    force: np.ndarray
    normal: float


def check_sensors(model: mujoco.MjModel) -> None:
    """Raises ConfigError that names contact sensors with parts that are not computed from Bullet's contacts."""
    for i in np.flatnonzero(model.sensor_type == _SENSOR.mjSENS_CONTACT):
        data, reduction = (int(x) for x in model.sensor_intprm[i, :2])
        objects = {int(model.sensor_objtype[i]), int(model.sensor_reftype[i])}
        known = {int(_OBJECT.mjOBJ_GEOM), int(_OBJECT.mjOBJ_BODY), int(_OBJECT.mjOBJ_UNKNOWN)}
        simple = data == _FOUND or (reduction == _NET_FORCE and not data & ~(_FOUND | _FORCE))
        if not simple or not objects <= known:
            raise ConfigError(
                f"physics 'pybullet' cannot compute contact sensor '{model.sensor(i).name}': it knows data='found', "
                "and data='force' with reduce='netforce', for geoms and bodies; choose 'mujoco' for this model"
            )


def evaluate(model: mujoco.MjModel, data: mujoco.MjData, touches: Sequence[Touch]) -> None:
    """Fill `data.sensordata` from qpos, qvel, ctrl, qacc and xfrc_applied of `data` and from the contacts.

    The position and velocity stages of `data` must have run.
    """
    mujoco.mj_sensorPos(model, data)
    mujoco.mj_subtreeVel(model, data)  # these two are not repeated by the sensors where MuJoCo thinks them current
    mujoco.mj_sensorVel(model, data)
    mujoco.mj_rnePostConstraint(model, data)
    mujoco.mj_sensorAcc(model, data)
    for i in range(model.nsensor):
        kind, address = int(model.sensor_type[i]), int(model.sensor_adr[i])
        if kind == _SENSOR.mjSENS_TOUCH:
            data.sensordata[address] = _touch(model, data, int(model.sensor_objid[i]), touches)
        elif kind == _SENSOR.mjSENS_CONTACT:
            size = int(model.sensor_dim[i])
            data.sensordata[address : address + size] = _contact(model, i, size, touches)


def _touch(model: mujoco.MjModel, data: mujoco.MjData, site: int, touches: Sequence[Touch]) -> float:
    """Sum of normal forces on the site's body within the site's volume."""
    body, total = int(model.site_bodyid[site]), 0.0
    for touch in touches:
        if body in touch.bodies:
            local = data.site_xmat[site].reshape(3, 3).T @ (touch.position - data.site_xpos[site])
            if distance(int(model.site_type[site]), model.site_size[site], local) <= 0.0:
                total += touch.normal
    return total


def _contact(model: mujoco.MjModel, sensor: int, size: int, touches: Sequence[Touch]) -> np.ndarray:
    first = (int(model.sensor_objtype[sensor]), int(model.sensor_objid[sensor]))
    second = (int(model.sensor_reftype[sensor]), int(model.sensor_refid[sensor]))
    found, force = 0, np.zeros(3)
    for touch in touches:
        for sign, (a, b) in ((1.0, (0, 1)), (-1.0, (1, 0))):
            if _is(first, touch, a) and _is(second, touch, b):
                found, force = found + 1, force + sign * touch.force
                break
    data = int(model.sensor_intprm[sensor, 0])
    values = ([float(found)] if data & _FOUND else []) + (force.tolist() if data & _FORCE else [])
    return np.resize(np.array(values), size) if len(values) >= size else np.pad(values, (0, size - len(values)))


def _is(wanted: tuple[int, int], touch: Touch, side: int) -> bool:
    kind, number = wanted
    if kind == _OBJECT.mjOBJ_UNKNOWN or number < 0:
        return True
    return (touch.geoms if kind == _OBJECT.mjOBJ_GEOM else touch.bodies)[side] == number


def nearest_geom(model: mujoco.MjModel, data: mujoco.MjData, geoms: Sequence[int], point: np.ndarray) -> int:
    """Which of a body's geoms a contact point belongs to."""

    def away(geom: int) -> float:
        local = data.geom_xmat[geom].reshape(3, 3).T @ (point - data.geom_xpos[geom])
        return distance(int(model.geom_type[geom]), model.geom_size[geom], local)

    return geoms[0] if len(geoms) == 1 else min(geoms, key=away)


def distance(kind: int, size: np.ndarray, p: np.ndarray) -> float:
    """Signed distance, m, of a point in the frame of a primitive shape (mjtGeom) from its surface; inside negative."""
    if kind == _GEOM.mjGEOM_PLANE:
        return float(p[2])
    if kind == _GEOM.mjGEOM_SPHERE:
        return float(np.linalg.norm(p) - size[0])
    if kind == _GEOM.mjGEOM_CAPSULE:
        return float(np.linalg.norm(p - [0.0, 0.0, np.clip(p[2], -size[1], size[1])]) - size[0])
    if kind == _GEOM.mjGEOM_CYLINDER:
        beyond = np.array([np.hypot(p[0], p[1]) - size[0], abs(p[2]) - size[1]])
    elif kind == _GEOM.mjGEOM_ELLIPSOID:
        return float((np.linalg.norm(p / size) - 1.0) * size.min())
    else:
        beyond = np.abs(p) - size
    return float(np.linalg.norm(np.maximum(beyond, 0.0)) + min(beyond.max(), 0.0))
