"""Left–right mirror images of what a robot with legs sees and does: the world reflected at the plane y = 0.

An observation is a row of parts, each of one of the kinds below. Which joint or foot is whose image follows from the
model: anchors that are images of each other, and the direction in which the joint's axis turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.sim.articulated.jointed_robot import JointedRobot
from robot_rl.sim.locomotion.terrain_options import SCAN_X, SCAN_Y

if TYPE_CHECKING:
    from torch import Tensor

SCALAR, VECTOR, ROTATION, HEADING, YAW = "scalar", "vector", "rotation", "heading", "yaw"
"""A number that stays; x, y, z; a turn about x, y, z; x, y; a turn about z."""

JOINTS, FEET, FOOT_VECTORS, SCAN = "joints", "feet", "foot_vectors", "scan"
"""One number per joint; one per foot; x, y, z of each foot; the height scan."""

ASKED = {"command_lin_vel_b": HEADING, "command_yaw_rate": YAW}
"""Kinds of the signals that say what is asked for."""

NEAR = 2e-3  # m, rad: anchors and axes that are closer are images of each other

Parts = Sequence[tuple[str, "Tensor"]]
Mirror = tuple[tuple[int, ...], tuple[float, ...]]
"""Indices and signs: image[i] = signs[i] · x[indices[i]]."""


def mirrors(robot: JointedRobot) -> dict[str, Mirror]:
    """The mirror of every kind for this robot.

    Raises:
        ConfigError: its left side is not the image of its right side.
    """
    joints, feet = _joints(robot)
    image = [joints[1][i] * robot.default_pose[at] for i, at in enumerate(joints[0])]
    if not np.allclose(image, robot.default_pose):
        raise ConfigError(f"default_pose = {robot.default_pose} is not its own mirror image, {tuple(image)}")
    flat = [ix * SCAN_Y + SCAN_Y - 1 - iy for ix in range(SCAN_X) for iy in range(SCAN_Y)]
    return {
        SCALAR: ((0,), (1.0,)),
        VECTOR: ((0, 1, 2), (1.0, -1.0, 1.0)),
        ROTATION: ((0, 1, 2), (-1.0, 1.0, -1.0)),
        HEADING: ((0, 1), (1.0, -1.0)),
        YAW: ((0,), (-1.0,)),
        JOINTS: joints,
        FEET: (feet, (1.0,) * len(feet)),
        FOOT_VECTORS: (tuple(3 * foot + k for foot in feet for k in range(3)), (1.0, -1.0, 1.0) * len(feet)),
        SCAN: (tuple(flat), (1.0,) * len(flat)),
    }


def joined(kinds: Sequence[str], table: dict[str, Mirror]) -> Mirror:
    """The mirror of parts of these kinds, one behind the other."""
    indices: list[int] = []
    signs: list[float] = []
    for kind in kinds:
        at, factors = table[kind]
        indices += [len(signs) + i for i in at]
        signs += factors
    return tuple(indices), tuple(signs)


def _joints(robot: JointedRobot) -> tuple[Mirror, tuple[int, ...]]:
    """The mirror of joint positions, and which foot is whose image."""
    import mujoco

    model = robot.spec().compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    ids = [model.joint(name).id for name in robot.joints]
    anchors, axes = data.xanchor[ids], data.xaxis[ids]
    partners = _images(anchors, axes * (-1.0, 1.0, -1.0), axes, robot.joints)
    turned = np.einsum("ij,ij->i", axes * (-1.0, 1.0, -1.0), axes[list(partners)])
    places = data.site_xpos[[model.site(name).id for name in robot.feet]]
    feet = _images(places, np.zeros_like(places), np.zeros_like(places), robot.feet)
    return (partners, tuple(float(np.sign(x)) for x in turned)), feet


def _images(places: np.ndarray, images: np.ndarray, axes: np.ndarray, names: Sequence[str]) -> tuple[int, ...]:
    """For each of the places (k, 3) the one where its image lies, with an axis along the image of its own."""
    found = []
    for place, image, name in zip(places * (1.0, -1.0, 1.0), images, names, strict=True):
        along = np.abs(axes @ image) - np.linalg.norm(image)
        near = np.flatnonzero((np.abs(places - place).max(1) < NEAR) & (np.abs(along) < NEAR))
        if len(near) != 1:
            raise ConfigError(f"'{name}' has {len(near)} mirror images on the other side; symmetry needs one")
        found.append(int(near[0]))
    return tuple(found)
