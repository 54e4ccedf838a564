"""Panda: wipe a board with a given force."""

from __future__ import annotations

from robot_rl.sim.articulated.options import Randomize
from robot_rl.sim.manipulation.options import ManipulationNoise, ManipulationOptions
from robot_rl.sim.manipulation.panda_task import ARM_RANDOMIZE, LATENCY, LOOKS, RATE, ROBOT, SAFETY, signals
from robot_rl.sim.task_spec import TaskSpec

TASK = TaskSpec(
    name="panda-wipe",
    description="press a sponge on a board with 5 to 15 N and wipe 12 points along a line of 22 cm",
    robot=ROBOT.name,
    signals=signals("target_pos_w"),
    commands=ROBOT.commands,
    rate=RATE,
    options=ManipulationOptions(
        episode_s=6.0,
        tolerance=0.012,
        object_yaw=0.3,
        area=(0.03, 0.05),
        goal_area=(0.08, 0.0),
        goal_height=(0.01, 0.06),
        too_much=60.0,
        noise=ManipulationNoise(target_pos=0.002),
        randomize=Randomize(friction=(0.2, 0.6), **ARM_RANDOMIZE),
        latency=LATENCY,
        camera=LOOKS,
    ),
    environment="robot_rl.sim.manipulation.fixtures:WipeEnv",
    scene="robot_rl.sim.manipulation.scenes:board_scene",
    safety=SAFETY,
)
