"""The scripted missions of `robot-rl run`: for robots that fly, that walk and that handle things."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from typing import Protocol

import numpy as np

from robot_rl.errors import UnknownName
from robot_rl.hardware.pilot import Pilot
from robot_rl.hardware.setpoints import Vector
from robot_rl.hardware.supervisor import Answer

# A script runs between ticks: it makes requests, and each `yield` lets one tick pass.
Script = Generator[None, None, None]
Velocity = tuple[float, float, float]
"""Forward and sideways m/s, yaw rate rad/s."""
Place = tuple[float, float, float]
"""m, world."""


class Course(Protocol):
    """What a mission may use.

    Attributes:
        seconds: how long it shall last. velocity, goals: what the user asked for; no goals: the mission's own.
    """

    pilot: Pilot
    seconds: float
    velocity: Velocity
    goals: tuple[Place, ...]

    def need(self, answer: Answer) -> None:
        """Go on only if a request was accepted."""
        ...

    def stay(self, seconds: float, meanwhile: Callable[[], Answer] | None = None) -> Script:
        """Let `seconds` pass while the policy leads; `meanwhile` is requested at each tick."""
        ...


Mission = Callable[[Course], Script]


def _hover(course: Course) -> Script:
    yield from course.stay(course.seconds)


def _figure_eight(course: Course) -> Script:
    course.need(course.pilot.figure_eight(period=5.5))
    yield from course.stay(course.seconds)


def _figure_eight_fast(course: Course) -> Script:
    course.need(course.pilot.figure_eight(period=3.5))
    yield from course.stay(course.seconds)


def _square(course: Course) -> Script:
    x, y, z = course.pilot.reference.current.pos_w.tolist()
    for dx, dy in ((0.5, 0.0), (0.5, 0.5), (0.0, 0.5), (0.0, 0.0)):
        course.need(course.pilot.go_to((x + dx, y + dy, z)))
        yield from course.stay(course.seconds / 4)


def _stand(course: Course) -> Script:
    yield from course.stay(course.seconds)


def _goals(course: Course) -> Script:
    """The user's goals, or four about the present one, for equal times; attitudes where no place is asked for."""
    poses = course.pilot.poses
    assert poses is not None  # `mission_named` has seen to it
    start = poses.current
    for place in course.goals:
        course.need(course.pilot.aim(place))
        yield from course.stay(course.seconds / len(course.goals))
    if course.goals:
        return
    for number, (x, y) in enumerate(((0.1, 0.1), (0.1, -0.1), (-0.02, -0.1), (0.0, 0.1))):
        if "target_pos_w" in poses.reads:
            course.need(course.pilot.aim(start.pos_w + np.array([x, y, 0.0])))
        else:
            course.need(course.pilot.aim(start.pos_w, _about_z(start.quat_wxyz, 0.5 * math.pi * (number + 1))))
        yield from course.stay(course.seconds / 4)


def _about_z(quat_wxyz: Vector, angle: float) -> Vector:
    """The attitude turned by `angle` rad about the world's z."""
    c, s = math.cos(0.5 * angle), math.sin(0.5 * angle)
    w, x, y, z = quat_wxyz.tolist()
    return np.array([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w])


def _steady(course: Course, velocity: Velocity, seconds: float) -> Script:
    yield from course.stay(seconds, lambda: course.pilot.walk(*velocity))


def _walk(course: Course) -> Script:
    """Forward, turning, sideways, standing: a quarter of the time each."""
    for velocity in ((0.5, 0.0, 0.0), (0.0, 0.0, 0.8), (0.0, 0.3, 0.0), (0.0, 0.0, 0.0)):
        yield from _steady(course, velocity, course.seconds / 4)


def _velocity(course: Course) -> Script:
    """What the user asked for, all the time."""
    yield from _steady(course, course.velocity, course.seconds)


FLIGHTS: Mapping[str, Mission] = {
    "hover": _hover,
    "figure-eight": _figure_eight,
    "figure-eight-fast": _figure_eight_fast,
    "square": _square,
}
WALKS: Mapping[str, Mission] = {"walk": _walk, "velocity": _velocity, "stand": _stand}
HANDLING: Mapping[str, Mission] = {"goals": _goals, "stand": _stand}
MISSIONS: Mapping[str, Mission] = {**FLIGHTS, **WALKS, **HANDLING}


def mission_named(name: str, pilot: Pilot) -> Mission:
    """The mission for this kind of robot and policy; an empty name is the first one.

    Raises:
        UnknownName: there is none of that name for it.
    """
    kinds = (("flies", FLIGHTS), ("handles things", HANDLING), ("walks", WALKS))
    does, known = kinds[0 if pilot.flies else 1 if pilot.poses is not None else 2]
    chosen = name or next(iter(known))
    if chosen not in known:
        raise UnknownName(f"mission of a robot that {does}", chosen, known)
    return known[chosen]
