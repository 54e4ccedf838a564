"""Scripted expert for panda-reach: straight to the point."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot_rl.policies.base.panda.arm import Floats
from robot_rl.policies.base.panda.expert import PandaExpert, Wish


class PandaReach(PandaExpert):
    """See the module docstring."""

    def wish(self, s: Mapping[str, Floats]) -> Wish:
        zero = np.zeros(len(s["ee_pos_w"]))
        return Wish(s["target_pos_w"] - s["ee_pos_w"], zero, zero)


BASE = PandaReach
