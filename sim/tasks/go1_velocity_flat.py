"""Unitree Go1 on flat ground, walking as a velocity command says."""

from __future__ import annotations

from robot_rl.contract import Rate, Safety
from robot_rl.signals import WALKING_COMMANDS
from robot_rl.sim.locomotion.options import LocomotionOptions
from robot_rl.sim.locomotion.usual import LATENCY, PROPRIOCEPTION, PUSH, QUADRUPED
from robot_rl.sim.robots.go1 import ROBOT
from robot_rl.sim.task_spec import TaskSpec

TASK = TaskSpec(
    name="go1-velocity-flat",
    description="walk on flat ground at up to 1 m/s forward, 0.6 m/s sideways, 1 rad/s, pushed and with varied bodies",
    robot=ROBOT.name,
    signals=(*(s for s in ROBOT.signals if s.name in PROPRIOCEPTION), *WALKING_COMMANDS.values()),
    commands=ROBOT.commands,
    rate=Rate(control_dt=0.02, min_dt=0.02, max_dt=0.02),
    options=LocomotionOptions(randomize=QUADRUPED, latency=LATENCY, push=PUSH),
    environment="robot_rl.sim.locomotion.velocity_env:make_velocity_env",
    safety=Safety(max_tilt=1.2, max_body_rate=10.0),
)
