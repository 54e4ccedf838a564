"""Builds in PyBullet what a compiled MuJoCo model describes, as far as PyBullet can.

Trees of moving bodies become Bullet multibodies: a tree with a free joint has its first body as base, a tree that
hangs on the world gets a massless fixed base. A link's frame is its body's, moved to the joint's anchor; inertial
frames are MuJoCo's, so masses, inertias and joint positions are those of the model.
"""
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.sim.physics._bullet_surfaces import (
    Shape,
    Surface,
    collides,
    geoms_of,
    is_free,
    may_touch,
    moves,
    surfaces,
)

_GEOM, _JOINT = mujoco.mjtGeom, mujoco.mjtJoint
_FIRM = 1e9  # N m that a gear between joint and rotor may transmit
_HARD = 1e-15  # m/N, of a shape that leaves the softness to those it touches
_SHAPES = (_GEOM.mjGEOM_PLANE, _GEOM.mjGEOM_SPHERE, _GEOM.mjGEOM_CAPSULE, _GEOM.mjGEOM_CYLINDER, _GEOM.mjGEOM_BOX)


@dataclass(frozen=True)
class Link:
    """One moving MuJoCo body in Bullet: multibody `unique`, link `index` (−1: its base), joint `joint` (−1: welded)."""

    body: int
    unique: int
    index: int
    joint: int


@dataclass(frozen=True)
class Rotor:
    """A wheel, link 0 of multibody `unique`, geared to the joint of degree of freedom `dof`.

    It turns as fast (rad/s, or m/s for a slide) and has the inertia (kg m², kg) that Bullet's joints lack.
    """

    dof: int
    unique: int


def check_supported(model: mujoco.MjModel) -> None:
    """Raises ConfigError that names everything in the model that PyBullet, or this conversion, cannot do."""
    moving = model.body_weldid != 0
    colliding = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    shapes = {_GEOM(int(t)).name for t in model.geom_type[colliding] if int(t) not in [int(s) for s in _SHAPES]}
    free = model.jnt_type[model.dof_jntid] == _JOINT.mjJNT_FREE
    trouble = {
        "height fields": model.nhfield > 0,
        "tendons": model.ntendon > 0,
        "equality constraints": model.neq > 0,
        "mocap bodies": model.nmocap > 0,
        "flexible bodies": model.nflex > 0,
        "actuators with activation": model.na > 0,
        "contact pairs (<pair>)": model.npair > 0,
        f"collision shapes {', '.join(sorted(shapes))}": bool(shapes),
        "armature or friction loss of free joints": bool((model.dof_armature + model.dof_frictionloss)[free].any()),
        "ball joints": bool((model.jnt_type == _JOINT.mjJNT_BALL).any()),
        "bodies with several joints": bool((model.body_jntnum > 1).any()),
        "actuators on something other than a joint": bool((model.actuator_trntype != mujoco.mjtTrn.mjTRN_JOINT).any()),
        "moving planes": bool((moving[model.geom_bodyid] & colliding & (model.geom_type == _GEOM.mjGEOM_PLANE)).any()),
    }
    found = [name for name, there in trouble.items() if there]
    if found:
        raise ConfigError(f"physics 'pybullet' has no {'; no '.join(found)}; choose 'mujoco' for this model")


def build(client: Any, model: mujoco.MjModel, data: mujoco.MjData) -> tuple[list[Link], list[Rotor]]:
    """Fill the empty world of `client`; `data` must be forwarded at `model.qpos0`.

    Returns:
        The moving bodies, parents before children, and the rotors of their joints.
    """
    client.setGravity(*model.opt.gravity)
    client.setPhysicsEngineParameter(
        fixedTimeStep=float(model.opt.timestep), numSolverIterations=400, numSubSteps=0, solverResidualThreshold=0.0,
        deterministicOverlappingPairs=1, enableConeFriction=1, restitutionVelocityThreshold=10.0,
    )  # fmt: skip
    skins = surfaces(model)
    members = [(-1, geom, body) for geom, body in _statics(client, model, data, skins)]
    links: list[Link] = []
    for body in range(1, model.nbody):
        if model.body_weldid[body] != 0 and model.body_weldid[model.body_parentid[body]] == 0:
            links += _tree(client, model, data, body)
    for link in links:
        _dynamics(client, model, link, skins.get((link.body, -1), Surface()))
    _collisions(client, model, links, members)
    return links, [_rotor(client, model, link) for link in links if _has_rotor(model, link)]


def _statics(
    client: Any, model: mujoco.MjModel, data: mujoco.MjData, skins: Mapping[Shape, Surface]
) -> list[tuple[int, int]]:
    """(geom, unique) of every immovable colliding geom."""
    made: list[tuple[int, int]] = []
    for geom in range(model.ngeom):
        if not moves(model, geom) and collides(model, geom):
            quat = np.zeros(4)
            mujoco.mju_mat2Quat(quat, data.geom_xmat[geom])
            shape = client.createCollisionShape(**_shape(client, model, geom))
            unique = client.createMultiBody(0.0, shape, -1, data.geom_xpos[geom].tolist(), _xyzw(quat))
            client.changeDynamics(unique, -1, **_material(skins[(0, geom)]))
            made.append((geom, unique))
    return made


def _tree(client: Any, model: mujoco.MjModel, data: mujoco.MjData, root: int) -> list[Link]:
    bodies = [b for b in range(root, model.nbody) if _below(model, b, root)]
    free = is_free(model, root)
    parent = int(model.body_parentid[root])
    base: dict[str, Any] = {
        "baseMass": 0.0, "basePosition": data.xpos[parent].tolist(), "baseOrientation": _xyzw(data.xquat[parent]),
    }  # fmt: skip
    if free:
        base = {
            "baseMass": float(model.body_mass[root]),
            "baseCollisionShapeIndex": _compound(client, model, root, np.zeros(3)),
            "basePosition": data.xpos[root].tolist(), "baseOrientation": _xyzw(data.xquat[root]),
            "baseInertialFramePosition": model.body_ipos[root].tolist(),
            "baseInertialFrameOrientation": _xyzw(model.body_iquat[root]),
        }  # fmt: skip
    rest = bodies[1:] if free else bodies
    index = {body: i for i, body in enumerate(rest)}
    kinds, axes = zip(*(_joint_kind(client, model, b) for b in rest), strict=True) if rest else ((), ())
    unique = client.createMultiBody(
        **base,
        linkMasses=[float(model.body_mass[b]) for b in rest],
        linkCollisionShapeIndices=[_compound(client, model, b, _anchor(model, b)) for b in rest],
        linkVisualShapeIndices=[-1] * len(rest),
        linkPositions=[_place(model, b, root if free else -1) for b in rest],
        linkOrientations=[_xyzw(model.body_quat[b]) for b in rest],
        linkInertialFramePositions=[(model.body_ipos[b] - _anchor(model, b)).tolist() for b in rest],
        linkInertialFrameOrientations=[_xyzw(model.body_iquat[b]) for b in rest],
        linkParentIndices=[index.get(int(model.body_parentid[b]), -1) + 1 for b in rest],
        linkJointTypes=list(kinds),
        linkJointAxis=list(axes),
        flags=client.URDF_USE_SELF_COLLISION | client.URDF_USE_SELF_COLLISION_INCLUDE_PARENT,
    )
    _undamped(client, unique)
    own = [Link(root, unique, -1, _joint(model, root))] if free else []
    return own + [Link(b, unique, index[b], _joint(model, b)) for b in rest]


def _undamped(client: Any, unique: int) -> None:
    """Properties of a whole multibody; in one call with a link's they would make Bullet ignore the link's."""
    client.changeDynamics(unique, -1, linearDamping=0.0, angularDamping=0.0)
    client.changeDynamics(unique, -1, maxJointVelocity=1e6)
    client.changeDynamics(unique, -1, activationState=client.ACTIVATION_STATE_DISABLE_SLEEPING)


def _place(model: mujoco.MjModel, body: int, base: int) -> list[float]:
    """Position of the link's frame in its parent's."""
    rotated, parent = np.zeros(3), int(model.body_parentid[body])
    mujoco.mju_rotVecQuat(rotated, _anchor(model, body), model.body_quat[body])
    shift = np.zeros(3) if parent == base or model.body_weldid[parent] == 0 else _anchor(model, parent)
    return (model.body_pos[body] + rotated - shift).tolist()


def _dynamics(client: Any, model: mujoco.MjModel, link: Link, skin: Surface) -> None:
    client.changeDynamics(
        link.unique, link.index, mass=float(model.body_mass[link.body]),
        localInertiaDiagonal=model.body_inertia[link.body].tolist(), jointDamping=0.0, **_material(skin),
    )  # fmt: skip
    if link.index < 0 or link.joint < 0:
        return
    reference = float(model.qpos0[model.jnt_qposadr[link.joint]])
    if model.jnt_limited[link.joint]:
        low, high = (float(x) - reference for x in model.jnt_range[link.joint])
        client.changeDynamics(link.unique, link.index, jointLowerLimit=low, jointUpperLimit=high)
    # Switches Bullet's default motor off.
    client.setJointMotorControl2(link.unique, link.index, client.VELOCITY_CONTROL, targetVelocity=0.0, force=0.0)


def _material(skin: Surface) -> dict[str, float]:
    return {
        "lateralFriction": skin.friction, "spinningFriction": skin.spinning, "rollingFriction": skin.rolling,
        "contactStiffness": 1.0 / max(skin.compliance, _HARD), "contactDamping": skin.damping, "restitution": 0.0,
    }  # fmt: skip


def _has_rotor(model: mujoco.MjModel, link: Link) -> bool:
    if link.joint < 0 or link.index < 0:
        return False
    dof = int(model.jnt_dofadr[link.joint])
    driven = bool((model.actuator_trnid[:, 0] == link.joint).any())
    return driven or bool(model.dof_armature[dof] + model.dof_damping[dof] + model.dof_frictionloss[dof] > 0.0)


def _rotor(client: Any, model: mujoco.MjModel, link: Link) -> Rotor:
    """Beside the robot and not on it: there it would add to its links what armature does not."""
    centre, upright = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]
    unique = client.createMultiBody(
        baseMass=0.0, linkMasses=[1.0], linkCollisionShapeIndices=[-1], linkVisualShapeIndices=[-1],
        linkPositions=[centre], linkOrientations=[upright], linkInertialFramePositions=[centre],
        linkInertialFrameOrientations=[upright], linkParentIndices=[0], linkJointTypes=[client.JOINT_REVOLUTE],
        linkJointAxis=[[0.0, 0.0, 1.0]],
    )  # fmt: skip
    _undamped(client, unique)
    client.setJointMotorControl2(unique, 0, client.VELOCITY_CONTROL, targetVelocity=0.0, force=0.0)
    gear = client.createConstraint(
        link.unique, link.index, unique, 0, client.JOINT_GEAR, [0.0, 0.0, 1.0], centre, centre
    )
    client.changeConstraint(gear, gearRatio=-1.0, maxForce=_FIRM)
    return Rotor(int(model.jnt_dofadr[link.joint]), unique)


def _collisions(client: Any, model: mujoco.MjModel, links: list[Link], statics: list[tuple[int, int, int]]) -> None:
    """MuJoCo's rules for which shapes may touch, pair by pair."""
    for i, a in enumerate(links):
        for b in links[:i]:
            allowed = may_touch(model, geoms_of(model, a.body), geoms_of(model, b.body)) and not _related(model, a, b)
            client.setCollisionFilterPair(a.unique, b.unique, a.index, b.index, int(allowed))
        for _, geom, unique in statics:
            allowed = may_touch(model, geoms_of(model, a.body), [geom])
            client.setCollisionFilterPair(a.unique, unique, a.index, -1, int(allowed))


def _related(model: mujoco.MjModel, a: Link, b: Link) -> bool:
    """Welded together, or parent and child, or excluded."""
    first, second = int(model.body_weldid[a.body]), int(model.body_weldid[b.body])
    parents = (int(model.body_weldid[model.body_parentid[first]]), int(model.body_weldid[model.body_parentid[second]]))
    excluded = (min(a.body, b.body) << 16) + max(a.body, b.body) in model.exclude_signature
    return first == second or parents[0] == second or parents[1] == first or excluded


def _compound(client: Any, model: mujoco.MjModel, body: int, anchor: np.ndarray) -> int:
    shapes = [_shape(client, model, g) for g in geoms_of(model, body) if collides(model, g)]
    geoms = [g for g in geoms_of(model, body) if collides(model, g)]
    if not shapes:
        return -1
    return client.createCollisionShapeArray(
        shapeTypes=[s["shapeType"] for s in shapes],
        radii=[s.get("radius", 0.5) for s in shapes],
        halfExtents=[s.get("halfExtents", [1.0, 1.0, 1.0]) for s in shapes],
        lengths=[s.get("height", 1.0) for s in shapes],
        collisionFramePositions=[(model.geom_pos[g] - anchor).tolist() for g in geoms],
        collisionFrameOrientations=[_xyzw(model.geom_quat[g]) for g in geoms],
    )


def _shape(client: Any, model: mujoco.MjModel, geom: int) -> dict[str, Any]:
    size, kind = [float(x) for x in model.geom_size[geom]], int(model.geom_type[geom])
    if kind == _GEOM.mjGEOM_PLANE:
        return {"shapeType": client.GEOM_PLANE, "planeNormal": [0.0, 0.0, 1.0]}
    if kind == _GEOM.mjGEOM_BOX:
        return {"shapeType": client.GEOM_BOX, "halfExtents": size}
    if kind == _GEOM.mjGEOM_SPHERE:
        return {"shapeType": client.GEOM_SPHERE, "radius": size[0]}
    name = "GEOM_CAPSULE" if kind == _GEOM.mjGEOM_CAPSULE else "GEOM_CYLINDER"
    return {"shapeType": getattr(client, name), "radius": size[0], "height": 2.0 * size[1]}


def _joint_kind(client: Any, model: mujoco.MjModel, body: int) -> tuple[int, list[float]]:
    joint = _joint(model, body)
    if joint < 0:
        return client.JOINT_FIXED, [0.0, 0.0, 1.0]
    hinge = model.jnt_type[joint] == _JOINT.mjJNT_HINGE
    return (client.JOINT_REVOLUTE if hinge else client.JOINT_PRISMATIC), model.jnt_axis[joint].tolist()


def _below(model: mujoco.MjModel, body: int, root: int) -> bool:
    while body > root:
        body = int(model.body_parentid[body])
    return body == root


def _joint(model: mujoco.MjModel, body: int) -> int:
    return int(model.body_jntadr[body]) if model.body_jntnum[body] > 0 else -1


def _anchor(model: mujoco.MjModel, body: int) -> np.ndarray:
    return model.jnt_pos[_joint(model, body)] if _joint(model, body) >= 0 else np.zeros(3)


def _xyzw(quat: np.ndarray) -> list[float]:
    """Bullet's order of MuJoCo's quaternion."""
    return [float(quat[1]), float(quat[2]), float(quat[3]), float(quat[0])]
