"""Real policy files for tests, made without torch: constant rotor speeds from a graph that reads every signal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as onh

from robot_rl.contract import Contract, Golden, GoldenStep, Rate
from robot_rl.policy_file import graph_sha256, write_policy_file
from robot_rl.signals import FLIGHT_SIGNALS
from robot_rl.sim.robots.crazyflie import ROBOT

SIGNALS = tuple(FLIGHT_SIGNALS.values())
WIDTH = sum(s.shape[0] for s in SIGNALS)


def write_linear_policy(
    path: Path, constant: float = 0.0, batch: int | str = "batch", rate: Rate | None = None
) -> Path:
    """Commands `constant` rad/s whatever the signals are; `rate` defaults to any step from 1 to 50 ms."""
    weights, bias = np.zeros((WIDTH, 4), np.float32), np.full(4, constant, np.float32)
    nodes = [
        oh.make_node("Concat", [s.name for s in SIGNALS], ["all"], axis=1),
        oh.make_node("Gemm", ["all", "w", "b"], ["rotor_speed_target"]),
    ]
    inputs = [oh.make_tensor_value_info(s.name, onnx.TensorProto.FLOAT, [batch, *s.shape]) for s in SIGNALS]
    outputs = [oh.make_tensor_value_info("rotor_speed_target", onnx.TensorProto.FLOAT, [batch, 4])]
    graph = oh.make_graph(nodes, "linear", inputs, outputs, [onh.from_array(weights, "w"), onh.from_array(bias, "b")])
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)
    signals = {s.name: (0.01,) * s.shape[0] for s in SIGNALS}
    step = GoldenStep(signals, {}, {"rotor_speed_target": (constant,) * 4}, {})
    contract = Contract(
        task="quadrotor-hover", robot="crazyflie", signals=SIGNALS, commands=ROBOT.commands, memory=(),
        rate=rate or Rate(0.01, 0.001, 0.05), graph_sha256=graph_sha256(model), golden=Golden(2e-6, (step,)),
    )  # fmt: skip
    write_policy_file(path, model, contract)
    return path
