"""What the Panda's tasks have in common as data: rate, limits for the supervisor, signals, what is randomised."""

from __future__ import annotations

from robot_rl.contract import Rate, Safety
from robot_rl.signals import POSE_TARGETS, Signal
from robot_rl.sim.articulated.options import Latency, Randomize
from robot_rl.sim.manipulation.options import CameraOptions, ManipulationOptions
from robot_rl.sim.robots.panda import ROBOT

CONTROL_DT = ManipulationOptions().control_dt
RATE = Rate(control_dt=CONTROL_DT, min_dt=CONTROL_DT, max_dt=CONTROL_DT)
SAFETY = Safety()

_OBJECTS = {
    s.name: s
    for s in (
        Signal("object_pos_w", (3,), "m", "world"),
        Signal("object_quat_wxyz", (4,), "", "world"),
        *POSE_TARGETS.values(),
    )
}


def signals(*more: str) -> tuple[Signal, ...]:
    """The robot's own, and those of objects and targets by name."""
    return (*ROBOT.signals, *(_OBJECTS[name] for name in more))


ARM_RANDOMIZE = {"link_mass": (0.95, 1.05), "stiffness": (0.9, 1.1), "damping": (0.9, 1.1)}
"""The arm carries its own weight as far as it knows it; ±10 % of the gains of libfranka's impedance controller."""

RANDOMIZE = Randomize(friction=(0.6, 1.2), object_mass=(0.5, 2.0), **ARM_RANDOMIZE)
LATENCY = Latency(min=0.0, max=0.02, jitter=0.002)
"""One to two cycles of a policy's computer, libfranka's own is 1 ms."""

LOOKS = CameraOptions(pos=0.02, angle=0.03, light=(0.6, 1.3), light_pos=1.0, colour=0.1)
"""How pictures differ, once `camera.size` asks for them."""
