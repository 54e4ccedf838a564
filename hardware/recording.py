"""What one run leaves behind: every tick in arrays, how it ended, and the few figures that sum it up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.hardware.control_loop import Snapshot
from robot_rl.hardware.monitors import to_body
from robot_rl.hardware.setpoints import PoseSetpoint, VelocitySetpoint
from robot_rl.hardware.supervisor import Transition
from robot_rl.hardware.supervisor_config import RobotState

Log = NDArray[np.float64]


@dataclass(frozen=True)
class RunResult:
    """One mission; T ticks, K command elements, J joints. What a robot does not have is NaN, or has no columns.

    Attributes:
        time: (T,) s from the first tick. state: T states.
        pos_w, target_pos_w: (T, 3) m, as measured and as asked for, of a flying robot, or of the gripper or object that
            goals are about. quat_wxyz, target_quat_wxyz: (T, 4) likewise; nothing else is asked for an attitude.
        joint_pos: (T, J) rad. command: (T, K), NaN while joints are damped.
        velocity, target_velocity: (T, 3) forward and sideways m/s, yaw rate rad/s in the body, as measured where there
            is odometry and as asked for of a robot that walks.
        measured: (T,) bool, the ticks that count for the error: on the mission's course, after the first 2 s of it.
        success: the mission was done to its end and the robot has landed or lies.
        outcome: in words, with the cause when it failed.
        transitions: every change of state. stats: timing and counts, see `LoopStats.summary`.
    """

    time: Log
    pos_w: Log
    target_pos_w: Log
    quat_wxyz: Log
    target_quat_wxyz: Log
    joint_pos: Log
    velocity: Log
    target_velocity: Log
    command: Log
    state: tuple[RobotState, ...]
    measured: NDArray[np.bool_]
    success: bool
    outcome: str
    transitions: tuple[Transition, ...]
    stats: dict[str, float]

    @property
    def errors(self) -> Log:
        """Distances to the reference position in the measured ticks, m; NaN for a robot that walks or gets goals."""
        if self.goals:
            return np.full(int(self.measured.sum()), np.nan)
        return np.linalg.norm(self.pos_w - self.target_pos_w, axis=1)[self.measured]

    @property
    def velocity_errors(self) -> Log:
        """Distances to the asked velocity in the measured ticks, m/s, without the turning; NaN for one that flies."""
        return np.linalg.norm((self.velocity - self.target_velocity)[:, :2], axis=1)[self.measured]

    @property
    def goals(self) -> list[dict[str, float]]:
        """What was left of each goal when the next one came or the policy stopped leading: m, rad, or both.

        Before the first goal the robot was asked to stay: that counts only where no other goal came.
        """
        asked = np.nan_to_num(np.column_stack([self.target_pos_w, self.target_quat_wxyz]))
        running = np.array([state is RobotState.RUNNING for state in self.state], bool) & asked.any(1)
        following = np.append(running[1:] & (asked[1:] == asked[:-1]).all(1), False)
        last = np.flatnonzero(running & ~following).tolist()
        return [self._left(tick) for tick in (last[1:] or last)]

    def _left(self, tick: int) -> dict[str, float]:
        pos, quat = self.target_pos_w[tick], self.target_quat_wxyz[tick]
        distance = {"m": float(np.linalg.norm(self.pos_w[tick] - pos))} if np.isfinite(pos).all() else {}
        cosine = min(abs(float(np.dot(self.quat_wxyz[tick], quat))), 1.0)
        return distance | ({"rad": 2.0 * math.acos(cosine)} if np.isfinite(quat).all() else {})

    def summary(self) -> dict[str, Any]:
        """What to print, or to write as JSON; None for what there is not."""
        errors, slips = self.errors, self.velocity_errors
        figures = {
            "rmse_m": _rms(errors),
            "max_error_m": _finite(np.max(errors, initial=-np.inf)),
            "velocity_rmse_m_s": _rms(slips),
            "flown_s": float(self.time[-1] - self.time[0]) if len(self.time) else 0.0,
        }
        history = [f"{t.time:.2f} s {t.after.value}: {t.cause}" for t in self.transitions]
        told = {"goals": self.goals} if self.goals else {}
        return {
            "success": self.success, "outcome": self.outcome, **figures, **told, "states": history, "loop": self.stats,
        }  # fmt: skip


class Recorder:
    """Keeps what each tick left behind.

    Attributes:
        measuring: whether ticks count for the error now.
    """

    def __init__(self, on_progress: Callable[[Snapshot], None] | None) -> None:
        self._snapshots: list[Snapshot] = []
        self._measured: list[bool] = []
        self._on_progress = on_progress
        self.measuring = False

    def add(self, snapshot: Snapshot) -> None:
        """Take in one tick."""
        self._snapshots.append(snapshot)
        self._measured.append(self.measuring and snapshot.state in (RobotState.FLYING, RobotState.RUNNING))
        if self._on_progress is not None:
            self._on_progress(snapshot)

    def result(
        self, success: bool, outcome: str, transitions: Sequence[Transition], stats: Mapping[str, float]
    ) -> RunResult:
        """Everything in arrays."""
        kept = [s for s in self._snapshots if s.setpoint is not None]
        start = kept[0].time if kept else 0.0

        def column(values: list[Any], width: int) -> Log:
            return np.asarray(values, np.float64).reshape(len(kept), width)

        def sensed(name: str, width: int) -> Log:
            return column([s.signals.get(name, np.full(width, np.nan)) for s in kept], width)

        commands = [np.concatenate([np.ravel(v) for v in s.command.values()] or [np.zeros(0)]) for s in kept]
        width = max((len(c) for c in commands), default=0)
        joints = max((s.signals["joint_pos"].size for s in kept if "joint_pos" in s.signals), default=0)
        return RunResult(
            time=column([s.time - start for s in kept], 1)[:, 0],
            pos_w=column([_measured(s, "pos_w", 3) for s in kept], 3),
            target_pos_w=column([_asked(s, "pos_w", 3) for s in kept], 3),
            quat_wxyz=column([_measured(s, "quat_wxyz", 4) for s in kept], 4),
            target_quat_wxyz=column([_asked(s, "quat_wxyz", 4) for s in kept], 4),
            joint_pos=sensed("joint_pos", joints),
            velocity=column([_velocity(s.signals) for s in kept], 3),
            target_velocity=column([_asked_velocity(s) for s in kept], 3),
            command=column([c if len(c) == width else np.full(width, np.nan) for c in commands], width),
            state=tuple(s.state for s in kept),
            measured=np.asarray(self._measured[: len(kept)], bool),
            success=success,
            outcome=outcome,
            transitions=tuple(replace(t, time=t.time - start) for t in transitions),
            stats=dict(stats),
        )


def _asked(snapshot: Snapshot, name: str, width: int) -> Log:
    setpoint = snapshot.setpoint
    ignored = isinstance(setpoint, PoseSetpoint) and f"target_{name}" not in setpoint.reads
    return np.full(width, np.nan) if ignored else np.asarray(getattr(setpoint, name, np.full(width, np.nan)))


def _measured(snapshot: Snapshot, name: str, width: int) -> Log:
    about = snapshot.setpoint.about if isinstance(snapshot.setpoint, PoseSetpoint) else "base"
    return np.asarray(snapshot.signals.get(f"{about}_{name}", np.full(width, np.nan)), np.float64)


def _asked_velocity(snapshot: Snapshot) -> Log:
    asked = snapshot.setpoint
    return np.append(asked.lin_vel_b, asked.yaw_rate) if isinstance(asked, VelocitySetpoint) else np.full(3, np.nan)


def _velocity(signals: Mapping[str, NDArray[np.float32]]) -> Log:
    if not {"base_quat_wxyz", "base_lin_vel_w", "base_ang_vel_b"} <= set(signals):
        return np.full(3, np.nan)
    linear = to_body(signals["base_quat_wxyz"], signals["base_lin_vel_w"])
    return np.array([linear[0], linear[1], float(signals["base_ang_vel_b"][2])])


def _rms(errors: Log) -> float | None:
    return _finite(np.sqrt(np.mean(errors**2))) if len(errors) else None


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
