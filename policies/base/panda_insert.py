"""Scripted expert for panda-insert: the peg above the hole, aligned to a fraction of the clearance, then down."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot_rl.policies.base.panda.arm import Floats
from robot_rl.policies.base.panda.expert import PandaExpert, Wish, heading_of, planar

_HOVER = 0.042  # m above the final place: the peg's end is 2 mm above the block
_HIGHER = 0.02  # m further up while it is far from the axis
_IN = 0.0392  # m above the final place: the peg's end is in the hole
_GAIN = 2.0  # on what is missing: the arm gives way to the peg's weight
_NEAR, _ALIGNED = 0.0005, 0.015  # m, rad: within the clearance


class PandaInsert(PandaExpert):
    """See the module docstring."""

    turns = True
    lowest = 0.06

    def wish(self, s: Mapping[str, Floats]) -> Wish:
        peg, hole = s["object_pos_w"], s["target_pos_w"]
        step = np.pi / 2
        turn = heading_of(s["target_quat_wxyz"]) - heading_of(s["object_quat_wxyz"])
        turn = np.mod(turn + 0.5 * step, step) - 0.5 * step
        move = hole - peg
        off, height = planar(move), -move[:, 2]
        inside = (height < _IN) & (off < 0.003)
        aligned = (off < _NEAR) & (np.abs(turn) < _ALIGNED) & (height < _HOVER + 0.003)
        down = np.where(inside, -0.015, -0.006)
        move *= _GAIN
        far = _HOVER + np.clip(4.0 * off - 0.004, 0.0, _HIGHER) - height
        move[:, 2] = np.where(inside | aligned, down, far)
        zero = np.zeros(len(peg))
        return Wish(move, turn, zero)


BASE = PandaInsert
