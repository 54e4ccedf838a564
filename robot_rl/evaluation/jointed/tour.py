"""A film without a browser: the robot is taken through all that can be asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robot_rl.evaluation.jointed.session import Session

FPS = 25
# From this share of the film on: controls as shares of their largest value, or a push to the left in m/s.
TOUR: tuple[tuple[float, dict[str, float]], ...] = (
    (0.05, {"forward": 0.6}),
    (0.25, {"forward": 1.0}),
    (0.4, {"forward": 0.5, "yaw": 0.8}),
    (0.55, {"forward": 0.0, "yaw": 0.0, "sideways": 0.8}),
    (0.7, {"sideways": 0.0, "forward": -0.5}),
    (0.8, {"forward": 0.0, "push": 0.8}),
    (0.9, {"forward": 0.6}),
)


def save_tour(session: Session, path: Path, seconds: float, title: str) -> Path:
    """Write the film; returns its path.

    Raises:
        MissingDependency: no OpenGL without a screen, or no film writer.
    """
    from robot_rl.sim.articulated.render import SceneRenderer, write_film

    with SceneRenderer(session.env.model, follow=session.env.robot.base) as renderer:
        return write_film(_frames(session, renderer, seconds, title), path, FPS)


def _frames(session: Session, renderer: Any, seconds: float, title: str) -> Iterator[Any]:
    left, count = list(TOUR), max(1, round(seconds * FPS))
    for i in range(count):
        while left and i / count >= left[0][0]:
            _turn(session, left.pop(0)[1])
        while session.time < (i + 1) / FPS - 1e-9:
            session.advance()
        lines = [title, *(f"{name} {text}" for name, text in session.readouts().items())]
        yield renderer.frame(session.qpos, lines, session.placed)


def _turn(session: Session, changes: dict[str, float]) -> None:
    controls = session.controls()
    for name, share in changes.items():
        if name in controls:
            session.set(name, share * controls[name].high)
        elif name == "push" and session.env.pushable:
            session.push(share, 1.57)
