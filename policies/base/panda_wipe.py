"""Scripted expert for panda-wipe: above the next point, down until it touches, then along with a steady force."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot_rl.policies.base.panda.arm import Floats
from robot_rl.policies.base.panda.expert import PandaExpert, Wish, planar

_FORCE = 10.0  # N
_STIFFNESS = 2000.0  # N/m of the arm under its joint gains, roughly: how far below the surface the target must be
_GAIN = 0.3  # share of the force's error that one step removes
_TOUCHES = 1.5  # N
_ABOVE, _LANE = 0.03, 0.03  # m: height to travel at; how far beside the next point it may stay down


class PandaWipe(PandaExpert):
    """See the module docstring."""

    lowest = 0.03

    def wish(self, s: Mapping[str, Floats]) -> Wish:
        move, force = s["target_pos_w"] - s["ee_pos_w"], -s["ee_force_b"][:, 2]
        height, off = -move[:, 2], planar(move)
        touching = (force > _TOUCHES) & (height < 0.01)
        press = -(_FORCE + _GAIN * (_FORCE - force)) / _STIFFNESS
        approach = np.clip(-0.3 * height - 0.002, -0.03, -0.002)
        down = np.where(touching, press, approach)
        move[:, 2] = np.where(off < _LANE, down, _ABOVE - height)
        zero = np.zeros(len(off))
        return Wish(move, zero, zero)


BASE = PandaWipe
