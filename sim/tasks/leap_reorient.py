"""LEAP hand that turns a cube of 7 cm as a goal says, again and again."""

from __future__ import annotations

from robot_rl.contract import Rate
from robot_rl.signals import POSE_TARGETS, Signal
from robot_rl.sim.articulated.options import Randomize
from robot_rl.sim.hand.options import ReorientOptions
from robot_rl.sim.robots.leap import ROBOT
from robot_rl.sim.task_spec import TaskSpec

CUBE_SIGNALS = (
    Signal("object_pos_w", (3,), "m", "world"),
    Signal("object_quat_wxyz", (4,), "", "world"),
    POSE_TARGETS["target_quat_wxyz"],
)

TASK = TaskSpec(
    name="leap-reorient",
    description="turn a 7 cm cube in the palm to a goal within 0.1 rad, then to the next, without dropping it",
    robot=ROBOT.name,
    signals=(*ROBOT.signals, *CUBE_SIGNALS),
    commands=ROBOT.commands,
    rate=Rate(control_dt=0.05, min_dt=0.05, max_dt=0.05),
    options=ReorientOptions(
        # Source: MuJoCo Playground's LeapCubeReorient (2025).
        randomize=Randomize(
            friction=(0.5, 1.0),
            object_mass=(0.8, 1.2),
            object_com=(-0.005, 0.005),
            link_mass=(0.9, 1.1),
            stiffness=(0.8, 1.2),
            damping=(0.8, 1.2),
            armature=(1.0, 1.05),
            dry_friction=(0.5, 2.0),
            joint_offset=(-0.05, 0.05),
        ),
    ),
    environment="robot_rl.sim.hand.reorient_env:make_reorient_env",
    scene="robot_rl.sim.hand.scene:cube_scene",
)
