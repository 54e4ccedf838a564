"""LEAP hand, right, palm up: 16 joints, position controlled XC330 servos."""

from __future__ import annotations

from robot_rl.contract import Command
from robot_rl.signals import Signal
from robot_rl.sim.articulated.jointed_robot import JointedRobot
from robot_rl.sim.robot_spec import RobotSpec

FINGERS = ("if", "mf", "rf")
"""Index, middle and ring finger."""

JOINTS = (
    *(f"{finger}_{joint}" for finger in FINGERS for joint in ("mcp", "rot", "pip", "dip")),
    *("th_cmc", "th_axl", "th_mcp", "th_ipl"),
)

# Source: LEAP hand URDF, joint limits; the same in MuJoCo Menagerie's leap_hand. Fingers: mcp, rot, pip, dip.
LOWER = (-0.314, -1.047, -0.506, -0.366) * 3 + (-0.349, -0.349, -0.47, -1.34)
UPPER = (2.23, 1.047, 1.885, 2.042) * 3 + (2.094, 2.094, 2.443, 1.88)

# Source: MuJoCo Playground, LeapCubeReorient, key "home": a nest for a cube of 7 cm.
HOME = (0.8, 0.0, 0.8, 0.8) * 3 + (0.8, 0.8, 0.8, 0.0)

_SPEED = 8.48  # rad/s without load: LEAP hand URDF; Robotis e-manual, XC330-M288-T: 81 rpm at 5 V

# Source: MuJoCo Playground, LeapCubeReorient. Kp 3 N m/rad; damping 0.2 N m s/rad; armature 288² · 1.8e-8 kg m²;
# torque 0.6 A · 0.366 N m/A, the current limit that the LEAP API sets; dry friction a guess of theirs.
OWN = JointedRobot(
    mjcf="leap.xml",
    menagerie="leap_hand/right_hand.xml",
    joints=JOINTS,
    default_pose=HOME,
    stiffness=(3.0,) * 16,
    damping=(0.2,) * 16,
    torque_limit=(0.2196,) * 16,
    armature=(0.00149376,) * 16,
    friction=(0.02,) * 16,
    feet=tuple(f"{finger}_tip" for finger in (*FINGERS, "th")),
    builtin_pd=True,
    source="LEAP hand URDF; MuJoCo Playground LeapCubeReorient",
)

ROBOT = RobotSpec(
    name="leap",
    description="LEAP hand, right, 16 joints, position commands",
    signals=(Signal("joint_pos", (16,), "rad"), Signal("joint_vel", (16,), "rad/s")),
    commands=(
        Command(
            name="joint_pos_target",
            kind="joint_pos",
            unit="rad",
            elements=JOINTS,
            lower=LOWER,
            upper=UPPER,
            idle=HOME,
            max_rate=(_SPEED,) * 16,
        ),
    ),
    parameter_sets={"own": OWN},
    default_set="own",
)
