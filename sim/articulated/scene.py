"""Scenes: a robot, a floor, light, and what a task adds, compiled into one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rl.sim.articulated.jointed_robot import JointedRobot

if TYPE_CHECKING:
    import mujoco

FLOOR = "floor"


def flat_scene(robot: JointedRobot) -> mujoco.MjSpec:
    """The robot above an endless plane called `floor`, whose friction decides in every contact with it."""
    import mujoco

    spec = robot.spec()
    spec.worldbody.add_geom(
        name=FLOOR, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], material=_checkered(spec),
        priority=1, friction=[0.8, 0.02, 0.001], solref=[0.01, 1],
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
