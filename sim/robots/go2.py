"""Unitree Go2: the Go1's successor, with the same order of legs and joints, stronger knees and wider hips."""

from __future__ import annotations

from robot_rl.contract import Command
from robot_rl.sim.articulated.jointed_robot import JointedRobot
from robot_rl.sim.robot_spec import RobotSpec
from robot_rl.sim.robots.go1 import FEET, FULL_TORQUE_SPEED, GEAR, JOINTS, REST, ROTOR_INERTIA, SIGNALS

_TORQUE = (23.7, 23.7, 45.43) * 4  # N m. Source: go2_description.urdf, effort
_SPEED = (30.1, 30.1, 15.7) * 4  # rad/s. Source: go2_description.urdf, velocity
_KNEE_GEAR = 45.43 / 23.7  # linkage at the knee; 30.1 rad/s : 15.7 rad/s is the same

# Source: go2_description.urdf, joint limits, rad; the rear thighs turn further forward.
LOWER = (-1.0472, -1.5708, -2.7227) * 2 + (-1.0472, -0.5236, -2.7227) * 2
UPPER = (1.0472, 3.4907, -0.83776) * 2 + (1.0472, 4.5379, -0.83776) * 2

# Pose and gains: Unitree, unitree_rl_lab and Isaac Lab's Go2. Dry friction: MuJoCo Menagerie, unitree_go2.
OWN = JointedRobot(
    mjcf="go2.xml",
    menagerie="unitree_go2/go2.xml",
    joints=JOINTS,
    default_pose=(-0.1, 0.8, -1.5, 0.1, 0.8, -1.5, -0.1, 1.0, -1.5, 0.1, 1.0, -1.5),
    stiffness=(25.0,) * 12,
    damping=(0.5,) * 12,
    torque_limit=_TORQUE,
    stall_torque=tuple(torque / (1 - FULL_TORQUE_SPEED) for torque in _TORQUE),
    no_load_speed=_SPEED,
    armature=tuple(ROTOR_INERTIA * (GEAR * gear) ** 2 for gear in (1.0, 1.0, _KNEE_GEAR)) * 4,
    friction=(0.2,) * 12,
    base="base",
    base_height=0.3235,
    rest_pose=REST,
    feet=FEET,
    source="Unitree go2_description.urdf; GO-M8010-6 manual; unitree_rl_lab, Go2",
)

ROBOT = RobotSpec(
    name="go2",
    description="Unitree Go2, 15 kg quadruped, 12 joint position targets",
    signals=SIGNALS,
    commands=(
        Command(
            name="joint_pos_target",
            kind="joint_pos",
            unit="rad",
            elements=JOINTS,
            lower=LOWER,
            upper=UPPER,
            idle=OWN.default_pose,
        ),
    ),
    parameter_sets={"own": OWN},
    default_set="own",
)
"""Joints, feet, signals and commands all in the order of Unitree's SDK: FR, FL, RR, RL, each hip, thigh, calf."""
