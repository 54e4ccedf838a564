"""The table in front of the arm, and what stands on it: primitive shapes added to the robot's own model.

The table's top is the plane z = 0, as is the arm's base. What a policy handles carries a site called `object`, with
sensors of its pose and velocity; what stands fast but somewhere else in every episode is the body `fixture`.
"""

# mujoco comes without stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robot_rl.sim.articulated.jointed_robot import JointedRobot
from robot_rl.sim.articulated.scene import flat_scene

if TYPE_CHECKING:
    import mujoco

OBJECT, FIXTURE = "object", "fixture"

CUBE_HALF, CUBE_MASS = 0.02, 0.1
"""m, kg: a wooden toy block."""
PEG_HALF, PEG_LENGTH, PEG_MASS = 0.012, 0.08, 0.1
HOLE_CLEARANCE, HOLE_DEPTH = 0.001, 0.04
"""m: how much wider than the peg the square hole is, and how deep."""
PEG_BELOW = 0.02
"""m: the middle of the peg is that far below the middle of the finger pads that hold it."""
DRAWER_TRAVEL, DRAWER_MASS, DRAWER_FRICTION, DRAWER_DAMPING = 0.2, 1.0, 2.0, 10.0
"""m, kg, N, N s/m."""
HANDLE_HEIGHT, HANDLE_LENGTH, HANDLE_HALF = 0.10, 0.07, (0.035, 0.008, 0.02)
"""m: middle of the handle above the table; it sticks out of the drawer's front by its length."""
SPONGE_HALF, SPONGE_BELOW = (0.02, 0.03, 0.012), 0.025
"""m: half sizes, and how far its middle is below the middle of the finger pads."""
TOUCH_HEIGHT = SPONGE_BELOW + SPONGE_HALF[2]
"""m: height of the gripper above a surface that the sponge just touches."""
BOARD_HALF = (0.14, 0.22, 0.01)


def table_scene(robot: JointedRobot) -> mujoco.MjSpec:
    """Arm and table, and a camera called `front` that sees both."""
    from robot_rl.sim.robots.panda import FRONT_CAMERA_AT, FRONT_CAMERA_POS

    spec = flat_scene(robot)
    back = [p - a for p, a in zip(FRONT_CAMERA_POS, FRONT_CAMERA_AT, strict=True)]  # a camera looks along its −z
    spec.worldbody.add_camera(
        name="front", pos=list(FRONT_CAMERA_POS), xyaxes=[0, 1, 0, -back[2], 0, back[0]], fovy=45.0
    )
    return spec


def cube_scene(robot: JointedRobot) -> mujoco.MjSpec:
    """A loose cube at the middle of the workspace."""
    spec = table_scene(robot)
    body = _loose(spec, [0.5, 0.0, CUBE_HALF])
    _box(body, OBJECT, [CUBE_HALF] * 3, rgba=[0.85, 0.25, 0.2, 1], mass=CUBE_MASS, friction=[1, 0.01, 0.0002], condim=4)
    _watch(spec, body, [0, 0, 0])
    return spec


def peg_scene(robot: JointedRobot) -> mujoco.MjSpec:
    """A loose square peg, and a block with a square hole, whose floor is the table."""
    spec = table_scene(robot)
    body = _loose(spec, [0.45, 0.0, 0.3])
    half = [PEG_HALF, PEG_HALF, PEG_LENGTH / 2]
    _box(body, OBJECT, half, rgba=[0.85, 0.6, 0.2, 1], mass=PEG_MASS, friction=[1, 0.01, 0.0002], condim=4,
         solref=[0.01, 1], solimp=[0.95, 0.99, 0.001, 0.5, 2])  # fmt: skip
    _watch(spec, body, [0, 0, 0])
    block = spec.worldbody.add_body(name=FIXTURE, pos=[0.5, 0.0, 0.0])
    inner, outer, high = PEG_HALF + HOLE_CLEARANCE / 2, 0.05, HOLE_DEPTH / 2
    wall, middle = (outer - inner) / 2, (outer + inner) / 2
    for name, x, y, sx, sy in (
        ("hole_front", -middle, 0.0, wall, outer), ("hole_back", middle, 0.0, wall, outer),
        ("hole_right", 0.0, -middle, inner, wall), ("hole_left", 0.0, middle, inner, wall),
    ):  # fmt: skip
        _box(block, name, [sx, sy, high], pos=[x, y, high], rgba=[0.3, 0.45, 0.65, 1], friction=[0.3, 0.005, 0.0001])
    return spec


def drawer_scene(robot: JointedRobot) -> mujoco.MjSpec:
    """A cabinet that faces the arm, with one drawer and a handle to be taken from above."""
    spec = table_scene(robot)
    body = spec.worldbody.add_body(name=FIXTURE, pos=[0.7, 0.0, 0.0])
    _box(body, "cabinet", [0.1, 0.14, 0.07], pos=[0.13, 0, 0.07], rgba=[0.5, 0.4, 0.3, 1])
    drawer = body.add_body(name="drawer", pos=[0.0, 0.0, HANDLE_HEIGHT])
    drawer.add_joint(
        name="drawer", type=_mujoco().mjtJoint.mjJNT_SLIDE, axis=[-1, 0, 0], range=[0, DRAWER_TRAVEL], limited=True,
        frictionloss=DRAWER_FRICTION, damping=[DRAWER_DAMPING, 0, 0],
    )  # fmt: skip
    _box(drawer, "drawer_front", [0.01, 0.12, 0.035], pos=[0.01, 0, -0.05], rgba=[0.65, 0.5, 0.35, 1],
         mass=0.8 * DRAWER_MASS)  # fmt: skip
    _box(drawer, OBJECT, list(HANDLE_HALF), pos=[-HANDLE_LENGTH / 2, 0, 0], rgba=[0.2, 0.2, 0.2, 1],
         mass=0.2 * DRAWER_MASS, friction=[1, 0.01, 0.0002], condim=4)  # fmt: skip
    _watch(spec, drawer, [-HANDLE_LENGTH + 0.02, 0, 0])
    return spec


def board_scene(robot: JointedRobot) -> mujoco.MjSpec:
    """A board to be wiped, and a sponge that the gripper holds for good."""
    spec = table_scene(robot)
    body = spec.worldbody.add_body(name=FIXTURE, pos=[0.5, 0.0, 0.02])
    _box(body, "board", list(BOARD_HALF), rgba=[0.85, 0.87, 0.9, 1], friction=[0.4, 0.005, 0.0001], priority=1,
         solref=[0.05, 1])  # fmt: skip
    hand = spec.body("hand")
    tip = float(spec.site("ee").pos[2])
    _box(hand, "sponge", list(SPONGE_HALF), pos=[0, 0, tip + SPONGE_BELOW], rgba=[0.95, 0.8, 0.25, 1], mass=0.0)
    return spec


def _loose(spec: mujoco.MjSpec, pos: list[float]) -> Any:
    body = spec.worldbody.add_body(name=OBJECT, pos=pos)
    body.add_freejoint(name="object_free")
    return body


def _box(body: Any, name: str, half: list[float], **more: Any) -> None:
    body.add_geom(name=name, type=_mujoco().mjtGeom.mjGEOM_BOX, size=half, **more)


def _watch(spec: mujoco.MjSpec, body: Any, pos: list[float]) -> None:
    """Site `object` with sensors object_pos, object_quat, object_vel (world, m/s) and object_ang_vel (rad/s)."""
    mujoco = _mujoco()
    body.add_site(name=OBJECT, pos=pos, size=[0.003] * 3, group=4)
    kinds = mujoco.mjtSensor
    for name, kind in (
        ("object_pos", kinds.mjSENS_FRAMEPOS), ("object_quat", kinds.mjSENS_FRAMEQUAT),
        ("object_vel", kinds.mjSENS_FRAMELINVEL), ("object_ang_vel", kinds.mjSENS_FRAMEANGVEL),
    ):  # fmt: skip
        spec.add_sensor(name=name, type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=OBJECT)


def _mujoco() -> Any:
    import mujoco

    return mujoco
