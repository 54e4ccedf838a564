"""Unitree Go1: four legs of three joints, joint targets followed by the drives' own PD loops."""

from __future__ import annotations

import dataclasses

from robot_rl.contract import Command
from robot_rl.signals import FLIGHT_SIGNALS, Signal
from robot_rl.sim.articulated.jointed_robot import JointedRobot
from robot_rl.sim.robot_spec import RobotSpec

LEGS = ("FR", "FL", "RR", "RL")
"""Front right, front left, rear right, rear left. Source: unitree_legged_sdk, quadruped.h; unitree_sdk2 keeps it."""

JOINTS = tuple(f"{leg}_{joint}_joint" for leg in LEGS for joint in ("hip", "thigh", "calf"))
"""The SDK's motors 0…11: per leg abduction (`hip`, about x), hip (`thigh`, about y) and knee (`calf`, about y)."""

FEET = tuple(f"{leg}_foot" for leg in LEGS)

# What Unitree's state message holds: encoders, IMU with its attitude filter, one pressure sensor in each foot.
SIGNALS = (
    Signal("joint_pos", (12,), "rad"),
    Signal("joint_vel", (12,), "rad/s"),
    FLIGHT_SIGNALS["base_quat_wxyz"],
    FLIGHT_SIGNALS["base_ang_vel_b"],
    Signal("base_lin_acc_b", (3,), "m/s^2", "body"),
    Signal("foot_force", (4,), "N"),
)

# Source: Unitree URDFs (go1.urdf, go2_description.urdf), rotor about its axis, kg m²; GO-M8010-6 motor manual, gear.
ROTOR_INERTIA, GEAR = 1.11842e-4, 6.33

FULL_TORQUE_SPEED = 13.5 / 30.0
"""Share of the no-load speed up to which these motors give full torque. Source: Unitree, unitree_rl_lab, Go2HV."""

_KNEE_GEAR = 1.5  # linkage at the knee; the URDF's 35.55 N m : 23.7 N m and 30.1 rad/s : 20.06 rad/s

_TORQUE = (23.7, 23.7, 35.55) * 4  # N m. Source: go1.urdf, effort
_SPEED = (30.1, 30.1, 20.06) * 4  # rad/s. Source: go1.urdf, velocity

# Source: go1.urdf, joint limits, rad.
LOWER = (-0.863, -0.686, -2.818) * 4
UPPER = (0.863, 4.501, -0.888) * 4

# Lying on the belly, feet beside it. Source: unitree_sdk2, example go2_stand_example, last pose; Go1 and Go2 are alike.
REST = (-0.35, 1.36, -2.65, 0.35, 1.36, -2.65, -0.5, 1.36, -2.65, 0.5, 1.36, -2.65)

# Pose, gains and dry friction as MuJoCo Playground's Go1 tasks (2025), whose policies walk on the real robot.
OWN = JointedRobot(
    mjcf="go1.xml",
    menagerie="unitree_go1/go1.xml",
    joints=JOINTS,
    default_pose=(0.1, 0.9, -1.8, -0.1, 0.9, -1.8) * 2,
    stiffness=(35.0,) * 12,
    damping=(0.5,) * 12,
    torque_limit=_TORQUE,
    stall_torque=tuple(torque / (1 - FULL_TORQUE_SPEED) for torque in _TORQUE),
    no_load_speed=_SPEED,
    armature=tuple(ROTOR_INERTIA * (GEAR * gear) ** 2 for gear in (1.0, 1.0, _KNEE_GEAR)) * 4,
    friction=(0.3, 0.3, 1.0) * 4,
    base="trunk",
    base_height=0.2945,
    rest_pose=REST,
    feet=FEET,
    source="Unitree go1.urdf; GO-M8010-6 manual; MuJoCo Playground, Go1 joystick",
)

# Pose and gains of Margolis & Agrawal, Walk These Ways (2022), deployed on the Go1 as well.
WALK_THESE_WAYS = dataclasses.replace(
    OWN,
    default_pose=(-0.1, 0.8, -1.5, 0.1, 0.8, -1.5, -0.1, 1.0, -1.5, 0.1, 1.0, -1.5),
    stiffness=(20.0,) * 12,
    base_height=0.3248,
    source=f"{OWN.source}; Walk These Ways, go1_config",
)

ROBOT = RobotSpec(
    name="go1",
    description="Unitree Go1, 12 kg quadruped, 12 joint position targets",
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
    parameter_sets={"own": OWN, "walk_these_ways": WALK_THESE_WAYS},
    default_set="own",
)
"""Joints, feet, signals and commands all in the order of Unitree's SDK: FR, FL, RR, RL, each hip, thigh, calf."""
