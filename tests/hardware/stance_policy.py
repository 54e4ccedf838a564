"""Real policy files that stand: the Go1 leans as far as it is told to walk forward, any other robot holds its pose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as onh
import onnxruntime

from robot_rl.contract import Contract, Golden, GoldenStep, Rate, Safety
from robot_rl.policy_file import graph_sha256, write_policy_file
from robot_rl.registry import load
from robot_rl.signals import WALKING_COMMANDS, Signal
from robot_rl.sim.robot_spec import RobotSpec
from robot_rl.sim.robots.go1 import OWN, REST, ROBOT

OBSERVED = ("joint_pos", "joint_vel", "base_quat_wxyz", "base_ang_vel_b")
SIGNALS = (*(s for s in ROBOT.signals if s.name in OBSERVED), *WALKING_COMMANDS.values())
STAND, REST_POSE = np.array(OWN.default_pose), np.array(REST)
LEAN = np.array([[0.0, 0.2, 0.0] * 4], np.float32)  # rad of the thighs per m/s


def build_model() -> onnx.ModelProto:
    """default pose + lean · command_lin_vel_b[0]; the other signals are read and do not count."""
    constants = {
        "stand": STAND[None].astype(np.float32),
        "lean": LEAN,
        "from": np.array([0], np.int64),
        "to": np.array([1], np.int64),
        "axis": np.array([1], np.int64),
    }
    nodes = [
        oh.make_node("Slice", ["command_lin_vel_b", "from", "to", "axis"], ["forward"]),
        oh.make_node("Mul", ["forward", "lean"], ["bent"]),
        oh.make_node("Add", ["bent", "stand"], ["joint_pos_target"]),
    ]
    values = {s.name: oh.make_tensor_value_info(s.name, onnx.TensorProto.FLOAT, ["batch", *s.shape]) for s in SIGNALS}
    output = oh.make_tensor_value_info("joint_pos_target", onnx.TensorProto.FLOAT, ["batch", 12])
    tensors = [onh.from_array(value, name) for name, value in constants.items()]
    graph = oh.make_graph(nodes, "stance", list(values.values()), [output], tensors)
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)


def build_contract(model: onnx.ModelProto, **changes: Any) -> Contract:
    """The contract of `build_model`, its golden calls recorded by running the graph."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng, steps = np.random.default_rng(3), []
    for _ in range(3):
        signals = {s.name: rng.normal(0, 0.3, (1, *s.shape)).astype(np.float32) for s in SIGNALS}
        (target,) = session.run(None, signals)
        recorded = {name: tuple(float(v) for v in value.ravel()) for name, value in signals.items()}
        steps.append(GoldenStep(recorded, {}, {"joint_pos_target": tuple(float(v) for v in target.ravel())}, {}))
    fields: dict[str, Any] = {
        "task": "go1-velocity-flat",
        "robot": "go1",
        "signals": SIGNALS,
        "commands": ROBOT.commands,
        "memory": (),
        "rate": Rate(0.02, 0.02, 0.02),
        "graph_sha256": graph_sha256(model),
        "golden": Golden(1e-5, tuple(steps)),
        "gains": OWN.gains(),
        "safety": Safety(max_tilt=1.2, max_body_rate=10.0),
    }
    return Contract(**{**fields, **changes})


def write_stance_policy(path: Path, **changes: Any) -> Path:
    """A policy file at `path`; `changes` replace fields of its contract."""
    model = build_model()
    write_policy_file(path, model, build_contract(model, **changes))
    return path


def write_holding_policy(path: Path, spec: RobotSpec) -> Path:
    """A policy file for any robot with joints that answers its idle command, whatever it sees."""
    return _write_constant(path, spec, (), "hold", {})


def write_pointing_policy(path: Path) -> Path:
    """A policy file for the Panda that turns its first joint by 2 rad per metre of the goal's y."""
    task = load("task", "panda-push")
    read = tuple(s for s in task.signals if s.name in ("object_pos_w", "target_pos_w"))
    turn = np.zeros((3, 7), np.float32)
    turn[1, 0] = 2.0
    return _write_constant(path, load("robot", "panda"), read, task.name, {"joint_pos_target": ("target_pos_w", turn)})


def _write_constant(
    path: Path, spec: RobotSpec, read: tuple[Signal, ...], task: str, more: dict[str, tuple[str, np.ndarray]]
) -> Path:
    """Idle commands, plus signal · matrix for those named in `more`; other signals are read and do not count."""
    signals = (next(s for s in spec.signals if s.name == "joint_pos"), *read)
    nodes, constants = [], [onh.from_array(np.zeros((signals[0].shape[0], 1), np.float32), "nothing")]
    nodes.append(oh.make_node("MatMul", ["joint_pos", "nothing"], ["zero"]))
    for c in spec.commands:
        constants.append(onh.from_array(np.array([c.idle], np.float32), f"{c.name}_idle"))
        added = more.get(c.name)
        nodes.append(oh.make_node("Add", ["zero", f"{c.name}_idle"], [f"{c.name}_still" if added else c.name]))
        if added:
            constants.append(onh.from_array(added[1], f"{c.name}_matrix"))
            nodes.append(oh.make_node("MatMul", [added[0], f"{c.name}_matrix"], [f"{c.name}_moved"]))
            nodes.append(oh.make_node("Add", [f"{c.name}_still", f"{c.name}_moved"], [c.name]))
    given = [oh.make_tensor_value_info(s.name, onnx.TensorProto.FLOAT, ["batch", *s.shape]) for s in signals]
    answers = [oh.make_tensor_value_info(c.name, onnx.TensorProto.FLOAT, ["batch", len(c.idle)]) for c in spec.commands]
    graph = oh.make_graph(nodes, task, given, answers, constants)
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)
    zeros = {s.name: (0.0,) * s.shape[0] for s in signals}
    golden = GoldenStep(zeros, {}, {c.name: c.idle for c in spec.commands}, {})
    contract = Contract(
        task=task, robot=spec.name, graph_sha256=graph_sha256(model), golden=Golden(1e-5, (golden,)),
        gains=spec.parameters().gains(), signals=signals, commands=spec.commands, memory=(),
        rate=Rate(0.02, 0.02, 0.02),
    )  # fmt: skip
    write_policy_file(path, model, contract)
    return path
