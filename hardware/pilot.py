"""What people and planners may ask of a flying robot, from any thread: each request is answered with yes, or no and
why.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np

from robot_rl.hardware.clock import Clock
from robot_rl.hardware.reference import FlightReference
from robot_rl.hardware.setpoints import FigureEight, ReferenceLimits, StreamedPoint
from robot_rl.hardware.supervisor import Answer, Supervisor, Transition


class Pilot:
    """Requests to one supervisor and one reference. The lock is the control loop's; it is never held for long.

    Attributes:
        reference: the reference generator, moved on by the control loop.
    """

    def __init__(self, supervisor: Supervisor, limits: ReferenceLimits, clock: Clock, lock: threading.Lock) -> None:
        self._supervisor, self._limits, self._clock, self._lock = supervisor, limits, clock, lock
        self.reference = FlightReference(limits)
        self._link_time: float | None = None
        self._reported = 0

    def heartbeat(self) -> None:
        """The operator's heartbeat. From the first one on, silence while armed or flying means that the link is lost.

        Streamed set-points count as heartbeats; single goals do not, for nobody has to follow them by more.
        """
        self._link_time = self._clock.now()

    def link_age(self, now: float) -> float | None:
        """Seconds since the last message of the operator; None before the first."""
        last = self._link_time
        return None if last is None else max(now - last, 0.0)

    def arm(self) -> Answer:
        """See `Supervisor.arm`. A link that fell silent before does not count."""
        with self._lock:
            now = self._clock.now()
            age = self.link_age(now)
            present = age is not None and age <= self._supervisor.config.command_timeout
            if not present:
                self._link_time = None
            self._supervisor.active.pop("command_link", None)
            return self._supervisor.arm(now, link_present=present)

    def disarm(self) -> Answer:
        """See `Supervisor.disarm`."""
        with self._lock:
            return self._supervisor.disarm(self._clock.now())

    def take_off(self) -> Answer:
        """See `Supervisor.take_off`."""
        with self._lock:
            return self._supervisor.take_off(self._clock.now())

    def land(self, cause: str = "requested") -> Answer:
        """See `Supervisor.land`."""
        with self._lock:
            return self._supervisor.land(self._clock.now(), cause)

    def emergency_stop(self, cause: str = "emergency stop") -> Answer:
        """Motors idle from the next tick on, from any state."""
        with self._lock:
            return self._supervisor.emergency_stop(self._clock.now(), cause)

    def go_to(self, pos_w: Sequence[float], yaw: float | None = None) -> Answer:
        """Fly to (3,) m in the world; a goal outside the box is replaced by the nearest one inside."""
        wanted = _finite((*pos_w, 0.0 if yaw is None else yaw), 4)
        if wanted is None:
            return Answer(False, f"goal {list(pos_w)} m, yaw {yaw} rad: must be finite")
        with self._lock:
            allowed = self._supervisor.accepts_goals()
            if not allowed.accepted:
                return allowed
            goal = self.reference.go_to(wanted[:3], yaw)
        moved = not np.allclose(goal, wanted[:3])
        return Answer(
            True, f"goal outside the box, flying to {np.round(goal, 3).tolist()} m" if moved else "flying there"
        )

    def stream(
        self,
        pos_w: Sequence[float],
        lin_vel_w: Sequence[float],
        lin_acc_w: Sequence[float],
        yaw: float | None = None,
        age: float = 0.0,
    ) -> Answer:
        """Follow a streamed set-point: (3,) m, m/s, m/s², meant for `age` s ago; send the next one within 0.2 s."""
        self.heartbeat()
        values = _finite((*pos_w, *lin_vel_w, *lin_acc_w, 0.0 if yaw is None else yaw), 10)
        if values is None:
            return Answer(False, "a set-point needs 3 + 3 + 3 finite numbers and a finite yaw")
        speed, acceleration = float(np.linalg.norm(values[3:6])), float(np.linalg.norm(values[6:9]))
        refusal = self._too_fast(speed, acceleration)
        if refusal:
            return Answer(False, refusal)
        x, y, z, vx, vy, vz, ax, ay, az, _ = values.tolist()
        with self._lock:
            allowed = self._supervisor.accepts_goals()
            if allowed.accepted:
                point = StreamedPoint((x, y, z), (vx, vy, vz), (ax, ay, az))
                self.reference.stream(point, yaw, min(max(age, 0.0), point.horizon))
            return allowed

    def figure_eight(self, period: float = 5.5, size: float = 1.0) -> Answer:
        """Fly figure-eights around the present reference until something else is asked for. Raises ConfigError."""
        with self._lock:
            allowed = self._supervisor.accepts_goals()
            if not allowed.accepted:
                return allowed
            x, y, z = self.reference.current.pos_w.tolist()
            path = FigureEight((x, y, z), period, size)
            reach = np.array([size, 0.5 * size, 0.0])
            low, high = self.reference.current.pos_w - reach, self.reference.current.pos_w + reach
            if np.any(low < self._limits.box_lower) or np.any(high > self._limits.box_upper):
                return Answer(False, f"a figure-eight of size {size:g} m around ({x:.2f}, {y:.2f}) m leaves the box")
            refusal = self._too_fast(path.peak_speed, path.peak_acceleration)
            if refusal:
                return Answer(False, refusal)
            self.reference.follow(path)
            return Answer(True, "flying figure-eights")

    def new_transitions(self) -> list[Transition]:
        """Changes of state since the last call, at most the last 100."""
        with self._lock:
            count, kept = self._supervisor.transition_count, list(self._supervisor.transitions)
        fresh = min(count - self._reported, len(kept))
        self._reported = count
        return kept[len(kept) - fresh :]

    def _too_fast(self, speed: float, acceleration: float) -> str:
        limits = self._limits
        if speed > limits.max_path_speed:
            return f"speed {speed:.2f} m/s exceeds max_path_speed {limits.max_path_speed:g} m/s"
        highest = limits.max_path_acceleration
        if acceleration > highest:
            return f"acceleration {acceleration:.2f} m/s^2 exceeds max_path_acceleration {highest:g} m/s^2"
        return ""


def _finite(values: Sequence[float], size: int) -> np.ndarray | None:
    array = np.asarray(values, np.float64)
    return array if array.shape == (size,) and all(math.isfinite(v) for v in array) else None
