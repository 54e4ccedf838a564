"""The PD loop of a drive with its torque–speed line, for any array namespace: torch in training, numpy on a robot."""

from __future__ import annotations

from typing import Any


def pd_torque(xp: Any, target: Any, pos: Any, vel: Any, kp: Any, kd: Any, limit: Any, stall: Any, no_load: Any) -> Any:
    """What a drive gives that is asked for kp·(target − pos) − kd·vel; every argument (…, J), SI units.

    Below `limit` at any speed, and in the direction of motion below the line from `stall` torque at rest to zero at
    the `no_load` speed, as a DC motor at its supply voltage.
    """
    wanted = kp * (target - pos) - kd * vel
    share = vel / no_load
    upper = xp.clip(xp.minimum(limit, stall * (1 - share)), 0.0, None)
    lower = xp.clip(xp.maximum(-limit, -stall * (1 + share)), None, 0.0)
    return xp.minimum(xp.maximum(wanted, lower), upper)
