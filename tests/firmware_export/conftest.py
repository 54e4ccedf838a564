"""Policies for these tests: two flight policies through the real exporter, and small graphs written by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from flight_policies import export_compact, export_with_history
from onnx import TensorProto, helper, numpy_helper

Inputs = list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def compact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """35-64-64-4 tanh, leaky filters, started flag, sin and cos of yaw, mixer: any rate."""
    return export_compact(tmp_path_factory.mktemp("compact") / "compact.onnx")


@pytest.fixture(scope="session")
def with_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """146-64-64-4 with a history (32, 4), a normaliser and a rational tanh: one rate."""
    return export_with_history(tmp_path_factory.mktemp("history") / "history.onnx")


def flight_inputs(path: Path, count: int, seed: int = 0) -> Inputs:
    """Random flight states and the memory that the policy itself had there."""
    from robot_rl.policy import Policy

    policy = Policy.load(path, verify=False)
    rng = np.random.default_rng(seed)
    result: Inputs = []
    for step in range(count):
        if step % 20 == 0:
            policy.reset()
        signals = {s.name: rng.normal(0, 0.3, s.shape).astype(np.float32) for s in policy.contract.signals}
        quaternion = rng.normal((1, 0, 0, 0), 0.3)
        signals["base_quat_wxyz"] = (quaternion / np.linalg.norm(quaternion)).astype(np.float32)
        if "time_step" in signals:
            signals["time_step"] = rng.uniform(0.001, 0.01, 1).astype(np.float32)
        result.append((signals, {name: value[0] for name, value in policy.memory.items()}))
        policy.act(signals)
    return result


@pytest.fixture(scope="session")
def states() -> Callable[..., Inputs]:
    return flight_inputs


@pytest.fixture
def save_graph(tmp_path: Path) -> Callable[..., Path]:
    """Write a graph: nodes, inputs and outputs by name and shape, constants by name."""

    def save(
        nodes: list[onnx.NodeProto],
        inputs: dict[str, list[int | str]],
        outputs: list[str],
        constants: dict[str, np.ndarray] | None = None,
        *,
        opset: int = 18,
        kinds: dict[str, int] | None = None,
    ) -> Path:
        kind = kinds or {}
        graph = helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info(n, kind.get(n, TensorProto.FLOAT), s) for n, s in inputs.items()],
            [helper.make_tensor_value_info(n, kind.get(n, TensorProto.FLOAT), None) for n in outputs],
            [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        path = tmp_path / "graph.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model, data_prop=True), path)
        return path

    return save
