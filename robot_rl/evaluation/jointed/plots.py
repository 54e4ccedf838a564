"""Pictures of how a robot with joints moved: gait, joints and their limits, torques and what drives can give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.evaluation.jointed.evaluate import VariantResult
from robot_rl.evaluation.jointed.rollout import Recording
from robot_rl.evaluation.plots import COLOURS, GRID, INK, styled_figure
from robot_rl.evaluation.report import share

if TYPE_CHECKING:
    from robot_rl.sim.articulated.jointed_robot import JointedRobot

GAIT_SECONDS = 4.0  # shown in a gait diagram: long enough for several steps, short enough to see them


@dataclass(frozen=True)
class Gait:
    """Of one foot over one episode: share of time on the ground, and touch-downs per second."""

    duty: float
    frequency: float


def gaits(touching: NDArray[np.bool_], dt: float) -> list[Gait]:
    """Gait of each foot from its contact (T, F), one sample per `dt` s; contact at the very start is no touch-down."""
    landed = touching[1:] & ~touching[:-1]
    span = max(len(touching) - 1, 1) * dt
    return [Gait(float(touching[:, i].mean()), float(landed[:, i].sum() / span)) for i in range(touching.shape[1])]


def save_plots(results: Sequence[VariantResult], robot: JointedRobot, limits: NDArray[Any], folder: Path) -> list[Path]:
    """Everything there is data for, of the first variant that was played; a comparison where there are several.

    Args:
        limits: (J, 2) rad, the joints' ranges.
    """
    played = [r for r in results if r.recording is not None]
    if not played:
        return []
    record, title = played[0].recording, played[0].title
    assert record is not None
    written = []
    if record.touching.shape[2] > 0:
        written.append(plot_gait(record, robot.feet, folder / "gait.png", title))
    written.append(plot_joints(record, robot.joints, limits, folder / "joints.png", title))
    written.append(plot_torques(record, robot, folder / "torques.png", title))
    if record.traces:
        written.append(plot_traces(record, folder / "tracking.png", title))
    if len(played) > 1:
        written.append(plot_variants(played, folder / "variants.png"))
    return written


def plot_gait(record: Recording, feet: Sequence[str], path: Path, title: str) -> Path:
    """Which foot is on the ground when, from the middle of the longest episode, with duty factor and step frequency."""
    robot = longest(record)
    touching = record.touching[: record.steps(robot), robot]
    found = gaits(touching, record.dt)
    shown = min(len(touching), round(GAIT_SECONDS / record.dt))
    start = (len(touching) - shown) // 2
    with styled_figure(1, 1, (9, 0.55 * len(feet) + 1.5)) as (figure, (ax,)):
        for i in range(touching.shape[1]):
            for begin, length in _spans(touching[start : start + shown, i]):
                ax.broken_barh(
                    [((start + begin) * record.dt, length * record.dt)], (i - 0.32, 0.64), color=COLOURS[i % 6]
                )
        labels = [
            f"{foot}\nduty {gait.duty:.2f}, {gait.frequency:.1f} Hz"
            for foot, gait in zip(feet, found, strict=False)
        ]  # fmt: skip
        ax.set_yticks(range(len(labels)), labels)
        ax.set(xlabel="time [s]", ylim=(len(labels) - 0.5, -0.5), xlim=(start * record.dt, (start + shown) * record.dt))
        ax.grid(axis="y", visible=False)
        ax.set_title(f"foot contact: {title}")
        figure.savefig(path)
    return path


def plot_joints(record: Recording, names: Sequence[str], limits: NDArray[Any], path: Path, title: str) -> Path:
    """Joint positions over time against their limits; below each how often it was within 2 % of its range of one."""
    robot, columns = longest(record), 3 if len(names) % 3 == 0 else 4
    pos, rows = record.joint_pos[: record.steps(robot), robot], -(-len(names) // columns)
    times = np.arange(len(pos)) * record.dt
    with styled_figure(rows, columns, (3.4 * columns, 1.7 * rows + 0.6)) as (figure, axes):
        for i, ax in enumerate(axes):
            if i >= len(names):
                ax.set_visible(False)
                continue
            low, high = limits[i]
            every = record.joint_pos[:, :, i][record.alive]
            near = 0.02 * (high - low)
            share_near = float(((every < low + near) | (every > high - near)).mean())
            ax.axhspan(low, high, color=GRID, alpha=0.4)
            ax.axhline(low, color=COLOURS[1], linewidth=0.8)
            ax.axhline(high, color=COLOURS[1], linewidth=0.8)
            ax.plot(times, pos[:, i], color=COLOURS[0], linewidth=0.7)
            ax.set_title(f"{names[i]}, at a limit {100 * share_near:.1f} %", fontsize=8)
        figure.suptitle(f"joint positions [rad or m] over time [s]: {title}")
        figure.savefig(path)
    return path


def plot_torques(record: Recording, robot: JointedRobot, path: Path, title: str) -> Path:
    """Torque against speed at the end of each control step, all recorded robots, with what the drive can give.

    Where the simulator has the drives built in (hands and arms), targets are all that is known: they are shown instead.
    """
    joints, columns = len(robot.joints), 3 if len(robot.joints) % 3 == 0 else 4
    rows, known = -(-joints // columns), not robot.builtin_pd
    with styled_figure(rows, columns, (3.2 * columns, 1.9 * rows + 0.6)) as (figure, axes):
        for i, ax in enumerate(axes):
            if i >= min(joints, record.torque.shape[2]):
                ax.set_visible(False)
                continue
            speed, torque = record.joint_vel[:, :, i][record.alive], record.torque[:, :, i][record.alive]
            keep = slice(None, None, max(1, len(speed) // 4000))
            ax.plot(speed[keep], torque[keep], ".", color=COLOURS[0], markersize=1, alpha=0.4, rasterized=True)
            if known:
                _draw_envelope(ax, robot, i, float(np.abs(speed).max(initial=1.0)))
            ax.set_title(robot.joints[i], fontsize=8)
        what = "torque [N m]" if known else "target [rad or m]"
        figure.suptitle(f"{what} over joint speed [rad/s]: {title}")
        figure.savefig(path)
    return path


def plot_traces(record: Recording, path: Path, title: str) -> Path:
    """What was asked for and what was done, over time, one robot in full and the others faintly."""
    chosen, names = longest(record), list(record.traces)
    with styled_figure(len(names), 1, (9, 1.7 * len(names) + 0.7)) as (figure, axes):
        for ax, name in zip(axes, names, strict=True):
            unit, value, wanted = record.traces[name]
            for robot in range(value.shape[1]):
                steps = record.steps(robot)
                style: Any = {"linewidth": 1.0} if robot == chosen else {"linewidth": 0.3, "alpha": 0.15}
                ax.plot(np.arange(steps) * record.dt, value[:steps, robot], color=COLOURS[0], **style)
            if wanted is not None:
                steps = record.steps(chosen)
                ax.plot(np.arange(steps) * record.dt, wanted[:steps, chosen], color=COLOURS[1], linewidth=1.2)
            ax.set_ylabel(f"{name} [{unit}]")
        axes[-1].set_xlabel("time [s]")
        figure.suptitle(f"asked for (orange) and done (blue): {title}")
        figure.savefig(path)
    return path


def plot_variants(played: Sequence[VariantResult], path: Path) -> Path:
    """Success and each metric, variant by variant, with intervals."""
    first = played[0].summary
    assert first is not None
    names = ["success", *first.metrics]
    with styled_figure(1, len(names), (2.6 * len(names) + 1.5, 0.34 * len(played) + 1.4)) as (figure, axes):
        for k, (ax, name) in enumerate(zip(axes, names, strict=True)):
            for row, result in enumerate(played):
                s = result.summary
                found = None if s is None else s.success if name == "success" else s.metrics.get(name)
                if found is None:
                    continue
                ax.plot([found.lower, found.upper], [row, row], color=COLOURS[0], linewidth=2)
                ax.plot(found.value, row, "o", color=COLOURS[0], markersize=4)
            ax.set_yticks(range(len(played)), [r.title for r in played] if k == 0 else [""] * len(played))
            ax.set_ylim(len(played) - 0.5, -0.5)
            ax.set_title(name.replace("_", " "))
        figure.suptitle(f"success as trained {share(first.success)}")
        figure.savefig(path)
    return path


def longest(record: Recording) -> int:
    """The first robot with the longest episode: the one that films and plots show."""
    return int(np.argmax(record.alive.sum(axis=0)))


def _spans(on: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(begin, length) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(int)))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _draw_envelope(ax: Any, robot: JointedRobot, i: int, fastest: float) -> None:
    """The torques that the drive can give at each speed, from the equation that the simulation uses."""
    from robot_rl.sim.articulated.actuators import pd_torque

    top = robot.no_load_speed[i] if np.isfinite(robot.no_load_speed[i]) else 1.1 * fastest
    speed = np.linspace(-top, top, 201)
    limit, stall, no_load = robot.torque_limit[i], robot.stall_torque[i], robot.no_load_speed[i]
    for sign in (1.0, -1.0):
        # Asked for more than it has, a drive gives all it has.
        edge = pd_torque(np, sign * 1e6, 0.0, speed, 1.0, 0.0, limit, _finite_stall(stall), no_load)
        ax.plot(speed, edge, color=COLOURS[1], linewidth=0.9)
    ax.axhline(0, color=INK, linewidth=0.4)


def _finite_stall(stall: float) -> float:
    return stall if np.isfinite(stall) else 1e9
