"""What the default flight policy sees, as equations on signals: exported, trained on and generated as code from here.

Arrays are component-last, (..., n), as signals are. `xp` is `torch` or `robot_rl.sim.codegen.symbolic`. Memory is
explicit; every update uses the time that really passed since the last call, so one policy runs at any rate from 50 to
1000 Hz.

The policy sees no rotor speeds. Leaky averages of its own commands stand in for them, and a Luenberger observer on
the nominal vehicle estimates what pushes: disturbance, payload, thrust error. The observer works on velocity relative
to the target, and the target's acceleration enters as one more known push, so following a moving target needs no
inputs of its own.

What is left, the network's own small errors and a vehicle it does not know, is integrated into `offset`, which shifts
the position that the network sees. It does not wind up: velocity cancels most of the position on the way in, no more
than 3 cm are integrated at a time, and far from the target nothing is; what was there leaks away.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from robot_rl.sim.quadrotor import equations as eq

FILTER_TAUS = (0.02, 0.06, 0.15)  # s; the last is the nominal motor lag and serves as rotor estimate
OBSERVER_RATE = 6.0  # rad/s, both poles
MAX_PUSH = 6.0  # m/s², limit of the estimated disturbance acceleration
MAX_TWIST = 30.0  # rad/s², likewise angular
MAX_POSITION_ERROR = 0.4  # m per axis; farther out the policy sees this much, and does not hurry more
MAX_VELOCITY_ERROR = 3.0  # m/s per axis
JERK_TAU = 0.03  # s, smoothing of the target's differentiated acceleration
MAX_JERK = 40.0  # m/s³, per axis
INTEGRAL_RATE, INTEGRAL_LEAD = 1.0, 0.2  # 1/s; s, velocity that cancels a position error on the way in
MAX_INTEGRATED, MAX_OFFSET = 0.03, 0.15  # m per axis: of the error integrated, of the offset
INTEGRAL_REACH, INTEGRAL_LEAK = 0.1, 2.0  # m per axis: farther out less is integrated, beyond twice as far nothing; 1/s
LEAD = 0.12  # s, how far ahead the acceleration to produce is predicted: thrust follows attitude and rotors
PUSH_SCALE, JERK_SCALE = 0.8, 0.08  # s²/m, s³/m
OBS_SIZE = 35
MEMORY = {
    "filter": 12,
    "action": 4,
    "lin_vel": 3,
    "ang_vel": 3,
    "push": 3,
    "twist": 3,
    "started": 1,
    "target_acc": 3,
    "jerk": 3,
    "offset": 3,
}


class Nominal(NamedTuple):
    """The vehicle the observer believes in; plain numbers in SI units."""

    mass: float
    jx: float
    jy: float
    jz: float
    thrust0: float
    thrust1: float
    thrust2: float
    torque_ratio: float
    arm: float


def rotation_matrix(xp: Any, quat_wxyz: Any) -> Any:
    """Unit quaternion (..., 4) → rotation matrix (..., 3, 3), body → world."""
    rows = eq.rotation(*(quat_wxyz[..., i : i + 1] for i in range(4)))
    return xp.stack([xp.concatenate(list(r), -1) for r in rows], -2)


def to_body(R: Any, vector: Any) -> Any:
    """Rᵀ v: world → body. (..., 3, 3), (..., 3) → (..., 3)."""
    return (R * vector[..., :, None]).sum(-2)


def filter_action(xp: Any, memory: dict[str, Any], dt: Any) -> Any:
    """The three leaky averages per rotor after `dt` s of the previous action; (..., 12), grouped by time constant."""
    filters, action = memory["filter"], memory["action"]
    updated = [
        f + (1 - xp.exp(-dt / tau)) * (action - f)
        for f, tau in zip((filters[..., 0:4], filters[..., 4:8], filters[..., 8:12]), FILTER_TAUS, strict=True)
    ]
    return xp.concatenate(updated, -1)


def predict(xp: Any, R: Any, ang_vel: Any, rotor: Any, nominal: Nominal) -> tuple[Any, Any]:
    """Linear (world, with gravity) and angular (body) acceleration of the nominal vehicle at `rotor` (..., 4)."""
    thrust = nominal.thrust0 + (nominal.thrust1 + nominal.thrust2 * rotor) * rotor
    t0, t1, t2, t3 = (thrust[..., i : i + 1] for i in range(4))
    lin = R[..., :, 2] * ((t0 + t1 + t2 + t3) / nominal.mass)
    lin = xp.concatenate([lin[..., 0:2], lin[..., 2:3] - eq.GRAVITY], -1)
    wx, wy, wz = (ang_vel[..., i : i + 1] for i in range(3))
    torque_x, torque_y = nominal.arm * (t2 + t3 - t0 - t1), nominal.arm * (t1 + t2 - t0 - t3)
    torque_z = nominal.torque_ratio * (t1 + t3 - t0 - t2)
    ang = xp.concatenate(
        [
            (torque_x - (nominal.jz - nominal.jy) * wy * wz) / nominal.jx,
            (torque_y - (nominal.jx - nominal.jz) * wz * wx) / nominal.jy,
            (torque_z - (nominal.jy - nominal.jx) * wx * wy) / nominal.jz,
        ],
        -1,
    )
    return lin, ang


def observe(
    xp: Any,
    pos_error: Any,
    R: Any,
    vel_error: Any,
    ang_vel: Any,
    target_acc: Any,
    heading: tuple[Any, Any],
    memory: dict[str, Any],
    dt: Any,
    nominal: Nominal,
) -> tuple[Any, dict[str, Any]]:
    """Observation (..., 35) and the memory after this call (its `action` still the previous one).

    Args:
        pos_error: position minus target, world, m, (..., 3).
        R: body → world, (..., 3, 3).
        vel_error: velocity minus target's, world, m/s, (..., 3).
        ang_vel: body rates, rad/s, (..., 3).
        target_acc: acceleration of the target, world, m/s², (..., 3).
        heading: cos and sin of the yaw error's reference: R's first column turned into the target's heading, each
            (..., 1).
        memory: see MEMORY; `started` is 0 before the first call, which then adopts the measurement.
        dt: seconds since the previous call, (..., 1).
        nominal: the vehicle assumed.
    """
    filters = filter_action(xp, memory, dt)
    lin, ang = predict(xp, R, ang_vel, 0.5 + 0.5 * filters[..., 8:12], nominal)
    started = memory["started"]
    keep, gain = 1 - 2 * OBSERVER_RATE * dt, OBSERVER_RATE * OBSERVER_RATE * dt
    v_error = started * (vel_error - memory["lin_vel"] - dt * (lin + memory["push"] - target_acc))
    w_error = started * (ang_vel - memory["ang_vel"] - dt * (ang + memory["twist"]))
    push = xp.clip(memory["push"] + gain * v_error, -MAX_PUSH, MAX_PUSH)
    twist = xp.clip(memory["twist"] + gain * w_error, -MAX_TWIST, MAX_TWIST)
    jerk = differentiated(xp, memory, target_acc, dt)
    seen, ahead = pos_error + memory["offset"], target_acc + LEAD * jerk
    obs = features(xp, seen, R, vel_error, ang_vel, heading, filters, (push, ahead), twist, jerk)
    updated = {
        "filter": filters,
        "action": memory["action"],
        "lin_vel": vel_error - keep * v_error,
        "ang_vel": ang_vel - keep * w_error,
        "push": push,
        "twist": twist,
        "started": started * 0 + 1,
        "target_acc": target_acc,
        "jerk": jerk,
        "offset": integrated(xp, memory["offset"], pos_error, vel_error, dt),
    }
    return obs, updated


def differentiated(xp: Any, memory: dict[str, Any], target_acc: Any, dt: Any) -> Any:
    """The target's jerk (..., 3) m/s³, smoothed, after an acceleration (..., 3) m/s²."""
    change = memory["started"] * xp.clip((target_acc - memory["target_acc"]) / dt, -MAX_JERK, MAX_JERK)
    return memory["jerk"] + (1 - xp.exp(-dt / JERK_TAU)) * (change - memory["jerk"])


def integrated(xp: Any, offset: Any, pos_error: Any, vel_error: Any, dt: Any) -> Any:
    """The offset (..., 3) m after `dt` s of these errors (..., 3) in m and m/s."""
    distance = xp.clip(pos_error, 0.0, 10.0) + xp.clip(-pos_error, 0.0, 10.0)
    near = xp.clip(2 - distance / INTEGRAL_REACH, 0.0, 1.0)
    missed = xp.clip(pos_error + INTEGRAL_LEAD * vel_error, -MAX_INTEGRATED, MAX_INTEGRATED)
    change = INTEGRAL_RATE * near * missed - INTEGRAL_LEAK * (1 - near) * offset
    return xp.clip(offset + dt * change, -MAX_OFFSET, MAX_OFFSET)


def features(
    xp: Any,
    pos_error: Any,
    R: Any,
    vel_error: Any,
    ang_vel: Any,
    heading: tuple[Any, Any],
    filters: Any,
    push: tuple[Any, Any],
    twist: Any,
    jerk: Any,
) -> Any:
    """What the network reads, (..., 35), of order one; `push`: estimate and target acceleration, m/s², (..., 3)."""
    return xp.concatenate(
        [
            4.0 * to_body(R, xp.clip(pos_error, -MAX_POSITION_ERROR, MAX_POSITION_ERROR)),
            to_body(R, xp.clip(vel_error, -MAX_VELOCITY_ERROR, MAX_VELOCITY_ERROR)),
            R[..., 2, :],
            heading[0],
            heading[1],
            0.15 * ang_vel,
            filters,
            PUSH_SCALE * to_body(R, push[0] - push[1]),
            0.03 * twist,
            JERK_SCALE * to_body(R, jerk),
        ],
        -1,
    )
