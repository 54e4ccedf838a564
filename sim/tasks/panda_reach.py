"""Panda: bring the gripper to a point."""

from __future__ import annotations

from robot_rl.sim.articulated.options import Randomize
from robot_rl.sim.manipulation.options import ManipulationOptions
from robot_rl.sim.manipulation.panda_task import ARM_RANDOMIZE, LATENCY, LOOKS, RATE, ROBOT, SAFETY, signals
from robot_rl.sim.task_spec import TaskSpec

TASK = TaskSpec(
    name="panda-reach",
    description="bring the closed gripper within 2 cm of a point in a space of 30 x 50 x 35 cm",
    robot=ROBOT.name,
    signals=signals("target_pos_w"),
    commands=ROBOT.commands,
    rate=RATE,
    options=ManipulationOptions(
        episode_s=2.0,
        tolerance=0.02,
        goal_area=(0.15, 0.25),
        goal_height=(0.05, 0.4),
        randomize=Randomize(**ARM_RANDOMIZE),
        latency=LATENCY,
        camera=LOOKS,
    ),
    environment="robot_rl.sim.manipulation.tasks:ReachEnv",
    scene="robot_rl.sim.manipulation.scenes:table_scene",
    safety=SAFETY,
)
