"""A small real policy file made without torch: two signals and `time_step`, a two-element filter as memory, tanh."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as onh

from robot_rl.contract import Command, Contract, Golden, GoldenStep, Memory, Rate
from robot_rl.policy_file import graph_sha256, write_policy_file
from robot_rl.signals import Signal

SIGNALS = (
    Signal("base_ang_vel_b", (3,), "rad/s", "body"),
    Signal("target_yaw", (1,), "rad", "world"),
    Signal("time_step", (1,), "s"),
)
COMMAND = Command(
    "rotor_speed_target", "rotor_speed", "rad/s", ("left", "right"), (0.0, 0.0), (2000.0, 1000.0), (0.0, 0.0)
)
MEMORY = Memory("filter", (2,), (0.5, -0.25))
SCALE = np.array([1000.0, 500.0], dtype=np.float32)


def weights() -> dict[str, np.ndarray]:
    """Fixed small weights, non-trivial and reproducible."""
    rng = np.random.default_rng(7)
    return {"w": rng.normal(0, 0.5, (4, 2)).astype(np.float32), "b": np.array([0.1, -0.2], dtype=np.float32)}


def build_model(batch: int | str = "batch", opset: int = 18) -> onnx.ModelProto:
    """state += dt (tanh([gyro, yaw] w + b) − state); command = (1 + state) · scale."""
    nodes = [
        oh.make_node("Concat", ["base_ang_vel_b", "target_yaw"], ["obs"], axis=1),
        oh.make_node("Gemm", ["obs", "w", "b"], ["hidden"]),
        oh.make_node("Tanh", ["hidden"], ["wanted"]),
        oh.make_node("Sub", ["wanted", "memory_in.filter"], ["error"]),
        oh.make_node("Mul", ["error", "time_step"], ["change"]),
        oh.make_node("Add", ["memory_in.filter", "change"], ["memory_out.filter"]),
        oh.make_node("Constant", [], ["one"], value=onh.from_array(np.array([1.0], dtype=np.float32))),
        oh.make_node("Add", ["memory_out.filter", "one"], ["shifted"]),
        oh.make_node("Mul", ["shifted", "scale"], ["rotor_speed_target"]),
    ]
    inputs = [_value(s.name, batch, s.shape) for s in SIGNALS] + [_value("memory_in.filter", batch, (2,))]
    outputs = [_value("rotor_speed_target", batch, (2,)), _value("memory_out.filter", batch, (2,))]
    constants = [onh.from_array(v, k) for k, v in {**weights(), "scale": SCALE}.items()]
    graph = oh.make_graph(nodes, "policy", inputs, outputs, constants)
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", opset)], ir_version=9)


def reference(signals: dict[str, np.ndarray], filter_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same in numpy: (n, …) → command (n, 2), memory (n, 2)."""
    values = weights()
    wanted = np.tanh(np.concatenate([signals["base_ang_vel_b"], signals["target_yaw"]], 1) @ values["w"] + values["b"])
    following = filter_ + (wanted - filter_) * signals["time_step"]
    return (1 + following) * SCALE, following


def build_contract(model: onnx.ModelProto, steps: int = 3, **changes: Any) -> Contract:
    """The contract of `build_model`, its golden chain computed by `reference`."""
    rng, memory, golden = np.random.default_rng(3), np.array([MEMORY.initial], dtype=np.float32), []
    for _ in range(steps):
        signals = {s.name: rng.normal(0, 1, (1, *s.shape)).astype(np.float32) for s in SIGNALS}
        signals["time_step"] = np.array([[0.02]], dtype=np.float32)
        command, following = reference(signals, memory)
        golden.append(
            GoldenStep(
                {k: _floats(v) for k, v in signals.items()},
                {"filter": _floats(memory)},
                {"rotor_speed_target": _floats(command)},
                {"filter": _floats(following)},
            )
        )
        memory = following.astype(np.float32)
    contract = Contract(
        task="test-task", robot="test-robot", signals=SIGNALS, commands=(COMMAND,), memory=(MEMORY,),
        rate=Rate(0.01, 0.001, 0.05), graph_sha256=graph_sha256(model), golden=Golden(2e-6, tuple(golden)),
        provenance={"seed": 1, "commit": "unknown"},
    )  # fmt: skip
    return dataclasses.replace(contract, **changes)


def write_policy(path: Path, batch: int | str = "batch", **changes: Any) -> Path:
    """Build and write; returns the path."""
    model = build_model(batch)
    write_policy_file(path, model, build_contract(model, **changes))
    return path


def _value(name: str, batch: int | str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, *shape])


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in np.ravel(values))
