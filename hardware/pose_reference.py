"""The reference of an arm or a hand: a pose for its gripper, or for the object that it handles, until the next one.

Pure: no clock, no driver. A new goal counts at once: policies that handle things are trained on goals that jump.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.hardware.setpoints import PoseSetpoint, ReferenceLimits, Vector
from robot_rl.protocols import Array
from robot_rl.signals import POSE_TARGETS


class PoseReference:
    """Holds the newest goal within the box of `limits`.

    Attributes:
        about: "object" or "ee", the gripper: whose pose is asked for.
        reads: which of `POSE_TARGETS` the policy looks at.
        current: the goal; before the first one, where the object or the gripper was.
    """

    def __init__(self, names: Iterable[str], limits: ReferenceLimits | None = None) -> None:
        """`names`: of all signals that the policy reads."""
        known = set(names)
        self.about = "object" if known & {"object_pos_w", "object_quat_wxyz"} else "ee"
        self.reads = frozenset(known & set(POSE_TARGETS))
        limits = limits or ReferenceLimits()
        self._lower, self._upper = np.asarray(limits.box_lower), np.asarray(limits.box_upper)
        self.current = PoseSetpoint(np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]), self.about, self.reads)

    def rest(self, signals: Mapping[str, Array]) -> PoseSetpoint:
        """While the policy does not lead: what is asked for is what is there."""
        pos, quat = signals.get(f"{self.about}_pos_w"), signals.get(f"{self.about}_quat_wxyz")
        now = self.current
        self.current = PoseSetpoint(
            now.pos_w if pos is None else pos.astype(np.float64),
            now.quat_wxyz if quat is None else quat.astype(np.float64),
            self.about,
            self.reads,
        )
        return self.current

    def aim(self, pos_w: Vector, quat_wxyz: Vector | None = None) -> Vector:
        """Ask for (3,) m in the world and an attitude (4,), by default the present goal's; returns the place taken.

        Raises:
            ConfigError: not finite, or no rotation.
        """
        pos = np.asarray(pos_w, np.float64)
        quat = self.current.quat_wxyz if quat_wxyz is None else np.asarray(quat_wxyz, np.float64)
        length = float(np.linalg.norm(quat)) if quat.shape == (4,) else 0.0
        if pos.shape != (3,) or not np.isfinite(pos).all() or not math.isfinite(length) or abs(length - 1.0) > 0.01:
            raise ConfigError(f"goal {pos.tolist()} m, {quat.tolist()}: it must be 3 finite m and a unit quaternion")
        taken = np.clip(pos, self._lower, self._upper)
        self.current = PoseSetpoint(taken, quat / length, self.about, self.reads)
        return taken

    def halt(self) -> None:
        """The present goal stays."""

    def step(self, dt: float) -> PoseSetpoint:
        """The goal `dt` s later: the same."""
        del dt
        return self.current
