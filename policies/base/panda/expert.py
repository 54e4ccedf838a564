"""The frame of a scripted expert: from signals to a wish for the gripper, from there to actions or commands.

Experts remember nothing: what to do next follows from where things are. So they need no word about new episodes, may
take over at any moment, and may be asked what they would have done in states that somebody else reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_rl.policies.base.panda.arm import WIDTH, Floats, forward, heading_of, joint_targets

Array = NDArray[np.float32]

STEP_SIZE, TURN_SIZE = 0.05, 0.2
"""m and rad that action 1 stands for: those of the tasks."""
LOWEST = 0.014
"""m: the gripper's targets stay above it, as the tasks have it."""


@dataclass
class Wish:
    """What an expert wants of the gripper; N arms.

    Attributes:
        move: (N, 3) m from where it is, world. turn: (N,) rad about the vertical. width: (N,) m between the pads.
    """

    move: Floats
    turn: Floats
    width: Floats


class PandaExpert:
    """A `BasePolicy`; a subclass defines `wish`. `turns` and `grips` as in its task's actions."""

    memoryless = True  # so its actions may be asked for without its commands, and for many robots at once
    turns, grips = False, False
    lowest = LOWEST

    def reset(self, num_envs: int = 1) -> None:
        """Nothing is remembered."""
        del num_envs

    def wish(self, s: Mapping[str, Floats]) -> Wish:
        """Signals (N, …) in float64 → what the gripper should do now."""
        raise NotImplementedError(f"{type(self).__name__} must define wish(signals)")

    def action(self, signals: Mapping[str, NDArray[np.floating]]) -> Array:
        """The task's action (N, A) in [−1, 1] for the same step: for demonstrations and residual learning."""
        wish = self.wish({k: np.asarray(v, dtype=np.float64) for k, v in signals.items()})
        parts = [_limited(wish.move) / STEP_SIZE]
        if self.turns:
            parts.append(np.clip(wish.turn / TURN_SIZE, -1.0, 1.0)[:, None])
        if self.grips:
            parts.append(np.clip(2.0 * wish.width / WIDTH - 1.0, -1.0, 1.0)[:, None])
        return np.concatenate(parts, axis=1).astype(np.float32)

    def act(self, signals: Mapping[str, NDArray[np.floating]], instruction: str | None = None) -> dict[str, Array]:
        """joint_pos_target (N, 7) rad and gripper_width_target (N, 1) m."""
        del instruction
        wish = self.wish({k: np.asarray(v, dtype=np.float64) for k, v in signals.items()})
        q = np.asarray(signals["joint_pos"], dtype=np.float64)
        pos, rot, _ = forward(q)
        place = pos + _limited(wish.move)
        place[:, 2] = np.maximum(place[:, 2], self.lowest)
        heading = np.zeros(len(q))
        if self.turns:
            heading = np.arctan2(rot[:, 1, 0], rot[:, 0, 0]) + np.clip(wish.turn, -TURN_SIZE, TURN_SIZE)
        targets = joint_targets(q, place, heading)
        width = np.clip(wish.width, 0.0, WIDTH)[:, None]
        return {
            "joint_pos_target": targets.astype(np.float32),
            "gripper_width_target": width.astype(np.float32),
        }


def turn_to(body: Floats, gripper: Floats, fold: int) -> Floats:
    """(N,) rad that the gripper must turn to be aligned with a body of `fold`-fold symmetry; quaternions (N, 4)."""
    step = 2.0 * np.pi / fold
    return np.mod(heading_of(body) - heading_of(gripper) + 0.5 * step, step) - 0.5 * step


def planar(vector: Floats) -> Floats:
    """(N,) horizontal length of (N, 3)."""
    return np.linalg.norm(vector[:, :2], axis=1)


def raised(point: Floats, height: Floats | float) -> Floats:
    """Points (N, 3), higher by `height` m."""
    out = np.array(point)
    out[:, 2] += height
    return out


def _limited(move: Floats) -> Floats:
    """Each axis within what one action can do; the direction is kept."""
    longest = np.abs(move).max(axis=1, keepdims=True)
    return move * (STEP_SIZE / np.maximum(longest, STEP_SIZE))
