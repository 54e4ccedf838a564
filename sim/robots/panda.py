"""Franka Emika Panda with the Franka Hand: joint positions under an impedance controller, and one gripper width."""

from __future__ import annotations

import math

from robot_rl.contract import Command
from robot_rl.signals import Signal
from robot_rl.sim.articulated.jointed_robot import JointedRobot
from robot_rl.sim.robot_spec import RobotSpec

ARM = tuple(f"joint{i}" for i in range(1, 8))
GRIPPER = ("finger_joint1", "finger_joint2")

# Source: Franka FCI documentation, "Robot and interface specifications", Panda: ranges, speeds, torques.
LOWER = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
UPPER = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
SPEED = (2.175,) * 4 + (2.61,) * 3
TORQUE = (87.0,) * 4 + (12.0,) * 3

# Source: Franka Hand manual: opens to 80 mm, grasps with 70 N continuously. Speed: 0.1 m/s in libfranka's examples.
WIDTH = 0.08
_GRASP_FORCE, _WIDTH_SPEED = 70.0, 0.1

# Gripper 0.26 m above the base's plane and 0.45 m in front of it, straight down: q6 = q2 − q4.
READY = (0.0, -0.15, 0.0, -2.45, 0.0, 2.3, math.pi / 4)

# One motor drives both fingers of the real hand; here each has a spring of its own to its half of the width. Chosen:
# a cube of 5 cm is held with 25 N when the command is 0; N/m and N s/m.
_FINGER_STIFFNESS, _FINGER_DAMPING = 1000.0, 50.0

# Gains: libfranka, examples/joint_impedance_control.cpp. Its torque loop is closed around sensors behind the gears, so
# the joints feel no dry friction. Armature: MuJoCo Menagerie, franka_emika_panda. The robot's own position controller
# is five times stiffer (3000 N m/rad); with that, `implicitfast` at 4–5 ms lets grasped objects slip by centimetres,
# because it adds the damping after the contacts have been solved.
OWN = JointedRobot(
    mjcf="panda.xml",
    menagerie="franka_emika_panda/panda.xml",
    joints=(*ARM, *GRIPPER),
    default_pose=(*READY, WIDTH / 2, WIDTH / 2),
    stiffness=(600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0, _FINGER_STIFFNESS, _FINGER_STIFFNESS),
    damping=(50.0, 50.0, 50.0, 50.0, 30.0, 25.0, 15.0, _FINGER_DAMPING, _FINGER_DAMPING),
    torque_limit=(*TORQUE, _GRASP_FORCE, _GRASP_FORCE),
    armature=(0.1,) * 9,
    friction=(0.0,) * 9,
    gripper=GRIPPER,
    builtin_pd=True,
    source="Franka FCI documentation; libfranka joint_impedance_control; Gaz et al. 2019",
)

FRONT_CAMERA_POS = (1.25, 0.0, 0.6)
"""m, world: where a fixed camera sees gripper and table, looking at `FRONT_CAMERA_AT` with 45 degrees upright."""
FRONT_CAMERA_AT = (0.45, 0.0, 0.1)

ROBOT = RobotSpec(
    name="panda",
    description="Franka Panda with gripper, 7 joints, joint position and gripper width commands",
    signals=(
        Signal("joint_pos", (7,), "rad"),
        Signal("joint_vel", (7,), "rad/s"),
        Signal("ee_pos_w", (3,), "m", "world"),
        Signal("ee_quat_wxyz", (4,), "", "world"),
        Signal("ee_force_b", (3,), "N", "body"),
        Signal("gripper_width", (1,), "m"),
    ),
    commands=(
        Command(
            name="joint_pos_target",
            kind="joint_pos",
            unit="rad",
            elements=ARM,
            lower=LOWER,
            upper=UPPER,
            idle=READY,
            max_rate=SPEED,
        ),
        Command(
            name="gripper_width_target",
            kind="gripper_width",
            unit="m",
            elements=("width",),
            lower=(0.0,),
            upper=(WIDTH,),
            idle=(WIDTH,),
            max_rate=(2 * _WIDTH_SPEED,),
        ),
    ),
    parameter_sets={"own": OWN},
    default_set="own",
)
