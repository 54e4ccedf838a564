"""Hover at a point after a hard start: the task of Learning to Fly in Seconds (Eschmann et al., 2023)."""

from __future__ import annotations

from robot_rl.contract import Rate, Safety
from robot_rl.signals import FLIGHT_SIGNALS
from robot_rl.sim.quadrotor.options import FlightOptions
from robot_rl.sim.robots.crazyflie import ROBOT
from robot_rl.sim.task_spec import TaskSpec

TASK = TaskSpec(
    name="quadrotor-hover",
    description="hover at a point: from up to 90° of tilt, 1 m/s and 1 rad/s, disturbed, for 5 s in a box of ± 0.6 m",
    robot=ROBOT.name,
    signals=tuple(FLIGHT_SIGNALS.values()),
    commands=ROBOT.commands,
    rate=Rate(control_dt=0.01, min_dt=0.001, max_dt=0.02),
    options=FlightOptions(),
    environment="robot_rl.sim.quadrotor.env:make_quadrotor_env",
    examples="robot_rl.sim.quadrotor.examples:figure_eight_flight",
    variants="",
    algorithm="apg",
    differentiable="robot_rl.sim.quadrotor.analytic:make_analytic_flight",
    safety=Safety(max_position_error=1.5, max_tilt=1.7, max_body_rate=40.0, max_speed=5.0),
)
