"""Equations of motion of a quadrotor, written once and executed in many ways.

Every function takes the array namespace `xp` first: `torch` (eager, compiled, on a GPU, with gradients), `numpy`
(robot side), or `robot_rl.sim.codegen.symbolic`, whose arrays are expressions from which vectorised C and its adjoint
are generated. So the equations use only + − × ÷, `xp.sqrt/exp/clip/where/stack`.

Arrays are component-first (structure of arrays): state (17, N), params (P, N), command (4, N). World frame z up; body
frame x forward, y left, z up; quaternion wxyz, body → world; angular velocity in the body frame. Rotor order
front-right, back-right, back-left, front-left. Rotor state and command are fractions of `ROTOR_SPEED_MAX`, the only
non-SI unit here.

Sources: rigid body and motor lag: Eschmann et al., "Learning to Fly in Seconds", 2023; rotor drag and ground effect:
Panerati et al., "Learning to Fly: a Gym Environment with PyBullet Physics", 2021 (drag after Forster 2015, ground
effect after Shi 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import Any, NamedTuple

GRAVITY = 9.81  # m/s²
ROTOR_SPEED_MAX = 21702.0 * 2.0 * pi / 60.0  # rad/s; 21702 rpm, Learning to Fly in Seconds
ROTOR_X = (1.0, -1.0, -1.0, 1.0)  # sign of each rotor's x, multiplied by the arm
ROTOR_Y = (-1.0, -1.0, 1.0, 1.0)
ROTOR_SPIN = (-1.0, 1.0, -1.0, 1.0)  # sign of the reaction torque about body z
GROUND_EFFECT_MIN_HEIGHT = 0.0378  # m; below it the effect no longer grows (Panerati et al., 2021, for the Crazyflie)

STATE = {"pos": slice(0, 3), "quat": slice(3, 7), "vel": slice(7, 10), "omega": slice(10, 13), "rotor": slice(13, 17)}
STATE_SIZE = 17


class Params(NamedTuple):
    """One vehicle per column; each field is a row of the params array. SI units, rotors per fraction of full speed."""

    mass: Any  # kg
    jx: Any  # kg m²
    jy: Any
    jz: Any
    tau_rise: Any  # s, motor lag while speeding up
    tau_fall: Any  # s, while slowing down
    thrust0: Any  # N, thrust of one rotor = thrust0 + thrust1 r + thrust2 r²
    thrust1: Any
    thrust2: Any
    gain0: Any  # per-rotor thrust factor, nominally 1
    gain1: Any
    gain2: Any
    gain3: Any
    torque_ratio: Any  # m, reaction torque per thrust
    arm: Any  # m, |x| = |y| of each rotor
    drag_xy: Any  # N s/m per rad/s of summed rotor speed
    drag_z: Any
    ground_effect: Any  # m², extra thrust factor = ground_effect / height²
    ground_z: Any  # m, height of the ground
    supply: Any  # thrust factor of the battery, 1 when full
    fx: Any  # N, external force, world frame
    fy: Any
    fz: Any
    tx: Any  # N m, external torque, body frame
    ty: Any
    tz: Any
    windx: Any  # m/s, air velocity, world frame
    windy: Any
    windz: Any


PARAMS = Params._fields
PARAM_SIZE = len(PARAMS)
Rows = Sequence[Any]


def rotation(qw: Any, qx: Any, qy: Any, qz: Any) -> tuple[tuple[Any, Any, Any], ...]:
    """Rows of the rotation matrix body → world of a unit quaternion."""
    return (
        (1 - 2 * (qy * qy + qz * qz), 2 * (qx * qy - qw * qz), 2 * (qx * qz + qw * qy)),
        (2 * (qx * qy + qw * qz), 1 - 2 * (qx * qx + qz * qz), 2 * (qy * qz - qw * qx)),
        (2 * (qx * qz - qw * qy), 2 * (qy * qz + qw * qx), 1 - 2 * (qx * qx + qy * qy)),
    )


def rotor_thrusts(xp: Any, rotor: Rows, height: Any, p: Params) -> list[Any]:
    """Thrust of each rotor in N along body z, ground effect and battery included."""
    clearance = xp.clip(height - p.ground_z, GROUND_EFFECT_MIN_HEIGHT, 1e3)
    factor = p.supply * (1 + p.ground_effect / (clearance * clearance))
    gains = (p.gain0, p.gain1, p.gain2, p.gain3)
    return [factor * g * (p.thrust0 + (p.thrust1 + p.thrust2 * r) * r) for g, r in zip(gains, rotor, strict=True)]


def body_torque(thrust: Rows, p: Params) -> tuple[Any, Any, Any]:
    """Torque in N m about body x, y, z of four rotor thrusts."""
    t0, t1, t2, t3 = thrust
    return (
        p.arm * (t2 + t3 - t0 - t1),
        p.arm * (t1 + t2 - t0 - t3),
        p.torque_ratio * (t1 + t3 - t0 - t2),
    )


def acceleration(
    xp: Any, pos: Rows, quat: Rows, vel: Rows, omega: Rows, rotor: Rows, p: Params
) -> tuple[list[Any], list[Any]]:
    """Linear acceleration in the world frame (m/s²) and angular acceleration in the body frame (rad/s²)."""
    R = rotation(*quat)
    thrust = rotor_thrusts(xp, rotor, pos[2], p)
    total = thrust[0] + thrust[1] + thrust[2] + thrust[3]
    air = (vel[0] - p.windx, vel[1] - p.windy, vel[2] - p.windz)
    air_b = [R[0][i] * air[0] + R[1][i] * air[1] + R[2][i] * air[2] for i in range(3)]
    speed_sum = ROTOR_SPEED_MAX * (rotor[0] + rotor[1] + rotor[2] + rotor[3])
    force_b = (
        -p.drag_xy * speed_sum * air_b[0],
        -p.drag_xy * speed_sum * air_b[1],
        total - p.drag_z * speed_sum * air_b[2],
    )
    external = (p.fx, p.fy, p.fz)
    acc = [
        (R[i][0] * force_b[0] + R[i][1] * force_b[1] + R[i][2] * force_b[2] + external[i]) / p.mass for i in range(3)
    ]
    acc[2] = acc[2] - GRAVITY
    torque = body_torque(thrust, p)
    wx, wy, wz = omega
    alpha = [
        (torque[0] + p.tx - (p.jz - p.jy) * wy * wz) / p.jx,
        (torque[1] + p.ty - (p.jx - p.jz) * wz * wx) / p.jy,
        (torque[2] + p.tz - (p.jy - p.jx) * wx * wy) / p.jz,
    ]
    return acc, alpha


def quat_rate(quat: Rows, omega: Rows) -> list[Any]:
    """q̇ = ½ q ⊗ (0, ω) with ω in the body frame."""
    (qw, qx, qy, qz), (wx, wy, wz) = quat, omega
    return [
        -0.5 * (qx * wx + qy * wy + qz * wz),
        0.5 * (qw * wx + qy * wz - qz * wy),
        0.5 * (qw * wy + qz * wx - qx * wz),
        0.5 * (qw * wz + qx * wy - qy * wx),
    ]


def derivative(xp: Any, s: Rows, p: Params, u: Rows) -> list[Any]:
    """Time derivative of the 17 state rows under rotor commands `u` (4 rows in [0, 1])."""
    pos, quat, vel, omega, rotor = s[0:3], s[3:7], s[7:10], s[10:13], s[13:17]
    acc, alpha = acceleration(xp, pos, quat, vel, omega, rotor, p)
    lag = [(ui - r) / xp.where(ui > r, p.tau_rise, p.tau_fall) for ui, r in zip(u, rotor, strict=True)]
    return [*vel, *quat_rate(quat, omega), *acc, *alpha, *lag]


def _normalised(xp: Any, s: list[Any]) -> list[Any]:
    qw, qx, qy, qz = s[3:7]
    scale = 1 / xp.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
    return [*s[0:3], qw * scale, qx * scale, qy * scale, qz * scale, *s[7:]]


def rk4_rows(xp: Any, s: Rows, p: Params, u: Rows, dt: Any) -> list[Any]:
    """One classical Runge-Kutta step on rows; `dt` may differ between environments."""
    half = 0.5 * dt
    k1 = derivative(xp, s, p, u)
    k2 = derivative(xp, [x + half * k for x, k in zip(s, k1, strict=True)], p, u)
    k3 = derivative(xp, [x + half * k for x, k in zip(s, k2, strict=True)], p, u)
    k4 = derivative(xp, [x + dt * k for x, k in zip(s, k3, strict=True)], p, u)
    sixth = dt / 6
    return _normalised(xp, [x + sixth * (a + 2 * (b + c) + d) for x, a, b, c, d in zip(s, k1, k2, k3, k4, strict=True)])


def step(xp: Any, state: Any, params: Any, command: Any, dt: Any) -> Any:
    """One RK4 step of `dt` seconds with the command held.

    Args:
        state: (17, N); params: (P, N); command: (4, N), clipped to [0, 1]; dt: number or (N,).

    Returns:
        The next state (17, N); quaternion of unit norm, rotors in [0, 1].
    """
    u = [xp.clip(c, 0.0, 1.0) for c in command]
    s = rk4_rows(xp, list(state), Params(*params), u, dt)
    return xp.stack([*s[:13], *(xp.clip(r, 0.0, 1.0) for r in s[13:])])


def step_delayed(xp: Any, state: Any, params: Any, before: Any, after: Any, switch: Any, dt: float) -> Any:
    """One control step in which the command changes from `before` to `after` at `switch` (N,) in [0, dt]: two RK4s."""
    middle = step(xp, state, params, before, switch)
    return step(xp, middle, params, after, dt - switch)


def step_semi_implicit(xp: Any, s: Rows, p: Params, u: Rows, dt: float) -> list[Any]:
    """One semi-implicit Euler step with the exact motor lag, on rows: the cheap integrator of gradient training."""
    pos, quat, vel, omega, rotor = s[0:3], s[3:7], s[7:10], s[10:13], s[13:17]
    rotor = [
        ui + (r - ui) * xp.exp(-dt / xp.where(ui > r, p.tau_rise, p.tau_fall)) for ui, r in zip(u, rotor, strict=True)
    ]
    acc, alpha = acceleration(xp, pos, quat, vel, omega, rotor, p)
    vel = [v + dt * a for v, a in zip(vel, acc, strict=True)]
    omega = [w + dt * a for w, a in zip(omega, alpha, strict=True)]
    quat = [q + dt * r for q, r in zip(quat, quat_rate(quat, omega), strict=True)]
    pos = [x + dt * v for x, v in zip(pos, vel, strict=True)]
    return _normalised(xp, [*pos, *quat, *vel, *omega, *rotor])
