"""What the walking tasks of twelve-joint quadrupeds share: which signals the policy gets, and what varies."""

from __future__ import annotations

from robot_rl.sim.articulated.options import Latency, Push, Randomize

PROPRIOCEPTION = ("joint_pos", "joint_vel", "base_quat_wxyz", "base_ang_vel_b")

# Sources: MuJoCo Playground's Go1 randomisation, legged_gym's base mass.
QUADRUPED = Randomize(
    friction=(0.4, 1.0),
    base_mass=(-1.0, 1.0),
    com=(-0.05, 0.05),
    link_mass=(0.9, 1.1),
    stiffness=(0.9, 1.1),
    damping=(0.9, 1.1),
    strength=(0.9, 1.0),
    armature=(1.0, 1.05),
    dry_friction=(0.9, 1.1),
    joint_offset=(-0.02, 0.02),
)

LATENCY = Latency(min=0.0, max=0.02, jitter=0.002)  # after Walk These Ways

PUSH = Push(every=8.0, duration=0.1, speed=(0.2, 0.8))
