"""Scripted expert for panda-drawer: above the handle, down around it, close, pull."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot_rl.policies.base.panda.arm import WIDTH, Floats, heading_of
from robot_rl.policies.base.panda.expert import PandaExpert, Wish, planar, raised, turn_to

_ABOVE = 0.07  # m above the handle before it goes down
_CLOSE, _ALIGNED = 0.012, 0.12  # m and rad: near enough to go down
_WIDER = 0.03  # m: a gripper that is narrower at the handle holds it
_FURTHER = 0.01  # m: pulled beyond the target, so that the last millimetres do not take long


class PandaDrawer(PandaExpert):
    """See the module docstring."""

    turns, grips = True, True

    def wish(self, s: Mapping[str, Floats]) -> Wish:
        ee, handle, width = s["ee_pos_w"], s["object_pos_w"], s["gripper_width"][:, 0]
        turn = turn_to(s["object_quat_wxyz"], s["ee_quat_wxyz"], 2)
        off, above = planar(handle - ee), ee[:, 2] - handle[:, 2]
        at_handle = (off < 0.02) & (np.abs(above) < 0.012)
        holding = (off < 0.03) & (np.abs(above) < 0.025) & (width < _WIDER)
        ready = (off < _CLOSE) & (np.abs(turn) < _ALIGNED)
        move = raised(handle, np.where(ready, 0.0, _ABOVE)) - ee
        heading = heading_of(s["object_quat_wxyz"])
        out = -np.stack([np.cos(heading), np.sin(heading), np.zeros(len(ee))], axis=1)
        missing = np.sum((s["target_pos_w"] - handle) * out, axis=1)
        pull = np.maximum(missing + _FURTHER, 0.0)[:, None] * out
        pull[:, 2] = handle[:, 2] - ee[:, 2]
        move = np.where(holding[:, None], pull, move)
        return Wish(move, turn, np.where(at_handle | holding, 0.0, WIDTH))


BASE = PandaDrawer
