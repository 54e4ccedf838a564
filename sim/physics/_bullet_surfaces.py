"""What MuJoCo says of pairs of geoms that touch, as the coefficients of single shapes that Bullet combines.

MuJoCo's contact transmits f = W (−k r − b ṙ − r̈), r its distance below zero, W = d/(1 − d) / (w₁ + w₂) with the bodies'
inverse inertias w and the impedance d (its documentation, "Computation: constraint model"). Bullet's, implicit in steps
of h, is f = −K r − (h K + D) ṙ, ṙ that of the step's end. Hence K = W k and D = W (b − h k); Bullet's term of r̈ is then
h b of MuJoCo's, which is all of it where b = 1/h. MuJoCo's d grows with depth; here it is midway between its ends.
"""
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.optimize import nnls

_SLIPPERY = 1e-5  # friction below counts as this much (mjMINMU)
_YIELDING = 1e-3  # N/m, likewise
_WEIGHTS = (1.0, 1e-2, 1e-4)  # of pairs with a free body, with something immovable, of a robot's links with each other
_LEAST, _MOST = 1e-4, 0.9999  # impedances that MuJoCo allows
_TINY = 1e-15  # mjMINVAL

Shape = tuple[int, int]
"""(body, −1) for a moving body, (0, geom) for an immovable geom."""


@dataclass(frozen=True)
class Surface:
    """One shape's coefficients: friction; m of friction against spinning, rolling; m/N; N s/m."""

    friction: float = 1.0
    spinning: float = 0.0
    rolling: float = 0.0
    compliance: float = 0.0
    damping: float = 0.0


@dataclass(frozen=True)
class Contact:
    """Of two geoms in MuJoCo, or of two shapes in Bullet: friction; m; m; N/m; N s/m."""

    friction: float
    spinning: float
    rolling: float
    stiffness: float
    damping: float


def surfaces(model: mujoco.MjModel) -> dict[Shape, Surface]:
    """Coefficients with which Bullet's contacts come closest to MuJoCo's.

    Of two shapes Bullet multiplies the frictions μ, adds compliances and dampings, and spins with s₁ μ₂ + s₂ μ₁. All
    are sums (of log μ, and s/μ), so the shapes' parts are least-squares problems, in proportion, in which what touches
    a free body counts most, then what touches the ground: a fingertip must hold the cube as in MuJoCo, rather than
    another fingertip. A shape of several geoms counts with that of most priority, dimensions of contact and friction.
    """
    shapes = shapes_of(model)
    pairs, weights, contacts = list[np.ndarray](), list[float](), list[Contact]()
    for (i, (a, first)), (j, (b, second)) in itertools.combinations(enumerate(shapes.items()), 2):
        if (a[1] < 0 or b[1] < 0) and may_touch(model, first, second):
            pairs.append(np.isin(np.arange(len(shapes)), (i, j)).astype(float))
            free, fixed = any(is_free(model, body) for body, _ in (a, b)), a[1] >= 0 or b[1] >= 0
            weights.append(_WEIGHTS[0 if free else 1 if fixed else 2])
            contacts.append(contact(model, leading(model, first), leading(model, second)))
    if not pairs:
        return dict.fromkeys(shapes, Surface())
    rows, weight = np.array(pairs), np.array(weights)
    friction, spinning, rolling, stiffness, damping = np.array([list(vars(c).values()) for c in contacts]).T
    own = np.exp(np.linalg.lstsq(rows * weight[:, None], np.log(friction) * weight, rcond=None)[0])
    columns, product = [own], np.exp(rows @ np.log(own))
    for moment in (spinning, rolling):
        columns.append(own * _parts(rows, moment / product, max(moment.max(), _SLIPPERY) / weight))
    # A link that hardly gives on the ground must not decide how soft the cube is.
    soft = 1.0 / stiffness
    columns.append(_parts(rows, soft, np.where(weight < _WEIGHTS[0], soft.max(), soft) / weight))
    columns.append(_parts(rows, damping, (damping + float(model.opt.timestep) * stiffness) / weight))
    return {shape: Surface(*map(float, values)) for shape, values in zip(shapes, np.array(columns).T, strict=True)}


def combined(a: Surface, b: Surface) -> Contact:
    """What Bullet makes of two surfaces that touch."""
    compliance = a.compliance + b.compliance
    return Contact(
        a.friction * b.friction,
        a.spinning * b.friction + b.spinning * a.friction,
        a.rolling * b.friction + b.rolling * a.friction,
        1.0 / compliance if compliance > 0.0 else np.inf,
        a.damping + b.damping,
    )


def contact(model: mujoco.MjModel, a: int, b: int) -> Contact:
    """What MuJoCo makes of two geoms that touch."""
    deciding = _deciding(model, a, b)
    dims = int(model.geom_condim[deciding].max())
    mu, spin, roll = model.geom_friction[deciding].max(axis=0)
    impedance, stiffness, damping = _law(model, a, b)
    return Contact(
        max(float(mu), _SLIPPERY) if dims >= 3 else _SLIPPERY,
        float(spin) if dims >= 4 else 0.0,
        float(roll) if dims >= 6 else 0.0,
        max(impedance * stiffness, _YIELDING),
        impedance * max(damping - float(model.opt.timestep) * stiffness, 0.0),
    )


def _deciding(model: mujoco.MjModel, a: int, b: int) -> list[int]:
    """The geom of higher priority, or both."""
    first, second = int(model.geom_priority[a]), int(model.geom_priority[b])
    return [a, b] if first == second else [a if first > second else b]


def _law(model: mujoco.MjModel, a: int, b: int) -> tuple[float, float, float]:
    """W (kg), k (1/s²) and b (1/s) of the module's text."""
    share = _share(model, a, b)
    first, second = model.geom_solref[a], model.geom_solref[b]
    springs = share * first + (1.0 - share) * second if min(first[0], second[0]) > 0.0 else np.minimum(first, second)
    depths = share * model.geom_solimp[a] + (1.0 - share) * model.geom_solimp[b]
    shallow, deep = np.clip(depths[:2], _LEAST, _MOST)
    stiffness, damping = -springs / deep ** np.array([2, 1])
    if springs[0] > 0.0:
        kept = model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_REFSAFE)
        constant = springs[0] if kept else max(springs[0], 2.0 * model.opt.timestep)
        stiffness, damping = 1.0 / (deep * constant * springs[1]) ** 2, 2.0 / (deep * constant)
    impedance = 0.5 * (shallow + deep)
    bodies = model.geom_bodyid[[a, b]]
    inverse = max(float(model.body_invweight0[bodies, 0].sum()), _TINY) / _edges(model, a, b)
    return impedance / (1.0 - impedance) / inverse, float(stiffness), float(damping)


def _edges(model: mujoco.MjModel, a: int, b: int) -> float:
    """How many times stiffer than one row the edges of a friction pyramid are together, along the normal."""
    deciding = _deciding(model, a, b)
    dims, mu = int(model.geom_condim[deciding].max()), max(float(model.geom_friction[deciding, 0].max()), _SLIPPERY)
    if model.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC or dims == 1:
        return 1.0
    return float((dims - 1) * model.opt.impratio / (mu * mu * (1.0 + mu * mu)))


def _share(model: mujoco.MjModel, a: int, b: int) -> float:
    """Of the first geom in the mixture of two."""
    deciding = _deciding(model, a, b)
    if len(deciding) == 1:
        return float(deciding[0] == a)
    first, second = model.geom_solmix[[a, b]]
    if min(first, second) < _TINY:
        return 0.5 if max(first, second) < _TINY else float(first > second)
    return float(first / (first + second))


def _parts(rows: np.ndarray, wanted: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Non-negative parts of shapes whose sums over pairs (`rows`) come closest to those wanted, errors over `size`."""
    return nnls(rows / size[:, None], wanted / size)[0]


def leading(model: mujoco.MjModel, geoms: Sequence[int]) -> int:
    priority, dims, friction = model.geom_priority, model.geom_condim, model.geom_friction
    return max(geoms, key=lambda g: (int(priority[g]), int(dims[g]), float(friction[g, 0])))


def shapes_of(model: mujoco.MjModel) -> dict[Shape, list[int]]:
    """Colliding geoms of every shape."""
    bodies = [b for b in range(model.nbody) if model.body_weldid[b]]
    moving = {(b, -1): [g for g in geoms_of(model, b) if collides(model, g)] for b in bodies}
    static = {(0, g): [g] for g in range(model.ngeom) if not moves(model, g) and collides(model, g)}
    return {key: geoms for key, geoms in (moving | static).items() if geoms}


def may_touch(model: mujoco.MjModel, first: Sequence[int], second: Sequence[int]) -> bool:
    kind, partner = model.geom_contype, model.geom_conaffinity
    return any(kind[g] & partner[h] or kind[h] & partner[g] for g in first for h in second)


def moves(model: mujoco.MjModel, geom: int) -> bool:
    return bool(model.body_weldid[model.geom_bodyid[geom]])


def is_free(model: mujoco.MjModel, body: int) -> bool:
    joint = int(model.body_jntadr[body])
    return joint >= 0 and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE


def geoms_of(model: mujoco.MjModel, body: int) -> list[int]:
    first = int(model.body_geomadr[body])
    return list(range(first, first + int(model.body_geomnum[body]))) if first >= 0 else []


def collides(model: mujoco.MjModel, geom: int) -> bool:
    return bool(model.geom_contype[geom] or model.geom_conaffinity[geom])
