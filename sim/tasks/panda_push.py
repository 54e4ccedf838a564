"""Panda: push a cube over the table."""

from __future__ import annotations

from robot_rl.sim.manipulation.options import ManipulationOptions, ManipulationReward
from robot_rl.sim.manipulation.panda_task import LATENCY, LOOKS, RANDOMIZE, RATE, ROBOT, SAFETY, signals
from robot_rl.sim.task_spec import TaskSpec

TASK = TaskSpec(
    name="panda-push",
    description="push a cube of 4 cm over the table by 8 to 20 cm, to within 3 cm of a place",
    robot=ROBOT.name,
    signals=signals("object_pos_w", "object_quat_wxyz", "target_pos_w"),
    commands=ROBOT.commands,
    rate=RATE,
    options=ManipulationOptions(
        episode_s=4.0,
        tolerance=0.03,
        object_yaw=0.785,
        area=(0.08, 0.15),
        goal_area=(0.12, 0.22),
        reward=ManipulationReward(failure=-2.0),
        randomize=RANDOMIZE,
        latency=LATENCY,
        camera=LOOKS,
    ),
    environment="robot_rl.sim.manipulation.tasks:PushEnv",
    scene="robot_rl.sim.manipulation.scenes:cube_scene",
    algorithm="fast-sac",
    safety=SAFETY,
)
