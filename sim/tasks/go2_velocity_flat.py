"""Unitree Go2 on flat ground, walking as a velocity command says."""

from __future__ import annotations

from robot_rl.contract import Rate, Safety
from robot_rl.signals import WALKING_COMMANDS
from robot_rl.sim.articulated.options import Latency, Push, Randomize
from robot_rl.sim.locomotion.options import LocomotionOptions
from robot_rl.sim.robots.go2 import ROBOT
from robot_rl.sim.task_spec import TaskSpec

OBSERVED = ("joint_pos", "joint_vel", "base_quat_wxyz", "base_ang_vel_b")

TASK = TaskSpec(
    name="go2-velocity-flat",
    description="walk on flat ground at up to 1 m/s forward, 0.6 m/s sideways, 1 rad/s, pushed and with varied bodies",
    robot=ROBOT.name,
    signals=(*(s for s in ROBOT.signals if s.name in OBSERVED), *WALKING_COMMANDS.values()),
    commands=ROBOT.commands,
    rate=Rate(control_dt=0.02, min_dt=0.02, max_dt=0.02),
    options=LocomotionOptions(
        # Sources: Isaac Lab's Go2 (base mass, centre of mass), MuJoCo Playground's Go1 (the rest), Walk These Ways
        # (latency).
        randomize=Randomize(
            friction=(0.4, 1.0),
            base_mass=(-1.0, 3.0),
            com=(-0.05, 0.05),
            link_mass=(0.9, 1.1),
            stiffness=(0.9, 1.1),
            damping=(0.9, 1.1),
            strength=(0.9, 1.0),
            armature=(1.0, 1.05),
            dry_friction=(0.9, 1.1),
            joint_offset=(-0.02, 0.02),
        ),
        latency=Latency(min=0.0, max=0.02, jitter=0.002),
        push=Push(every=8.0, duration=0.1, speed=(0.2, 0.8)),
    ),
    environment="robot_rl.sim.locomotion.velocity_env:make_velocity_env",
    safety=Safety(max_tilt=1.2, max_body_rate=10.0),
)
