"""What cannot be translated is refused with the node's name, its operator and the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from robot_rl.errors import ContractError, ExportError
from robot_rl.firmware_export.generate import generate
from robot_rl.firmware_export.load import load_policy

node = helper.make_node
Save = Callable[..., Path]


def test_unknown_operator(save_graph: Save) -> None:
    path = save_graph([node("Det", ["x"], ["o"], "det_7")], {"x": [1, 3, 3]}, ["o"])
    with pytest.raises(ExportError, match=r"'det_7' \(operator Det\).*Supported: Abs, .*add_an_operator"):
        load_policy(path)


def test_dynamic_dimension(save_graph: Save) -> None:
    path = save_graph([node("Relu", ["x"], ["o"])], {"x": ["batch", "length"]}, ["o"])
    with pytest.raises(ExportError, match="'x' has the dynamic dimension 'length' at axis 1"):
        load_policy(path)


def test_shape_that_depends_on_data(save_graph: Save) -> None:
    path = save_graph([node("NonZero", ["x"], ["z"], "nz"), node("Cast", ["z"], ["o"], to=1)], {"x": [1, 3]}, ["o"])
    with pytest.raises(ExportError, match=r"'nz' \(operator NonZero\)"):
        load_policy(path)
    target = node("Reshape", ["y", "s"], ["o"], "shape_it")
    path = save_graph([node("Cast", ["x"], ["s"], to=TensorProto.INT64), target], {"x": [2], "y": [1, 4]}, ["o"])
    with pytest.raises(ExportError, match=r"'shape_it' \(operator Reshape\): the shape of 'o' depends on data"):
        load_policy(path)


def test_indices_computed_while_running(save_graph: Save) -> None:
    nodes = [node("Cast", ["i"], ["whole"], to=TensorProto.INT64), node("Gather", ["x", "whole"], ["o"], "pick")]
    path = save_graph(nodes, {"x": [4], "i": [2]}, ["o"])
    with pytest.raises(ExportError, match=r"'pick' \(operator Gather\): its indices .* must be a constant"):
        generate(path, path.with_name("c"))


def test_computed_weights(save_graph: Save) -> None:
    path = save_graph([node("Gemm", ["x", "y"], ["o"], "gemm_1")], {"x": [1, 4], "y": [4, 2]}, ["o"])
    with pytest.raises(ExportError, match=r"'gemm_1' \(operator Gemm\).*constant weights"):
        generate(path, path.with_name("c"))


def test_double_precision(save_graph: Save) -> None:
    nodes = [node("Cast", ["x"], ["d"], "to_double", to=TensorProto.DOUBLE), node("Cast", ["d"], ["o"], to=1)]
    path = save_graph(nodes, {"x": [1, 4]}, ["o"])
    with pytest.raises(ExportError, match=r"'to_double' \(operator Cast\).*DOUBLE"):
        load_policy(path)


def test_nan_weights(save_graph: Save) -> None:
    path = save_graph([node("Add", ["x", "c"], ["o"])], {"x": [1, 2]}, ["o"], {"c": np.array([1, np.nan], np.float32)})
    with pytest.raises(ExportError, match="'c' contains NaN"):
        load_policy(path)


def test_memory_without_its_pair(save_graph: Save) -> None:
    path = save_graph([node("Add", ["x", "memory_in.h"], ["o"])], {"x": [1, 2], "memory_in.h": [1, 2]}, ["o"])
    with pytest.raises(ExportError, match="pairs"):
        load_policy(path)


def test_files_that_are_no_policies(tmp_path: Path, compact: Path) -> None:
    with pytest.raises(ExportError, match="there is no file"):
        load_policy(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(ExportError, match="not an ONNX file"):
        load_policy(tmp_path / "text.onnx")
    data = compact.read_bytes()
    (tmp_path / "short.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises((ExportError, ContractError)):
        load_policy(tmp_path / "short.onnx")
    at = data.index(b'"control_dt"')
    (tmp_path / "tampered.onnx").write_bytes(data[:at] + b'"control_dx"' + data[at + 12 :])
    with pytest.raises(ContractError):
        load_policy(tmp_path / "tampered.onnx")


def test_a_name_that_c_cannot_use(compact: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'my-policy'"):
        generate(compact, tmp_path / "c", name="my-policy")
