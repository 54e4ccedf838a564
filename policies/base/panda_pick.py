"""Scripted expert for panda-pick: above the cube, turned to its sides, down, close, to the target."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot_rl.policies.base.panda.arm import WIDTH, Floats
from robot_rl.policies.base.panda.expert import PandaExpert, Wish, planar, raised, turn_to

_ABOVE = 0.08  # m above the cube before it goes down
_CLOSE, _ALIGNED = 0.012, 0.15  # m and rad: near enough to go down
_WIDER = 0.052  # m: a gripper that is narrower near the cube holds it, or is about to


class PandaPick(PandaExpert):
    """See the module docstring."""

    turns, grips = True, True

    def wish(self, s: Mapping[str, Floats]) -> Wish:
        ee, cube, width = s["ee_pos_w"], s["object_pos_w"], s["gripper_width"][:, 0]
        turn = turn_to(s["object_quat_wxyz"], s["ee_quat_wxyz"], 4)
        off, above = planar(cube - ee), ee[:, 2] - cube[:, 2]
        at_cube = (off < 0.015) & (np.abs(above) < 0.012)
        holding = (off < 0.025) & (np.abs(above) < 0.025) & (width < _WIDER)
        ready = (off < _CLOSE) & (np.abs(turn) < _ALIGNED)
        # Deeper the better it is aligned: a funnel above the cube.
        height = np.where(ready, 0.0, np.clip(4.0 * off, 0.045, _ABOVE))
        move = raised(cube, height) - ee
        move[:, 2] = np.where(ready, np.clip(move[:, 2], -0.03, 0.03), move[:, 2])
        move = np.where(holding[:, None], s["target_pos_w"] - cube, move)
        closing = at_cube & (np.abs(above) < 0.01)
        return Wish(move, np.where(holding, 0.0, turn), np.where(closing | holding, 0.0, WIDTH))


BASE = PandaPick
