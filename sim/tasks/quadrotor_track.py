"""Follow a moving set-point: smooth random motion for training; figure-eight, steps and way points for tests."""

from __future__ import annotations

import dataclasses

from robot_rl.sim.quadrotor.options import FlightOptions, Reference, Termination
from robot_rl.sim.tasks.quadrotor_hover import TASK as HOVER

# Episodes of 10 s: a figure-eight of 5.5 s after its 2 s ramp fits once. It peaks at 2.6 m/s², hence sigma.
TASK = dataclasses.replace(
    HOVER,
    name="quadrotor-track",
    description="follow a moving target for 10 s; reference.kind: mixed, langevin, figure-eight, step, waypoints, hold",
    options=FlightOptions(
        episode_s=10.0,
        termination=Termination(box=1.5),
        reference=Reference(kind="mixed", sigma=1.5, filter=0.5),
    ),
)
