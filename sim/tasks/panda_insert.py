"""Panda: peg in hole."""

from __future__ import annotations

from robot_rl.sim.manipulation.options import ManipulationNoise, ManipulationOptions
from robot_rl.sim.manipulation.panda_task import LATENCY, LOOKS, RANDOMIZE, RATE, ROBOT, SAFETY, signals
from robot_rl.sim.task_spec import TaskSpec

TASK = TaskSpec(
    name="panda-insert",
    description="put a square peg of 24 mm, held by the gripper, 3.2 cm deep into a hole with 1 mm clearance",
    robot=ROBOT.name,
    signals=signals("object_pos_w", "object_quat_wxyz", "target_pos_w", "target_quat_wxyz"),
    commands=ROBOT.commands,
    rate=RATE,
    options=ManipulationOptions(
        episode_s=6.0,
        tolerance=0.008,
        fine=0.004,
        object_yaw=0.35,
        area=(0.08, 0.12),
        noise=ManipulationNoise(object_pos=0.0002, object_angle=0.005, object_bias=0.0002),
        randomize=RANDOMIZE,
        latency=LATENCY,
        camera=LOOKS,
    ),
    environment="robot_rl.sim.manipulation.fixtures:InsertEnv",
    scene="robot_rl.sim.manipulation.scenes:peg_scene",
    safety=SAFETY,
)
