"""Scenes: a robot, a floor, light, and what a task adds, compiled into one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from robot_rl.sim.articulated.jointed_robot import JointedRobot

if TYPE_CHECKING:
    import mujoco
    import numpy as np
    from numpy.typing import NDArray

FLOOR = "floor"
GOAL = "goal"
"""A body that shows what is wanted: nothing touches it and for the physics it stands still; who draws moves it."""
APRON = tuple(f"{FLOOR}_{side}" for side in ("east", "west", "north", "south"))
APRON_WIDTH = 30.0  # m: further than a robot walks in one episode

_CONTACT = {"priority": 1, "friction": [0.8, 0.02, 0.001], "solref": [0.01, 1]}


def flat_scene(robot: JointedRobot) -> mujoco.MjSpec:
    """The robot above an endless plane called `floor`, whose friction decides in every contact with it."""
    import mujoco

    spec = robot.spec()
    spec.worldbody.add_geom(
        name=FLOOR, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], material=_checkered(spec), **_CONTACT
    )
    add_light(spec)
    return spec


def height_field_scene(robot: JointedRobot, heights: NDArray[np.float64], cell: float) -> mujoco.MjSpec:
    """The robot above a height field called `floor` around the origin, and level ground (`APRON`) around that.

    Args:
        heights: (rows, columns) m, rows along y; 0 at its edge.
        cell: m between neighbours.
    """
    import mujoco

    spec = robot.spec()
    (rows, columns), low = heights.shape, float(heights.min())
    x, y, rise = 0.5 * cell * (columns - 1), 0.5 * cell * (rows - 1), max(1e-3, float(heights.max()) - low)
    # MuJoCo scales what it is given to 0…1.
    spec.add_hfield(name=FLOOR, nrow=rows, ncol=columns, size=[x, y, rise, 1.0], userdata=heights.ravel().tolist())
    material = _checkered(spec)
    spec.worldbody.add_geom(
        name=FLOOR, type=mujoco.mjtGeom.mjGEOM_HFIELD, hfieldname=FLOOR, pos=[0, 0, low], material=material, **_CONTACT
    )
    half = 0.5 * APRON_WIDTH
    places = ((x + half, 0), (-x - half, 0), (0, y + half), (0, -y - half))
    sizes = ((half, y + APRON_WIDTH), (half, y + APRON_WIDTH), (x, half), (x, half))
    for name, place, size in zip(APRON, places, sizes, strict=True):
        spec.worldbody.add_geom(
            name=name, type=mujoco.mjtGeom.mjGEOM_BOX, pos=[*place, -0.5], size=[*size, 0.5], material=material,
            **_CONTACT,
        )  # fmt: skip
    add_light(spec)
    return spec


def add_light(spec: mujoco.MjSpec) -> None:
    """A sun and a sky; nothing that physics sees."""
    spec.worldbody.add_light(pos=[0, 0, 4], dir=[0.3, 0.2, -1], diffuse=[0.7, 0.7, 0.7], ambient=[0.3, 0.3, 0.3])


def _checkered(spec: mujoco.MjSpec) -> str:
    import mujoco

    spec.add_texture(
        name="checks", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        width=128, height=128, rgb1=[0.32, 0.36, 0.40], rgb2=[0.26, 0.30, 0.34],
    )  # fmt: skip
    material = spec.add_material(name="floor", texrepeat=[2, 2], texuniform=True)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "checks"
    return "floor"


def compile_scene(spec: mujoco.MjSpec, physics_dt: float) -> mujoco.MjModel:
    """Compile for physics steps of `physics_dt` seconds."""
    spec.option.timestep = physics_dt
    return spec.compile()


def place(model: mujoco.MjModel, placed: Mapping[str, ArrayLike]) -> None:
    """Let bodies of a model that is drawn stand where `env.placed()` says; name → pose (7,). Others are ignored."""
    import mujoco

    for name, pose in placed.items():
        number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)  # type: ignore[attr-defined]
        if number >= 0:
            at = np.asarray(pose, dtype=float)
            model.body_pos[number], model.body_quat[number] = at[:3], at[3:]
