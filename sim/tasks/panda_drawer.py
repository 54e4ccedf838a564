"""Panda: open a drawer."""

from __future__ import annotations

from robot_rl.sim.manipulation.options import ManipulationOptions
from robot_rl.sim.manipulation.panda_task import LATENCY, LOOKS, RANDOMIZE, RATE, ROBOT, SAFETY, signals
from robot_rl.sim.task_spec import TaskSpec

TASK = TaskSpec(
    name="panda-drawer",
    description="take the handle of a drawer and pull it open by 14 cm",
    robot=ROBOT.name,
    signals=signals("object_pos_w", "object_quat_wxyz", "target_pos_w"),
    commands=ROBOT.commands,
    rate=RATE,
    options=ManipulationOptions(
        episode_s=5.0,
        tolerance=0.01,
        object_yaw=0.2,
        area=(0.04, 0.1),
        randomize=RANDOMIZE,
        latency=LATENCY,
        camera=LOOKS,
    ),
    environment="robot_rl.sim.manipulation.fixtures:DrawerEnv",
    scene="robot_rl.sim.manipulation.scenes:drawer_scene",
    safety=SAFETY,
)
