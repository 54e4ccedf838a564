"""What people and planners may ask of a robot, from any thread: each request is answered with yes, or no and why."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from robot_rl.errors import ConfigError
from robot_rl.hardware.clock import Clock
from robot_rl.hardware.flying import Flying
from robot_rl.hardware.jointed import Jointed
from robot_rl.hardware.pose_reference import PoseReference
from robot_rl.hardware.reference import FlightReference
from robot_rl.hardware.setpoints import FigureEight, ReferenceLimits, StreamedPoint
from robot_rl.hardware.supervisor import Answer, Supervisor, Transition
from robot_rl.hardware.velocity_reference import VelocityReference


class Pilot:
    """Requests to one supervisor and its robot. The lock is the control loop's; it is never held for long.

    A request that this kind of robot does not know, a goal for one that walks for example, is refused.
    """

    def __init__(self, supervisor: Supervisor, kind: Flying | Jointed, clock: Clock, lock: threading.Lock) -> None:
        self._supervisor, self._kind, self._clock, self._lock = supervisor, kind, clock, lock
        self._link_time: float | None = None
        self._reported = 0

    @property
    def reference(self) -> FlightReference:
        """The reference of a flying robot, moved on by the control loop. Raises ConfigError for another robot."""
        if isinstance(self._kind, Flying):
            return self._kind.reference
        raise ConfigError("only a flying robot has a reference that moves")

    @property
    def poses(self) -> PoseReference | None:
        """The goals of a policy that handles things; None for other policies."""
        asked = self._kind.reference
        return asked if isinstance(asked, PoseReference) else None

    @property
    def flies(self) -> bool:
        """Whether it takes off and follows positions; otherwise it stands up and follows velocities."""
        return isinstance(self._kind, Flying)

    def heartbeat(self) -> None:
        """The operator's heartbeat. From the first one on, silence while armed or flying means that the link is lost.

        Streamed set-points count as heartbeats; single goals and velocities do not: they end, or time out, by
        themselves.
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

    def rise(self) -> Answer:
        """Take off or stand up, see `Supervisor.rise`."""
        with self._lock:
            return self._supervisor.rise(self._clock.now())

    def descend(self, cause: str = "requested") -> Answer:
        """Land or lie down, see `Supervisor.descend`."""
        with self._lock:
            return self._supervisor.descend(self._clock.now(), cause)

    def take_off(self) -> Answer:
        """ARMED → TAKING_OFF."""
        return self.rise() if self.flies else Answer(False, "this robot does not fly; it can stand up")

    def land(self, cause: str = "requested") -> Answer:
        """TAKING_OFF or FLYING → LANDING."""
        return self.descend(cause) if self.flies else Answer(False, "this robot does not fly; it can lie down")

    def stand_up(self) -> Answer:
        """ARMED → STANDING_UP."""
        return Answer(False, "this robot flies; it can take off") if self.flies else self.rise()

    def lie_down(self, cause: str = "requested") -> Answer:
        """STANDING_UP or RUNNING → LYING_DOWN."""
        return Answer(False, "this robot flies; it can land") if self.flies else self.descend(cause)

    def emergency_stop(self, cause: str = "emergency stop") -> Answer:
        """Rotors idle, joints damped from the next tick on, from any state."""
        with self._lock:
            return self._supervisor.emergency_stop(self._clock.now(), cause)

    def go_to(self, pos_w: Sequence[float], yaw: float | None = None) -> Answer:
        """Fly to (3,) m in the world, or bring gripper or object there; outside the box the nearest place inside."""
        if self.poses is not None:
            return self.aim(pos_w)
        wanted = _finite((*pos_w, 0.0 if yaw is None else yaw), 4)
        if wanted is None:
            return Answer(False, f"goal {list(pos_w)} m, yaw {yaw} rad: must be finite")
        with self._lock:
            allowed = self._follows_positions()
            if not allowed.accepted:
                return allowed
            goal = self.reference.go_to(wanted[:3], yaw)
        moved = not np.allclose(goal, wanted[:3])
        return Answer(
            True, f"goal outside the box, flying to {np.round(goal, 3).tolist()} m" if moved else "flying there"
        )

    def aim(self, pos_w: ArrayLike, quat_wxyz: ArrayLike | None = None) -> Answer:
        """Bring gripper or object to (3,) m and attitude (4,) in the world; a place outside the box becomes the nearest
        one inside.
        """
        with self._lock:
            poses = self.poses
            if poses is None:
                return Answer(False, "this robot's policy does not follow poses")
            allowed = self._supervisor.accepts_goals()
            if not allowed.accepted:
                return allowed
            try:
                taken = poses.aim(np.asarray(pos_w), None if quat_wxyz is None else np.asarray(quat_wxyz))
            except ConfigError as error:
                return Answer(False, str(error))
        moved = not np.allclose(taken, np.asarray(pos_w))
        return Answer(True, f"goal outside the box, taken: {np.round(taken, 3).tolist()} m" if moved else "going there")

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
        if not self.flies:
            return self._follows_positions()
        refusal = self._too_fast(self.reference.limits, speed, acceleration)
        if refusal:
            return Answer(False, refusal)
        x, y, z, vx, vy, vz, ax, ay, az, _ = values.tolist()
        with self._lock:
            allowed = self._follows_positions()
            if allowed.accepted:
                point = StreamedPoint((x, y, z), (vx, vy, vz), (ax, ay, az))
                self.reference.stream(point, yaw, min(max(age, 0.0), point.horizon))
            return allowed

    def figure_eight(self, period: float = 5.5, size: float = 1.0) -> Answer:
        """Fly figure-eights around the present reference until something else is asked for. Raises ConfigError."""
        with self._lock:
            allowed = self._follows_positions()
            if not allowed.accepted:
                return allowed
            x, y, z = self.reference.current.pos_w.tolist()
            path = FigureEight((x, y, z), period, size)
            reach = np.array([size, 0.5 * size, 0.0])
            low, high = self.reference.current.pos_w - reach, self.reference.current.pos_w + reach
            if np.any(low < self.reference.limits.box_lower) or np.any(high > self.reference.limits.box_upper):
                return Answer(False, f"a figure-eight of size {size:g} m around ({x:.2f}, {y:.2f}) m leaves the box")
            refusal = self._too_fast(self.reference.limits, path.peak_speed, path.peak_acceleration)
            if refusal:
                return Answer(False, refusal)
            self.reference.follow(path)
            return Answer(True, "flying figure-eights")

    def walk(self, forward: float, sideways: float = 0.0, yaw_rate: float = 0.0) -> Answer:
        """Walk with these velocities in the robot's heading frame, m/s, m/s, rad/s; repeat it before it times out."""
        wanted = _finite((forward, sideways, yaw_rate), 3)
        if wanted is None:
            return Answer(False, f"velocity {(forward, sideways, yaw_rate)}: must be finite")
        with self._lock:
            asked = self._kind.reference
            if not isinstance(asked, VelocityReference):
                follows = "positions" if self.flies else "poses"
                return Answer(False, f"this robot follows {follows}, not velocities")
            allowed = self._supervisor.accepts_goals()
            if not allowed.accepted:
                return allowed
            taken = asked.walk(*wanted.tolist())
        cut = not np.allclose(taken, wanted)
        return Answer(True, f"velocity beyond its limits, taken: {np.round(taken, 3).tolist()}" if cut else "walking")

    def new_transitions(self) -> list[Transition]:
        """Changes of state since the last call, at most the last 100."""
        with self._lock:
            count, kept = self._supervisor.transition_count, list(self._supervisor.transitions)
        fresh = min(count - self._reported, len(kept))
        self._reported = count
        return kept[len(kept) - fresh :]

    def _follows_positions(self) -> Answer:
        if not self.flies:
            follows = "velocities" if self.poses is None else "poses"
            return Answer(False, f"this robot does not fly: it follows {follows}")
        return self._supervisor.accepts_goals()

    @staticmethod
    def _too_fast(limits: ReferenceLimits, speed: float, acceleration: float) -> str:
        if speed > limits.max_path_speed:
            return f"speed {speed:.2f} m/s exceeds max_path_speed {limits.max_path_speed:g} m/s"
        highest = limits.max_path_acceleration
        if acceleration > highest:
            return f"acceleration {acceleration:.2f} m/s^2 exceeds max_path_acceleration {highest:g} m/s^2"
        return ""


def _finite(values: Sequence[float], size: int) -> np.ndarray | None:
    array = np.asarray(values, np.float64)
    return array if array.shape == (size,) and all(math.isfinite(v) for v in array) else None
