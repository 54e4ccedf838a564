"""A real policy file made without torch: the Go1 holds its default pose, plus `lean` times its forward command."""

from __future__ import annotations

import ctypes.util
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as onh

from robot_rl.contract import Contract, Golden, GoldenStep
from robot_rl.policy_file import graph_sha256, write_policy_file
from robot_rl.sim.robots.go1 import OWN, ROBOT
from robot_rl.sim.tasks.go1_velocity_flat import TASK

HAS_GL = any(ctypes.util.find_library(name) for name in ("EGL", "OSMesa"))
WIDTH = sum(s.shape[0] for s in TASK.signals)


def write_standing_policy(path: Path, lean: float = 0.05) -> Path:
    """Joint targets = default pose + lean · commanded forward speed, on all joints."""
    weights, start = np.zeros((WIDTH, 12), np.float32), 0
    for signal in TASK.signals:
        if signal.name == "command_lin_vel_b":
            weights[start] = lean
        start += signal.shape[0]
    nodes = [
        oh.make_node("Concat", [s.name for s in TASK.signals], ["all"], axis=1),
        oh.make_node("Gemm", ["all", "w", "b"], ["joint_pos_target"]),
    ]
    inputs = [oh.make_tensor_value_info(s.name, onnx.TensorProto.FLOAT, ["batch", *s.shape]) for s in TASK.signals]
    outputs = [oh.make_tensor_value_info("joint_pos_target", onnx.TensorProto.FLOAT, ["batch", 12])]
    pose = np.array(OWN.default_pose, np.float32)
    tensors = [onh.from_array(weights, "w"), onh.from_array(pose, "b")]
    graph = oh.make_graph(nodes, "standing", inputs, outputs, tensors)
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)
    signals = {s.name: (0.0,) * s.shape[0] for s in TASK.signals}
    step = GoldenStep(signals, {}, {"joint_pos_target": tuple(pose.tolist())}, {})
    contract = Contract(
        task=TASK.name, robot=ROBOT.name, signals=TASK.signals, commands=TASK.commands, memory=(), rate=TASK.rate,
        graph_sha256=graph_sha256(model), golden=Golden(2e-6, (step,)),
    )  # fmt: skip
    write_policy_file(path, model, contract)
    return path
