"""The differentiable flight task: one training step and its loss on rows, for autograd and for generated code.

Positions and velocities are relative to the target. Not the evaluation simulator: it integrates with semi-implicit
Euler and models a command delay by interpolating between past commands, which is smooth; `env.py` is the judge.
"""

from __future__ import annotations

from typing import Any

from robot_rl.sim.quadrotor import equations as eq
from robot_rl.sim.quadrotor import observer_equations as oe

CONTROL_DT = 0.01
NOISE_POS, NOISE_ROT, NOISE_VEL, NOISE_RATE = 1e-3, 1e-3, 2e-3, 2e-3  # Learning to Fly in Seconds
NOISE_ROWS = 21  # position 3, rotation matrix 9, velocity 3, rates 3, target 3
TARGET_STIFFNESS, TARGET_DAMPING, TARGET_TAU = 2.25, 1.5, 0.25  # Langevin target: 1/s², 1/s, s

# What the differentiable task carries from step to step, in rows, and which of it gradients flow through.
CARRY = {
    "state": 17,
    "filter": 12,
    "action1": 4,
    "action2": 4,
    "action3": 4,
    "lin_vel": 3,
    "ang_vel": 3,
    "push": 3,
    "twist": 3,
    "started": 1,
    "target_acc": 3,
    "jerk": 3,
    "target": 12,
}
DIFFERENTIATED = ("state", "filter", "action1", "action2", "action3")

VEHICLE = (
    "mass", "jx", "jy", "jz", "tau_rise", "tau_fall", "thrust0", "thrust1", "thrust2",
    "gain0", "gain1", "gain2", "gain3", "torque_ratio", "fx", "fy", "fz", "tx", "ty", "tz",
    "delay0", "delay1", "delay2", "delay3", "hover", "target_sigma", "smoothness", "fine", "barrier",
)  # fmt: skip


# The observer's memory in the order of the carry, but for the action, and for the integrated offset: it is held at zero
# in training, whose windows are too short to show what it is good for. With it the network learns to ignore position.
MEMORY = ("filter", "lin_vel", "ang_vel", "push", "twist", "started", "target_acc", "jerk")
TARGET_RISE = 0.1  # s, lag of a target's acceleration behind its random push: targets have bounded jerk


def carry_slices() -> dict[str, slice]:
    """Name → rows in the carry array."""
    start, out = 0, {}
    for name, size in CARRY.items():
        out[name] = slice(start, start + size)
        start += size
    return out


SLICES = carry_slices()
CARRY_SIZE = sum(CARRY.values())
DIFFERENTIATED_SIZE = sum(CARRY[n] for n in DIFFERENTIATED)


def observe(xp: Any, carry: Any, noise: Any, nominal: oe.Nominal) -> tuple[Any, Any]:
    """Noisy observation rows (35, …) and the observer's part of the next carry, in the order of MEMORY."""
    part = {name: carry[rows].T for name, rows in SLICES.items()}
    state, noise = part["state"], noise.T
    R = oe.rotation_matrix(xp, state[..., 3:7])
    R = R + NOISE_ROT * xp.stack([noise[..., 3:6], noise[..., 6:9], noise[..., 9:12]], -2)
    memory = {n: part[n] for n in MEMORY} | {"action": part["action1"], "offset": state[..., 0:3] * 0}
    dt = part["started"] * 0 + CONTROL_DT
    obs, memory = oe.observe(
        xp,
        state[..., 0:3] + NOISE_POS * noise[..., 0:3],
        R,
        state[..., 7:10] + NOISE_VEL * noise[..., 12:15],
        state[..., 10:13] + NOISE_RATE * noise[..., 15:18],
        target_acceleration(part["target"].T).T,
        (R[..., 0, 0:1], R[..., 1, 0:1]),
        memory,
        dt,
        nominal,
    )
    return obs.T, xp.concatenate([memory[n] for n in MEMORY], -1).T


def target_acceleration(target: Any) -> Any:
    """Acceleration (3, …) of the Langevin target: rows position 3, velocity 3, push 3."""
    return target[6:9] - TARGET_STIFFNESS * target[0:3] - TARGET_DAMPING * target[3:6]


def advance(xp: Any, carry: Any, action: Any, vehicle: Any, noise: Any) -> tuple[Any, Any, Any]:
    """One control step: next state rows (17), next target rows (12) and the loss of this step.

    Args:
        carry: (CARRY_SIZE, …). action: (4, …) in [−1, 1], now. vehicle: rows as VEHICLE. noise: (NOISE_ROWS, …).
    """
    v: dict[str, Any] = dict(zip(VEHICLE, vehicle, strict=True))
    part = {name: carry[rows] for name, rows in SLICES.items()}
    now, last = 0.5 * action + 0.5, 0.5 * part["action1"] + 0.5
    u = v["delay0"] * now + v["delay1"] * last
    u = u + v["delay2"] * (0.5 * part["action2"] + 0.5) + v["delay3"] * (0.5 * part["action3"] + 0.5)
    target = part["target"]
    pull = target_acceleration(target)
    names = (
        "mass",
        "jx",
        "jy",
        "jz",
        "tau_rise",
        "tau_fall",
        "thrust0",
        "thrust1",
        "thrust2",
        "gain0",
        "gain1",
        "gain2",
        "gain3",
        "torque_ratio",
    )
    p = eq.Params(
        **{n: v[n] for n in names},
        arm=NOMINAL_ARM, drag_xy=0.0, drag_z=0.0, ground_effect=0.0, ground_z=-100.0, supply=1.0,
        fx=v["fx"] - v["mass"] * pull[0], fy=v["fy"] - v["mass"] * pull[1], fz=v["fz"] - v["mass"] * pull[2],
        tx=v["tx"], ty=v["ty"], tz=v["tz"], windx=0.0, windy=0.0, windz=0.0,
    )  # fmt: skip
    state = eq.step_semi_implicit(xp, list(part["state"]), p, list(u), CONTROL_DT)
    kick = v["target_sigma"] * (2 * CONTROL_DT / TARGET_TAU) ** 0.5 * noise[18:21]
    wanted = target[9:12] * (1 - CONTROL_DT / TARGET_TAU) + kick
    push = target[6:9] + (CONTROL_DT / TARGET_RISE) * (wanted - target[6:9])
    velocity = target[3:6] + CONTROL_DT * pull
    moved = xp.concatenate([target[0:3] + CONTROL_DT * velocity, velocity, push, wanted], 0)
    return state, moved, loss(xp, state, now, last, pull, v)


NOMINAL_ARM = 0.028
APPROACH_RATE = 2.5  # 1/s
POSITION_WEIGHT, POSITION_KNEE = 4.0, 0.03  # 1/m, m: quadratic inside the knee, linear outside
FINE_KNEE, FINE_REACH = 0.01, 0.05  # m, m: the same once more near the target, constant beyond
BARRIER_START, BARRIER_LEAD = 0.3, 0.2  # m per axis; s, how far ahead: who comes in fast is not hurried further


def loss(xp: Any, s: Any, now: Any, last: Any, pull: Any, v: dict[str, Any]) -> Any:
    """Smooth cost of a step: approach at 2.5/s, point the thrust where it must go, be calm, stay in the box."""
    e = [s[7 + i] + APPROACH_RATE * s[i] for i in range(3)]
    r00, up = eq.rotation(*s[3:7])[0][0], [row[2] for row in eq.rotation(*s[3:7])]
    external = (v["fx"], v["fy"], v["fz"])
    want = [pull[i] - 4.0 * e[i] - external[i] / v["mass"] for i in range(3)]
    want[2] = want[2] + eq.GRAVITY
    length = xp.sqrt(want[0] * want[0] + want[1] * want[1] + want[2] * want[2] + 1e-6)
    cosine = (up[0] * want[0] + up[1] * want[1] + up[2] * want[2]) / length
    square = s[0] * s[0] + s[1] * s[1] + s[2] * s[2]
    rates = s[10] * s[10] + s[11] * s[11] + s[12] * s[12]
    b = BARRIER_START
    ahead = [s[i] + BARRIER_LEAD * s[7 + i] for i in range(3)]
    over = [xp.clip(x, b, 10.0) - b + (xp.clip(-x, b, 10.0) - b) for x in ahead]
    fine = xp.clip(square, 0.0, FINE_REACH * FINE_REACH)
    outside = over[0] * over[0] + over[1] * over[1] + over[2] * over[2]
    effort = [now[i] - v["hover"] for i in range(4)]
    change = [now[i] - last[i] for i in range(4)]
    return (
        xp.sqrt(1 + e[0] * e[0] + e[1] * e[1] + e[2] * e[2]) - 1
        + POSITION_WEIGHT * (xp.sqrt(POSITION_KNEE * POSITION_KNEE + square) - POSITION_KNEE)
        + v["fine"] * (xp.sqrt(FINE_KNEE * FINE_KNEE + fine) - FINE_KNEE)
        + 0.5 * (1 - cosine)
        + 0.01 * xp.clip(rates, 0.0, 400.0)
        + 0.05 * (effort[0] * effort[0] + effort[1] * effort[1] + effort[2] * effort[2] + effort[3] * effort[3])
        + v["smoothness"]
        * (change[0] * change[0] + change[1] * change[1] + change[2] * change[2] + change[3] * change[3])
        + v["barrier"] * xp.clip(outside, 0.0, 1.0)
        + 0.2 * (1 - r00)
    )  # fmt: skip
