"""Unitree Go1 on slopes, stairs and obstacles, walking as a velocity command says."""

from __future__ import annotations

import dataclasses

from robot_rl.sim.locomotion.terrain_options import HEIGHT_SCAN, RoughOptions
from robot_rl.sim.locomotion.usual import LATENCY, PUSH, QUADRUPED
from robot_rl.sim.tasks.go1_velocity_flat import TASK as FLAT

TASK = dataclasses.replace(
    FLAT,
    name="go1-velocity-rough",
    description="walk over slopes, stairs and obstacles as commanded, seeing the ground or only feeling it",
    signals=(*FLAT.signals, HEIGHT_SCAN),
    options=RoughOptions(randomize=QUADRUPED, latency=LATENCY, push=PUSH),
    environment="robot_rl.sim.locomotion.rough_env:make_rough_env",
    variants="robot_rl.sim.locomotion.terrain_options:VARIANTS_ROUGH",
)
