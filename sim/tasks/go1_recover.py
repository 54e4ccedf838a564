"""Unitree Go1 getting up from any fall."""

from __future__ import annotations

import dataclasses

from robot_rl.contract import Safety
from robot_rl.sim.locomotion.options import RecoverOptions
from robot_rl.sim.locomotion.usual import LATENCY, PROPRIOCEPTION, QUADRUPED
from robot_rl.sim.tasks.go1_velocity_flat import TASK as FLAT

TASK = dataclasses.replace(
    FLAT,
    name="go1-recover",
    description="stand up from any fall within 6 s and stay standing",
    signals=tuple(s for s in FLAT.signals if s.name in PROPRIOCEPTION),
    options=RecoverOptions(randomize=QUADRUPED, latency=LATENCY),
    environment="robot_rl.sim.locomotion.recover_env:make_recover_env",
    # It starts lying in any way, so neither tilt nor a fast turn is a reason to stop.
    safety=Safety(max_tilt=3.15, max_body_rate=30.0),
)
