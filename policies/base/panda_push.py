"""Scripted expert for panda-push: over the cube to the side away from the target, down, push along the line between."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot_rl.policies.base.panda.arm import Floats
from robot_rl.policies.base.panda.expert import PandaExpert, Wish, planar

_BEHIND = 0.055  # m from the middle of the cube to where the gripper comes down
_CLEAR, _LOW = 0.085, 0.018  # m above the table: over the cube, and to push it
_ON_LINE, _BESIDE, _FAR_BESIDE = 0.004, 0.013, 0.04  # m beside the line: to start pushing, to stop, to start anew
_FREE = 0.044  # m from the middle of the cube: no contact
_APART = 0.042  # m: the fingers do not touch the cube
_ARRIVED = 0.016  # m


class PandaPush(PandaExpert):
    """See the module docstring."""

    def wish(self, s: Mapping[str, Floats]) -> Wish:
        ee, cube, way = s["ee_pos_w"], s["object_pos_w"], s["target_pos_w"] - s["object_pos_w"]
        way = way * (1.0, 1.0, 0.0)
        missing = planar(way)
        along = way / np.maximum(missing, 1e-6)[:, None]
        across = np.stack([-along[:, 1], along[:, 0], np.zeros(len(ee))], axis=1)
        beside = np.sum((ee - cube) * across, axis=1)
        ahead = np.sum((ee - cube) * along, axis=1)
        low = ee[:, 2] < _LOW + 0.02
        pushing = low & (ahead < -0.012) & (np.abs(beside) < _FAR_BESIDE)

        # Forward on the line; off the line it leaves the cube alone first, because fingers that slide along its side
        # would take it with them.
        touching = ahead > -_FREE
        straight = np.abs(beside) < np.where(touching, _BESIDE, _ON_LINE)
        pace = np.where(straight, np.clip(0.5 * missing, 0.006, 0.02), np.where(touching, -0.02, 0.0))
        sideways = np.where(straight | touching, 0.0, -beside)
        forward = pace[:, None] * along + sideways[:, None] * across
        forward[:, 2] = np.clip(_LOW - ee[:, 2], -0.01, 0.002)

        place = cube - _BEHIND * along
        off = planar(place - ee)
        down = off < np.where(ee[:, 2] < _CLEAR - 0.025, 0.035, 0.012)
        place[:, 2] = np.where(down, _LOW, _CLEAR)
        around = place - ee
        # Away from the cube, up, then sideways: never through the cube, and never lifting it by its side.
        below = (ee[:, 2] < _CLEAR - 0.025) & ~down
        apart = (ee - cube) * (1.0, 1.0, 0.0)
        gap = planar(apart)
        leave = 0.02 * apart / np.maximum(gap, 1e-3)[:, None]
        leave[:, 2] = np.where(gap > _APART, _CLEAR - ee[:, 2], 0.0)
        around = np.where(below[:, None], leave, around)
        move = np.where(pushing[:, None], forward, around)
        move = np.where((missing < _ARRIVED)[:, None], 0.0, move)
        zero = np.zeros(len(ee))
        return Wish(move, zero, zero)


BASE = PandaPush
