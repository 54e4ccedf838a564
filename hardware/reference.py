"""The flight reference generator: position, velocity, acceleration and yaw that never jump, whatever is asked for.

The reference is a path plus a gap. The path is what was asked for: rest at a goal, a figure-eight, a streamed
set-point. The gap is what the reference was away from it at the moment of asking. A point moves straight from the gap
to zero at the speed limit and three equal first-order filters smooth it. Their kernel is positive with unit area, so
towards a goal the reference is a weighted mean of places that point has been: no overshoot, no way out of a convex box,
and for every sequence of goals that starts from rest |v| ≤ max_speed and |a| ≤ max_acceleration. Switching keeps
position, velocity and acceleration.

Pure: no clock, no driver; the caller says how much time has passed.
"""

from __future__ import annotations

import math

import numpy as np

from robot_rl.hardware.setpoints import Path, ReferenceLimits, Rest, Setpoint, StreamedPoint, Vector


def wrap_angle(angle: float) -> float:
    """The same angle in [−π, π)."""
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


class FlightReference:
    """Moves the reference from where it is to what was asked for last, within `limits`.

    After `start_at` it rests there; `go_to`, `take_off`, `land`, `follow` and `stream` may be called at any time, in
    any order.
    """

    def __init__(self, limits: ReferenceLimits | None = None) -> None:
        self.limits = limits or ReferenceLimits()
        self._lower = np.asarray(self.limits.box_lower, np.float64)
        self._upper = np.asarray(self.limits.box_upper, np.float64)
        self._tau = self.limits.filter_tau
        self.start_at(np.clip(np.zeros(3), self._lower, self._upper), 0.0)

    def start_at(self, pos_w: Vector, yaw: float) -> Setpoint:
        """Rest at (3,) `pos_w` m in the world, which may lie outside the box: on the ground, for example."""
        pos = np.asarray(pos_w, np.float64).copy()
        self._path: Path = Rest(_triple(pos))
        self._path_time = 0.0
        self._speed = self.limits.max_speed
        self._point = np.zeros(3)
        self._stages = np.zeros((3, 3))  # one row per filter, the reference's gap in the last
        self._yaw_goal = float(yaw)
        self._floor = self._lower.copy()
        self.current = Setpoint(pos, np.zeros(3), np.zeros(3), float(yaw))
        return self.current

    def go_to(self, pos_w: Vector, yaw: float | None = None, speed: float | None = None) -> Vector:
        """Approach (3,) `pos_w` m; returns the goal really taken: the nearest one in the box."""
        goal = np.clip(np.asarray(pos_w, np.float64), self._lower, self._upper)
        self._switch(Rest(_triple(goal)), yaw, speed, self._lower)
        return goal

    def hold(self) -> Vector:
        """Come to rest as soon as the filters can, straight ahead; returns the place."""
        return self.go_to(self._stopping_place())

    def take_off(self, height: float) -> Vector:
        """Rise straight to `height` m in the world; returns the goal."""
        goal = self.current.pos_w.copy()
        goal[2] = height
        return self.go_to(goal, None, self.limits.take_off_speed)

    def land(self, ground: float) -> Vector:
        """Sink straight to a little below `ground` m in the world; returns the goal."""
        goal = np.clip(self._stopping_place(), self._lower, self._upper)
        goal[2] = ground - self.limits.landing_depth
        self._switch(Rest(_triple(goal)), None, self.limits.landing_speed, np.minimum(self._lower, goal))
        return goal

    def follow(self, path: Path, yaw: float | None = None) -> None:
        """Follow `path` from its start; the present gap to it closes without a jump."""
        self._switch(path, yaw, None, self._lower)

    def stream(self, point: StreamedPoint, yaw: float | None = None, age: float = 0.0) -> None:
        """Follow the newest streamed set-point, held in the box; where it jumps, the reference catches up smoothly.

        Args:
            age: seconds since the moment the set-point was meant for.
        """
        inside = np.clip(np.asarray(point.pos_w), self._lower, self._upper)
        held = point if np.array_equal(inside, point.pos_w) else StreamedPoint(_triple(inside))
        self._switch(held, yaw, None, self._lower, age)

    @property
    def goal(self) -> Vector | None:
        """The goal being approached, (3,) m, or None while a moving path is followed."""
        return np.asarray(self._path.pos_w, np.float64) if isinstance(self._path, Rest) else None

    def distance_to_goal(self) -> float:
        """Metres between the reference and its goal; infinite while a moving path is followed."""
        goal = self.goal
        return math.inf if goal is None else float(np.linalg.norm(goal - self.current.pos_w))

    def step(self, dt: float) -> Setpoint:
        """The reference `dt` s later."""
        if not 0.0 <= dt < math.inf:
            raise ValueError(f"dt = {dt} s: must be finite and not negative")
        self._path_time += dt
        if isinstance(self._path, StreamedPoint) and self._path_time > self._path.horizon:
            self.hold()
        pos, vel, acc = self._path.sample(self._path_time)
        gap, rate, curve = self._step_gap(dt)
        pos, vel, acc = pos + gap, vel + rate, acc + curve
        # Only a path or a start outside the box can be out here; coming back in is allowed, going further out is not.
        before = self.current.pos_w
        inside = np.clip(pos, np.minimum(self._floor, before), np.maximum(self._upper, before))
        out = inside != pos
        if out.any():
            self._shift_gap(np.where(out, pos - inside, 0.0), np.where(out, vel, 0.0), np.where(out, acc, 0.0))
            pos, vel, acc = inside, np.where(out, 0.0, vel), np.where(out, 0.0, acc)
        turn = self.limits.max_yaw_rate * dt
        change = min(max(wrap_angle(self._yaw_goal - self.current.yaw), -turn), turn)
        self.current = Setpoint(pos, vel, acc, wrap_angle(self.current.yaw + change))
        return self.current

    def _stopping_place(self) -> Vector:
        """Where the filters come to rest without turning back."""
        now, tau = self.current, self._tau
        return now.pos_w + 2.0 * tau * now.lin_vel_w + tau**2 * now.lin_acc_w

    def _switch(self, path: Path, yaw: float | None, speed: float | None, floor: Vector, age: float = 0.0) -> None:
        """Move what the new path differs from the old one into the gap: the sum, and so the reference, stays."""
        old, new = self._path.sample(self._path_time), path.sample(age)
        jump, jump_vel, jump_acc = (b - a for a, b in zip(old, new, strict=True))
        if isinstance(self._path, StreamedPoint) and isinstance(path, StreamedPoint):
            # A stream is known piecewise, at constant acceleration: smoothing each step of it would lag by τ³ · jerk.
            jump_acc = np.zeros(3)
        self._shift_gap(jump, jump_vel, jump_acc)
        self._point = self._point - jump
        self._path, self._path_time, self._floor = path, age, floor.copy()
        self._speed = min(speed or self.limits.max_speed, self.limits.max_speed)
        if yaw is not None:
            self._yaw_goal = float(yaw)

    def _shift_gap(self, pos: Vector, vel: Vector, acc: Vector) -> None:
        """Take (3,) position, velocity and acceleration off the gap, by setting the filters accordingly."""
        second = pos + self._tau * vel
        first = self._tau**2 * acc + 2.0 * second - pos
        self._stages = self._stages - np.stack([first, second, pos])

    def _step_gap(self, dt: float) -> tuple[Vector, Vector, Vector]:
        start, distance, reach = self._point, float(np.linalg.norm(self._point)), self._speed * dt
        self._point = np.zeros(3) if distance <= reach else start * (1.0 - reach / distance)
        self._stages = _filtered(self._stages, start, self._point, dt, self._tau)
        first, second, third = self._stages
        return third, (second - third) / self._tau, (first - 2.0 * second + third) / self._tau**2


def _triple(vector: Vector) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in vector)
    return x, y, z


def _filtered(stages: Vector, start: Vector, end: Vector, dt: float, tau: float) -> Vector:
    """Three equal first-order filters after `dt` s of an input going straight from `start` to `end`: the exact
    solution.

    Args:
        stages: (3, 3), one row per filter, first filter first.
    """
    if dt == 0.0:
        return stages
    # On the ramp u the filters settle at u−τu̇, u−2τu̇, u−3τu̇; what they differ from that decays freely.
    lags = np.arange(1, 4)[:, None] * ((end - start) * (tau / dt))[None, :]
    free = stages - (start - lags)
    x = dt / tau
    moved = np.stack([free[0], free[1] + x * free[0], free[2] + x * free[1] + 0.5 * x * x * free[0]])
    return moved * math.exp(-x) + (end - lags)
