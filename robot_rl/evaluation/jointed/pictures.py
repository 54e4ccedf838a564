"""A contact sheet and a film from what an evaluation recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rl.evaluation.jointed.plots import longest
from robot_rl.evaluation.jointed.rollout import Recording

if TYPE_CHECKING:
    import mujoco

FPS = 25
SHEET = (320, 240)  # pixels of a picture of the contact sheet
SHEET_SECONDS = 1.2  # between first and last: about two steps of a walking robot
SHEET_COUNT = 12


def save_sheet(record: Recording, model: mujoco.MjModel, follow: str, path: Path) -> Path:
    """Twelve pictures, evenly spaced in time, from the middle of the longest episode."""
    from robot_rl.sim.articulated.render import SceneRenderer, contact_sheet, write_png

    robot = longest(record)
    steps = record.steps(robot)
    shown = min(steps, round(SHEET_SECONDS / record.dt) if follow else steps)
    start = (steps - shown) // 2
    with SceneRenderer(model, SHEET, follow) as renderer:
        pictures = [
            renderer.frame(record.qpos[k, robot], [f"{k * record.dt:.2f} s"], record.placed_at(k, robot))
            for k in np.linspace(start, start + shown - 1, SHEET_COUNT).round().astype(int)
        ]
    return write_png(contact_sheet(pictures), path)


def save_film(record: Recording, model: mujoco.MjModel, follow: str, path: Path, title: str) -> Path:
    """The longest recorded episode in real time, with what was asked for and what was done."""
    from robot_rl.sim.articulated.render import SceneRenderer, write_film

    with SceneRenderer(model, follow=follow) as renderer:
        return write_film(_frames(record, renderer, title), path, FPS)


def _frames(record: Recording, renderer: Any, title: str) -> Iterator[Any]:
    robot = longest(record)
    count = max(1, int(record.steps(robot) * record.dt * FPS))
    for i in range(count):
        k = min(record.steps(robot) - 1, round(i / FPS / record.dt))
        lines = [title, f"{k * record.dt:5.2f} s"]
        for name, (unit, value, wanted) in record.traces.items():
            asked = "" if wanted is None else f" of {wanted[k, robot]:+.2f}"
            lines.append(f"{name} {value[k, robot]:+.2f}{asked} {unit}")
        yield renderer.frame(record.qpos[k, robot], lines, record.placed_at(k, robot))
