"""Unitree Go1 on slopes, stairs and obstacles, walking as a velocity command says."""

from __future__ import annotations

from robot_rl.contract import Rate, Safety
from robot_rl.signals import WALKING_COMMANDS
from robot_rl.sim.articulated.options import Latency, Push, Randomize
from robot_rl.sim.locomotion.terrain_options import HEIGHT_SCAN, RoughOptions
from robot_rl.sim.robots.go1 import ROBOT
from robot_rl.sim.task_spec import TaskSpec

OBSERVED = ("joint_pos", "joint_vel", "base_quat_wxyz", "base_ang_vel_b")

TASK = TaskSpec(
    name="go1-velocity-rough",
    description="walk over slopes, stairs and obstacles as commanded, seeing the ground or only feeling it",
    robot=ROBOT.name,
    signals=(*(s for s in ROBOT.signals if s.name in OBSERVED), *WALKING_COMMANDS.values(), HEIGHT_SCAN),
    commands=ROBOT.commands,
    rate=Rate(control_dt=0.02, min_dt=0.02, max_dt=0.02),
    options=RoughOptions(
        # Sources: MuJoCo Playground's Go1 randomisation, legged_gym's base mass, Walk These Ways' latency.
        randomize=Randomize(
            friction=(0.4, 1.0),
            base_mass=(-1.0, 1.0),
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
    environment="robot_rl.sim.locomotion.rough_env:make_rough_env",
    safety=Safety(max_tilt=1.2, max_body_rate=10.0),
    variants="robot_rl.sim.locomotion.terrain_options:VARIANTS_ROUGH",
)
