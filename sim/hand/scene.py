"""A hand and a cube with six colours, and beside them the cube as it is wanted."""

# mujoco comes without stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robot_rl.sim.articulated.jointed_robot import JointedRobot
from robot_rl.sim.articulated.scene import FLOOR, GOAL, flat_scene

if TYPE_CHECKING:
    import mujoco

OBJECT = "object"

# Source: MuJoCo Playground, LeapCubeReorient: 7 cm, 0.108 kg; friction 0.3, so that of the finger tips decides.
CUBE_HALF, CUBE_MASS, CUBE_FRICTION = 0.035, 0.108, 0.3

GOAL_POS = (0.1, 0.22, 0.32)
"""m, world: where the wanted cube is shown."""

_FACES = (
    ((1, 0, 0), (0.80, 0.15, 0.15)), ((-1, 0, 0), (0.95, 0.55, 0.15)), ((0, 1, 0), (0.15, 0.60, 0.20)),
    ((0, -1, 0), (0.20, 0.35, 0.80)), ((0, 0, 1), (0.95, 0.95, 0.95)), ((0, 0, -1), (0.95, 0.85, 0.20)),
)  # fmt: skip
_TOUCHES_FLOOR = 8  # a bit of contype that only the cube has: the floor is not compared with sixteen finger links


def cube_scene(robot: JointedRobot) -> mujoco.MjSpec:
    """Bodies `object`, free, and `goal`, which touches nothing and stands still: whoever draws it turns it."""
    spec = flat_scene(robot)
    floor = spec.geom(FLOOR)
    floor.contype, floor.conaffinity = 0, _TOUCHES_FLOOR
    body = spec.worldbody.add_body(name=OBJECT, pos=[0.1, 0.0, 0.32])
    body.simple = False  # its centre of mass may be moved
    body.add_freejoint(name="object_free")
    _box(body, OBJECT, [0, 0, 0], [CUBE_HALF] * 3, (0.1, 0.1, 0.1), mass=CUBE_MASS, contype=1 | _TOUCHES_FLOOR,
         friction=[CUBE_FRICTION, 0.05, 0.0002])  # fmt: skip
    goal = spec.worldbody.add_body(name=GOAL, pos=list(GOAL_POS))
    for owner in (body, goal):
        for normal, colour in _FACES:
            half = [0.001 if n else 0.8 * CUBE_HALF for n in normal]
            pos = [n * CUBE_HALF for n in normal]
            _box(owner, "", pos, half, colour, mass=0.0, contype=0, conaffinity=0, group=2)
    _box(goal, "", [0, 0, 0], [CUBE_HALF] * 3, (0.1, 0.1, 0.1), mass=0.0, contype=0, conaffinity=0)
    return spec


def _box(body: Any, name: str, pos: list[float], half: list[float], colour: tuple[float, ...], **more: Any) -> None:
    import mujoco

    kind = mujoco.mjtGeom.mjGEOM_BOX
    body.add_geom(name=name, type=kind, pos=pos, size=half, rgba=[*colour, 1.0], **more)
