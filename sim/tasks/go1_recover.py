"""Unitree Go1 getting up from any fall."""

from __future__ import annotations

from robot_rl.contract import Rate, Safety
from robot_rl.sim.articulated.options import Latency, Randomize
from robot_rl.sim.locomotion.options import RecoverOptions
from robot_rl.sim.robots.go1 import ROBOT
from robot_rl.sim.task_spec import TaskSpec

OBSERVED = ("joint_pos", "joint_vel", "base_quat_wxyz", "base_ang_vel_b")

TASK = TaskSpec(
    name="go1-recover",
    description="stand up from any fall within 6 s and stay standing",
    robot=ROBOT.name,
    signals=tuple(s for s in ROBOT.signals if s.name in OBSERVED),
    commands=ROBOT.commands,
    rate=Rate(control_dt=0.02, min_dt=0.02, max_dt=0.02),
    options=RecoverOptions(
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
    ),
    environment="robot_rl.sim.locomotion.recover_env:make_recover_env",
    # It starts lying in any way, so neither tilt nor a fast turn is a reason to stop.
    safety=Safety(max_tilt=3.15, max_body_rate=30.0),
)
