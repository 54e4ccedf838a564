"""A classical position and attitude controller as a real policy file: it flies the Crazyflie, motor lag and all.

PD in position, geometric attitude error, mixer, and a rotor model in memory that partly inverts the motor lag.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as onh
import onnxruntime

from robot_rl.contract import Command, Contract, Golden, GoldenStep, Memory, Rate, Safety
from robot_rl.policy_file import graph_sha256, write_policy_file
from robot_rl.signals import FLIGHT_SIGNALS
from robot_rl.sim.robots.crazyflie import L2F, ROBOT

MEMORY = Memory("rotor", (4,), (0.0, 0.0, 0.0, 0.0))
SIGNALS = tuple(FLIGHT_SIGNALS.values())
_MIX = np.array([[-1, -1, -1], [-1, 1, 1], [1, 1, -1], [1, -1, 1]], np.float32) / 4  # roll, pitch, yaw of each rotor


class _Graph:
    """Just enough to write arithmetic: each call adds a node and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def const(self, value: Any, dtype: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(onh.from_array(np.asarray(value, dtype), name))
        return name

    def __call__(self, op: str, *inputs: Any, out: str = "", **attributes: Any) -> str:
        names = [i if isinstance(i, str) else self.const(i) for i in inputs]
        output = out or f"n{len(self.nodes)}"
        self.nodes.append(oh.make_node(op, names, [output], **attributes))
        return output

    def part(self, name: str, start: int, stop: int) -> str:
        bounds = [self.const([v], np.int64) for v in (start, stop, 1)]
        return self("Slice", name, *bounds)

    def clip(self, name: str, low: float, high: float) -> str:
        return self("Clip", name, np.float32(low), np.float32(high))

    def total(self, name: str) -> str:
        return self("ReduceSum", name, self.const([1], np.int64), keepdims=1)


def _rotation(g: _Graph) -> dict[str, str]:
    """Columns of the rotation matrix, from the quaternion: names of the (batch, 3) body axes in the world."""
    w, x, y, z = (g.part("base_quat_wxyz", i, i + 1) for i in range(4))

    def twice(a: str, b: str, sign: int, c: str, d: str) -> str:
        first, second = g("Mul", a, b), g("Mul", c, d)
        return g("Mul", g("Add" if sign > 0 else "Sub", first, second), 2.0)

    def one_minus(a: str, b: str) -> str:
        return g("Sub", 1.0, g("Mul", g("Add", g("Mul", a, a), g("Mul", b, b)), 2.0))

    rows = {
        "x": (one_minus(y, z), twice(x, y, 1, w, z), twice(x, z, -1, w, y)),
        "y": (twice(x, y, -1, w, z), one_minus(x, z), twice(y, z, 1, w, x)),
        "z": (twice(x, z, 1, w, y), twice(y, z, -1, w, x), one_minus(x, y)),
    }
    return {axis: g("Concat", *parts, axis=1) for axis, parts in rows.items()}


def build_model() -> onnx.ModelProto:
    """The controller as an ONNX graph with a symbolic batch dimension."""
    g = _Graph()
    body = _rotation(g)
    error = g.clip(g("Sub", "target_pos_w", "base_pos_w"), -0.5, 0.5)
    slip = g.clip(g("Sub", "target_lin_vel_w", "base_lin_vel_w"), -2.0, 2.0)
    wanted = g("Add", g("Add", g("Mul", error, 6.25), g("Mul", slip, 4.5)), "target_lin_acc_w")
    wanted = g("Add", wanted, [[0.0, 0.0, 9.81]])
    wanted = g("Max", g("Min", wanted, [[5.0, 5.0, 18.0]]), [[-5.0, -5.0, 3.0]])
    force = g.clip(g("Mul", g.total(g("Mul", wanted, body["z"])), L2F.mass), 0.0, 0.5)
    direction = g("Div", wanted, g("Sqrt", g.total(g("Mul", wanted, wanted))))
    # Body roll error: −(b_y · d), pitch error: b_x · d.
    roll = g("Neg", g.total(g("Mul", body["y"], direction)))
    pitch = g.total(g("Mul", body["x"], direction))
    heading = g.part(body["x"], 0, 2)
    heading = g("Div", heading, g("Add", g("Sqrt", g.total(g("Mul", heading, heading))), 1e-6))
    cos_yaw, sin_yaw = g.part(heading, 0, 1), g.part(heading, 1, 2)
    turn = g("Sub", g("Mul", g("Sin", "target_yaw"), cos_yaw), g("Mul", g("Cos", "target_yaw"), sin_yaw))
    stiffness, damping = np.array([[144.0, 144.0, 9.0]]), np.array([[20.0, 20.0, 6.0]])
    angle = g("Concat", roll, pitch, turn, axis=1)
    spin = g("Sub", g("Mul", angle, stiffness), g("Mul", "base_ang_vel_b", damping))
    arms = np.array([[1 / L2F.arm, 1 / L2F.arm, 1 / L2F.torque_ratio]])
    moment = g("Mul", spin, np.array([L2F.inertia]) * arms)
    thrust = g("Add", g("Mul", force, 0.25), g("MatMul", moment, _MIX.T.copy()))
    speed = g("Sqrt", g.clip(g("Div", thrust, L2F.max_thrust), 0.02, 1.0))
    lead = g("Mul", g("Sub", speed, "memory_in.rotor"), L2F.tau_rise / 0.04)
    command = g.clip(g("Add", "memory_in.rotor", lead), 0.0, 1.0)
    follow = g("Sub", 1.0, g("Exp", g("Mul", "time_step", -1.0 / L2F.tau_rise)))
    g("Add", "memory_in.rotor", g("Mul", g("Sub", command, "memory_in.rotor"), follow), out="memory_out.rotor")
    g("Mul", command, np.array([ROBOT.commands[0].upper]), out="rotor_speed_target")
    inputs = [_value(s.name, s.shape) for s in SIGNALS] + [_value("memory_in.rotor", (4,))]
    outputs = [_value("rotor_speed_target", (4,)), _value("memory_out.rotor", (4,))]
    graph = oh.make_graph(g.nodes, "pd", inputs, outputs, g.constants)
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)


def build_contract(model: onnx.ModelProto, **changes: Any) -> Contract:
    """The contract of `build_model`, its golden calls recorded by running the graph."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(5)
    steps = []
    for _ in range(3):
        signals = {s.name: rng.normal(0, 0.2, (1, *s.shape)).astype(np.float32) for s in SIGNALS}
        signals["base_quat_wxyz"] = np.array([[math.cos(0.1), math.sin(0.1), 0, 0]], np.float32)
        signals["time_step"] = np.array([[0.01]], np.float32)
        memory = rng.uniform(0.5, 0.7, (1, 4)).astype(np.float32)
        command, after = session.run(None, {**signals, "memory_in.rotor": memory})
        steps.append(
            GoldenStep(
                {k: _floats(v) for k, v in signals.items()},
                {"rotor": _floats(memory)},
                {"rotor_speed_target": _floats(command)},
                {"rotor": _floats(after)},
            )
        )
    fields: dict[str, Any] = {
        "task": "quadrotor-hover",
        "robot": "crazyflie",
        "signals": SIGNALS,
        "commands": ROBOT.commands,
        "memory": (MEMORY,),
        "rate": Rate(0.01, 0.001, 0.02),
        "graph_sha256": graph_sha256(model),
        "golden": Golden(1e-5, tuple(steps)),
        "safety": Safety(max_position_error=1.0),
    }
    return Contract(**{**fields, **changes})


def write_pd_policy(path: Path, **changes: Any) -> Path:
    """A policy file at `path`; `changes` replace fields of its contract."""
    model = build_model()
    write_policy_file(path, model, build_contract(model, **changes))
    return path


def changed_command(**changes: Any) -> Command:
    """The Crazyflie's command with some fields replaced."""
    import dataclasses

    return dataclasses.replace(ROBOT.commands[0], **changes)


def _value(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape])


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values.ravel())
