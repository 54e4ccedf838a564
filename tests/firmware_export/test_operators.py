"""Every operator against ONNX's reference implementation, and random graphs of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from robot_rl.firmware_export.host import HostModel
from robot_rl.firmware_export.operator import operators
from robot_rl.firmware_export.status import Status

Case = tuple[str, list[str], dict[str, Any]]
RNG = np.random.default_rng(11)
INPUTS = {"x": [2, 3, 4], "y": [2, 3, 4], "row": [4], "column": [3, 1], "v": [1, 7], "square": [1, 4, 4], "one": [1, 1]}


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CONSTANTS: dict[str, np.ndarray] = {
    "w75": RNG.standard_normal((5, 7)).astype(np.float32),
    "w713": RNG.standard_normal((7, 13)).astype(np.float32),
    "w4_9": RNG.standard_normal((4, 9)).astype(np.float32),
    "b5": RNG.standard_normal(5).astype(np.float32),
    "b13": RNG.standard_normal((1, 13)).astype(np.float32),
    "two": np.float32(2), "half": np.array([0.5], np.float32), "low": np.float32(-0.3), "high": np.float32(0.4),
    "infinite": np.float32(np.inf), "matrix": RNG.standard_normal((3, 4)).astype(np.float32),
    "i0": ints(0), "i1": ints(1), "i2": ints(2), "im1": ints(-1), "last": ints(np.iinfo(np.int64).max),
    "first": ints(np.iinfo(np.int64).min), "i13": ints(1, 3), "i12": ints(1, 2), "i02": ints(0, 2), "swap": ints(1, 2,
    3, 0),
    "scalar2": np.array(2, np.int64), "grid": ints(0, 2, 1, 1).reshape(2, 2), "s64": ints(6, -1), "s2134": ints(2, 1,
    3, 4),
    "s5234": ints(5, 2, 3, 4), "r121": ints(1, 2, 1), "parts": ints(1, 3), "true": np.array([True, False, True, True]),
}  # fmt: skip

CASES: list[Case] = [
    *[(op, ["x", other], {}) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max") for other in ("y", "row", "column",
    "two")],
    *[(op, ["x"], {}) for op in ("Neg", "Abs", "Exp", "Sin", "Cos", "Reciprocal", "Relu", "Tanh", "Sigmoid", "Floor",
    "Ceil")],
    *[(op, ["x"], {}) for op in ("Sign", "Atan", "Tan", "Identity", "HardSigmoid", "Softplus", "HardSwish", "Mish",
    "Gelu")],
    ("Elu", ["x"], {}), ("Elu", ["x"], {"alpha": 0.7}), ("LeakyRelu", ["x"], {"alpha": 0.1}),
    ("Min", ["x", "row", "column"], {}), ("Max", ["row", "x", "two"], {}), ("Sum", ["x", "y", "row"], {}),
    ("Mean", ["x", "y", "row"], {}), ("Pow", ["x", "two"], {}), ("Sub", ["row", "column"], {}),
    ("Clip", ["x", "low", "high"], {}), ("Clip", ["x", "", "high"], {}), ("Clip", ["x", "low"], {}),
    ("Clip", ["x", "high", "low"], {}), ("Clip", ["x", "low", "infinite"], {}),
    ("Concat", ["x", "y"], {"axis": 1}), ("Concat", ["x", "y", "x"], {"axis": -1}), ("Concat", ["x", "y"], {"axis": 0}),
    ("Slice", ["x", "i1", "last", "i2"], {}), ("Slice", ["x", "im1", "first", "i2", "im1"], {}),
    ("Slice", ["x", "i02", "i13", "i12"], {}), ("Slice", ["v", "i1", "im1", "i1", "i2"], {}),
    ("Gather", ["x", "i13"], {"axis": 2}), ("Gather", ["x", "scalar2"], {"axis": 1}), ("Gather", ["x", "grid"],
    {"axis": 1}),
    ("Gather", ["x", "swap"], {"axis": -1}), ("Gather", ["x", "im1"], {"axis": 0}),
    ("Reshape", ["x", "s64"], {}), ("Flatten", ["x"], {"axis": 2}), ("Squeeze", ["one", "i0"], {}), ("Squeeze",
    ["one"], {}),
    ("Unsqueeze", ["x", "i02"], {}), ("Transpose", ["x"], {"perm": [2, 0, 1]}), ("Transpose", ["x"], {}),
    ("Expand", ["column", "s2134"], {}), ("Expand", ["x", "s5234"], {}), ("Tile", ["x", "r121"], {}),
    *[(op, ["x", "i2"], {"keepdims": 0}) for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2")],
    ("ReduceSum", ["x", "i02"], {"keepdims": 1}), ("ReduceMean", ["x"], {}), ("ReduceSum", ["x", "i1"],
    {"keepdims": 0}),
    ("ReduceL1", ["x", "im1"], {}), ("ReduceProd", ["x", "i1"], {}), ("ReduceSumSquare", ["x", "i0"], {}),
    ("Gemm", ["v", "w75", "b5"], {"transB": 1}), ("Gemm", ["v", "w713", "b13"], {"alpha": 0.5, "beta": 2.0}),
    ("Gemm", ["v", "w713"], {}), ("MatMul", ["v", "w713"], {}), ("MatMul", ["x", "w4_9"], {}), ("MatMul", ["x",
    "square"], {}),
    ("MatMul", ["matrix", "row"], {}), ("MatMul", ["x", "row"], {}), ("MatMul", ["row", "square"], {}),
    ("ConstantOfShape", ["i12"], {}),
]  # fmt: skip


def build(cases: list[Case], opset: int = 20) -> onnx.ModelProto:
    from onnx import numpy_helper

    nodes = [helper.make_node(op, inputs, [f"o{i}"], f"n{i}", **extra) for i, (op, inputs, extra) in enumerate(cases)]
    for name, text in {"sqrt": ("Sqrt", "Abs"), "log": ("Log", "Exp")}.items():
        nodes.append(helper.make_node(text[1], ["x"], [f"{name}_in"]))
        nodes.append(helper.make_node(text[0], [f"{name}_in"], [f"o_{name}"]))
    graph = helper.make_graph(
        nodes, "cases", [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in INPUTS.items()],
        [helper.make_tensor_value_info(f"o{i}", TensorProto.FLOAT, None) for i in range(len(cases))]
        + [helper.make_tensor_value_info(f"o_{n}", TensorProto.FLOAT, None) for n in ("sqrt", "log")],
        [numpy_helper.from_array(v, k) for k, v in CONSTANTS.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def check(model: onnx.ModelProto, path: Path, tolerance: float = 3e-6, seeds: int = 3) -> None:
    onnx.save(model, path)
    names = [o.name for o in model.graph.output]
    reference = ReferenceEvaluator(model)
    with HostModel(path, flags=["-Werror"]) as compiled:
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
            feeds = {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()}
            status, found, _ = compiled.evaluate(feeds, {})
            assert status is Status.OK
            for name, wanted in zip(names, reference.run(None, feeds), strict=True):
                wanted = np.asarray(wanted, np.float32).ravel()
                error = np.abs(found[name] - wanted) / np.maximum(1.0, np.abs(wanted))
                node = next(n for n in model.graph.node if name in n.output)
                assert error.max(initial=0.0) <= tolerance, (node.op_type, list(node.input), error.max())


def test_each_operator_computes_what_onnx_defines(tmp_path: Path) -> None:
    check(build(CASES), tmp_path / "cases.onnx")


def test_every_operator_has_a_case() -> None:
    covered = {op for op, _, _ in CASES} | {"Sqrt", "Log"}
    elsewhere = {
        "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "And", "Or", "Xor", "Not", "Where", "IsNaN",
        "Cast",
        "Split", "Dropout", "Asin", "Acos", "Erf",
    }  # fmt: skip
    assert set(operators()) - covered - elsewhere == set()


def test_comparisons_logic_casts_and_selection(save_graph: Callable[..., Path]) -> None:
    node = helper.make_node
    relations = ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"]
    nodes = [
        node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        node("Cast", ["whole"], ["rounded"], to=TensorProto.FLOAT),
    ]
    nodes += [node(op, ["rounded", "y"], [f"b{i}"]) for i, op in enumerate(relations)]
    nodes += [node("And", ["b0", "b3"], ["l0"]), node("Or", ["b0", "b4"], ["l1"]), node("Xor", ["b1", "b2"], ["l2"])]
    nodes += [
        node("Not", ["b4"], ["l3"]),
        node("IsNaN", ["x"], ["l4"]),
        node("Cast", ["x"], ["l5"], to=TensorProto.BOOL),
    ]
    nodes += [node("Where", [f"b{i}", "x", "zero"], [f"o{i}"]) for i in range(5)]
    nodes += [node("Where", [f"l{i}", "y", "x"], [f"p{i}"]) for i in range(6)]
    nodes += [node("Cast", ["b0"], ["q0"], to=TensorProto.FLOAT), node("Split", ["x", "sizes"], ["q1", "q2"], axis=1)]
    nodes += [node("Dropout", ["y"], ["q3"]), node("Clip", ["x", "minus", "plus"], ["inside"])]
    nodes += [node("Asin", ["inside"], ["q4"]), node("Acos", ["inside"], ["q5"])]
    outputs = [f"o{i}" for i in range(5)] + [f"p{i}" for i in range(6)] + [f"q{i}" for i in range(6)]
    constants = {
        "zero": np.zeros(1, np.float32), "sizes": ints(1, 4), "minus": np.float32(-1), "plus": np.float32(1)
    }  # fmt: skip
    path = save_graph(nodes, {"x": [1, 5], "y": [1, 1]}, outputs, constants)
    check(onnx.load(path), path, seeds=10)


UNARY = ["Tanh", "Sigmoid", "Relu", "Neg", "Abs", "Sin", "Cos", "Elu"]
BINARY = ["Add", "Sub", "Mul", "Min", "Max"]


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """Random graphs over tensors (1, n) and (1, 1): elementwise chains, slices, concatenations, products."""
    sizes = {"x": draw(st.integers(2, 9)), "y": 1}
    nodes, constants = [], {}
    for step in range(draw(st.integers(3, 14))):
        name, out = f"t{step}", 0
        a, b = (draw(st.sampled_from(sorted(sizes))) for _ in range(2))
        kind = draw(st.sampled_from(["unary", "binary", "slice", "concat", "gemm", "reverse", "sum"]))
        if kind == "binary" and sizes[a] != sizes[b] and 1 not in (sizes[a], sizes[b]):
            kind = "concat"
        if kind == "unary":
            nodes.append(helper.make_node(draw(st.sampled_from(UNARY)), [a], [name]))
            out = sizes[a]
        elif kind == "binary":
            nodes.append(helper.make_node(draw(st.sampled_from(BINARY)), [a, b], [name]))
            out = max(sizes[a], sizes[b])
        elif kind == "slice":
            start = draw(st.integers(0, sizes[a] - 1))
            stop = draw(st.integers(start + 1, sizes[a]))
            constants |= {f"{name}s": ints(start), f"{name}e": ints(stop)}
            nodes.append(helper.make_node("Slice", [a, f"{name}s", f"{name}e", "axis"], [name]))
            out = stop - start
        elif kind == "concat" and sizes[a] + sizes[b] < 40:
            nodes.append(helper.make_node("Concat", [a, b], [name], axis=1))
            out = sizes[a] + sizes[b]
        elif kind == "gemm":
            out = draw(st.integers(1, 18))
            weights = np.random.default_rng(step).standard_normal((sizes[a], out)) / np.sqrt(sizes[a])
            constants[f"{name}w"] = weights.astype(np.float32)
            nodes.append(helper.make_node("MatMul", [a, f"{name}w"], [name]))
        elif kind == "sum":
            nodes.append(helper.make_node("ReduceMean", [a, "axis"], [name], keepdims=1))
            out = 1
        else:
            constants |= {f"{name}s": ints(-1), f"{name}e": ints(-100)}
            nodes.append(helper.make_node("Slice", [a, f"{name}s", f"{name}e", "axis", f"{name}s"], [name]))
            out = sizes[a]
        sizes[name] = out
    outputs = draw(st.lists(st.sampled_from([n.output[0] for n in nodes]), min_size=1, max_size=3, unique=True))
    from onnx import numpy_helper

    graph = helper.make_graph(
        nodes, "random", [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, sizes[n]]) for n in ("x", "y")],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, sizes[n]]) for n in outputs],
        [numpy_helper.from_array(v, k) for k, v in {**constants, "axis": ints(1)}.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_random_graphs(tmp_path: Path, model: onnx.ModelProto) -> None:
    check(model, tmp_path / "random.onnx", tolerance=2e-5, seeds=2)


@pytest.mark.parametrize("opset", [13, 17])
def test_older_operator_sets_with_attributes(opset: int, save_graph: Callable[..., Path]) -> None:
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["x"], ["o0"], axes=[1], keepdims=1),
        node("ReduceL2", ["x"], ["o1"], axes=[1], keepdims=0),
    ]
    path = save_graph(nodes, {"x": ["batch", 5]}, ["o0", "o1"], opset=opset)
    with HostModel(path) as model:
        x = np.arange(5, dtype=np.float32)
        _, found, _ = model.evaluate({"x": x}, {})
        assert found["o0"][0] == pytest.approx(2.0)
        assert found["o1"][0] == pytest.approx(np.sqrt(30.0))
