"""The scripted missions of `robot-rl run`, for robots that fly and for robots with joints."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Protocol

from robot_rl.errors import UnknownName
from robot_rl.hardware.pilot import Pilot
from robot_rl.hardware.supervisor import Answer

# A script runs between ticks: it makes requests, and each `yield` lets one tick pass.
Script = Generator[None, None, None]
Velocity = tuple[float, float, float]
"""Forward and sideways m/s, yaw rate rad/s."""


class Course(Protocol):
    """What a mission may use. `seconds`: how long it shall last; `velocity`: what the user asked for."""

    pilot: Pilot
    seconds: float
    velocity: Velocity

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
MISSIONS: Mapping[str, Mission] = {**FLIGHTS, **WALKS}


def mission_named(name: str, flies: bool) -> Mission:
    """The mission for this kind of robot; an empty name is the first one.

    Raises:
        UnknownName: there is none of that name for it.
    """
    known = FLIGHTS if flies else WALKS
    chosen = name or next(iter(known))
    if chosen not in known:
        raise UnknownName("mission of a robot that " + ("flies" if flies else "has joints"), chosen, known)
    return known[chosen]
