"""Scripted expert for panda-push: over the cube to the side away from the target, down, push along the line between."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot_rl.policies.base.panda.arm import Floats
from robot_rl.policies.base.panda.expert import PandaExpert, Wish, planar

_BEHIND = 0.055  # m from the middle of the cube to where the gripper comes down
_CLEAR, _LOW = 0.085, 0.022  # m above the table: over the cube, and to push it
_BESIDE = 0.014  # m beside the line: further, and the cube would slip away
_ARRIVED = 0.008  # m


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
        low = ee[:, 2] < _LOW + 0.015
        pushing = low & (ahead < -0.012) & (np.abs(beside) < _BESIDE)

        # A push: forward as far as is missing, back to the line at the same time.
        forward = np.clip(missing, 0.0, 0.03)[:, None] * along - 1.0 * beside[:, None] * across
        forward[:, 2] = _LOW - ee[:, 2]

        place = cube - _BEHIND * along
        off = planar(place - ee)
        place[:, 2] = np.where(off < 0.012, _LOW, _CLEAR)
        around = place - ee
        # Up first, then sideways: never through the cube.
        around[:, :2] *= ((ee[:, 2] > _CLEAR - 0.025) | (off < 0.012))[:, None]
        move = np.where(pushing[:, None], forward, around)
        move = np.where((missing < _ARRIVED)[:, None], 0.0, move)
        zero = np.zeros(len(ee))
        return Wish(move, zero, zero)


BASE = PandaPush
