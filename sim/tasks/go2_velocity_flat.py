"""Unitree Go2 on flat ground, walking as a velocity command says."""

from __future__ import annotations

import dataclasses

from robot_rl.sim.locomotion.options import LocomotionOptions
from robot_rl.sim.locomotion.usual import LATENCY, PUSH, QUADRUPED
from robot_rl.sim.robots.go2 import ROBOT
from robot_rl.sim.tasks.go1_velocity_flat import TASK as GO1

# Source of the added mass: Isaac Lab's Go2.
TASK = dataclasses.replace(
    GO1,
    name="go2-velocity-flat",
    robot=ROBOT.name,
    commands=ROBOT.commands,
    options=LocomotionOptions(
        randomize=dataclasses.replace(QUADRUPED, base_mass=(-1.0, 3.0)), latency=LATENCY, push=PUSH
    ),
)
