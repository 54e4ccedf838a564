"""ONNX files that others made: what is valid becomes C that agrees with onnxruntime, the rest is refused in words."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from robot_rl.errors import ExportError
from robot_rl.firmware_export.generate import generate
from robot_rl.firmware_export.host import HostModel
from robot_rl.firmware_export.load import load_policy
from robot_rl.firmware_export.status import Status

Save = Callable[..., Path]
node = helper.make_node
WEIGHTS = np.random.default_rng(2).standard_normal((3, 2)).astype(np.float32)


def agrees(path: Path, seeds: int = 2) -> None:
    """The C starts, and gives what onnxruntime gives."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with HostModel(path, flags=["-Werror"]) as compiled:
        assert compiled.status is Status.OK
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            shapes = {i.name: [d if isinstance(d, int) else 1 for d in i.shape] for i in session.get_inputs()}
            given = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
            names = [o.name for o in session.get_outputs()]
            wanted = dict(zip(names, session.run(None, given), strict=True))
            signals = {k: v for k, v in given.items() if not k.startswith("memory_in.")}
            memory = {k.removeprefix("memory_in."): v for k, v in given.items() if k.startswith("memory_in.")}
            status, commands, after = compiled.evaluate(signals, memory)
            assert status is Status.OK
            found = commands | {f"memory_out.{k}": v for k, v in after.items()}
            for name in names:
                np.testing.assert_allclose(found[name].ravel(), np.ravel(wanted[name]), atol=3e-6)


MEMORIES = {"x": [1, 3], "memory_in.a": [1, 3], "memory_in.b": [1, 3]}
GRAPHS: dict[str, tuple[list[onnx.NodeProto], dict[str, list[int | str]], list[str]]] = {
    "no weights": ([node("Tanh", ["x"], ["y"])], {"x": [1, 3]}, ["y"]),
    "scalars": ([node("Mul", ["x", "k"], ["y"])], {"x": [], "k": [1, 4]}, ["y"]),
    "batch of another name": ([node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 3]}, ["y"]),
    "an input that nothing reads": ([node("Exp", ["x"], ["y"])], {"x": [1, 3], "z": [1, 5]}, ["y"]),
    "an output that is an input": ([node("Relu", ["x"], ["y"])], {"x": [1, 3]}, ["y", "x"]),
    "an output that is a constant": ([node("Relu", ["x"], ["y"])], {"x": [1, 3]}, ["y", "w"]),
    "one tensor twice": ([node("Relu", ["x"], ["y"]), node("Identity", ["y"], ["z"])], {"x": [1, 3]}, ["y", "z"]),
    "dead nodes": ([node("Relu", ["x"], ["y"]), node("Det", ["q"], ["d"])], {"x": [1, 3], "q": [1, 3, 3]}, ["y"]),
    "memories change places": (
        [node("Identity", [f"memory_in.{a}"], [f"memory_out.{b}"]) for a, b in ("ab", "ba")]
        + [node("Add", ["x", "memory_in.a"], ["y"])],
        MEMORIES,
        ["y", "memory_out.b", "memory_out.a"],
    ),
    "a definition that asks for types": (
        [node("LayerNormalization", ["x", "ones", "ones"], ["y"])],
        {"x": [1, 3]},
        ["y"],
    ),
    "no elements": (
        [node("Slice", ["x", "zero", "zero", "axis"], ["n"]), node("Concat", ["n", "x"], ["y"], axis=1)],
        {"x": [1, 3]},
        ["y"],
    ),
}
CONSTANTS = {
    "w": WEIGHTS, "ones": np.ones(3, np.float32), "zero": np.array([0], np.int64), "axis": np.array([1], np.int64)
}  # fmt: skip


@pytest.mark.parametrize("graph", GRAPHS)
def test_unusual_graphs(graph: str, save_graph: Save) -> None:
    nodes, inputs, outputs = GRAPHS[graph]
    read = {name for n in nodes for name in n.input} | set(outputs)
    path = save_graph(nodes, inputs, outputs, {k: v for k, v in CONSTANTS.items() if k in read})
    model = onnx.load(path)
    for value in model.graph.output:  # shapes that ONNX cannot infer, as no node computes them
        if not value.type.tensor_type.HasField("shape"):
            shape = WEIGHTS.shape if value.name == "w" else (1, 3)
            value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))
    onnx.save(model, path)
    agrees(path)


@pytest.mark.parametrize("opset", [9, 13, 17, 21])
def test_operator_sets(opset: int, save_graph: Save) -> None:
    nodes = [node("Gemm", ["x", "w", "b"], ["h"]), node("Tanh", ["h"], ["y"])]
    agrees(save_graph(nodes, {"x": [1, 3]}, ["y"], {"w": WEIGHTS, "b": WEIGHTS[0]}, opset=opset))


def test_initialisers_that_are_listed_as_inputs(save_graph: Save) -> None:
    path = save_graph([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 3], "w": [3, 2]}, ["y"], {"w": WEIGHTS}, opset=13)
    model = onnx.load(path)
    model.ir_version = 3
    onnx.save(model, path)
    agrees(path)


@pytest.mark.parametrize("value", [1e-42, 1.1754942e-38, -0.0])
def test_subnormal_weights(value: float, save_graph: Save) -> None:
    weights = WEIGHTS.copy()
    weights[0, 0] = value
    agrees(save_graph([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 3]}, ["y"], {"w": weights}))


def test_weights_in_a_file_beside_the_model(tmp_path: Path, save_graph: Save) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    model = onnx.load(save_graph([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 64]}, ["y"], {"w": weights}))
    path = tmp_path / "big.onnx"
    onnx.save(model, path, save_as_external_data=True, location="big.bin", size_threshold=0)
    agrees(path)
    (tmp_path / "big.bin").unlink()
    with pytest.raises(ExportError, match=r"big\.onnx.*not a valid ONNX file.*big\.bin"):
        load_policy(path)


NAMES = [
    "a.b", "a/b", "a_b", "x" * 300, "x" * 299, "ärm", "a\\", "*/", 'a"b', "1a", "a b", "float", "and", "throw", "class",
    "export", "INFINITY", "NULL", "NAN", "SIZE_MAX", "POLICY_H", "POLICY_MIN_DT", "policy_state", "signals", "unused",
    "int32_t", "memcpy", "unix", "_Bool", "errno",
]  # fmt: skip


@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler: apt-get install g++")
def test_names_that_c_and_cpp_use_themselves(save_graph: Save, tmp_path: Path) -> None:
    nodes = [node("Concat", NAMES, ["out.1"], axis=1), node("Identity", ["out.1"], ["out/1"])]
    path = save_graph(nodes, {name: [1, 1] for name in NAMES}, ["out.1", "out/1"])
    agrees(path)
    generate(path, tmp_path / "c")
    (tmp_path / "use.cpp").write_text('#include "policy.h"\nint main() { return 0; }\n')
    for standard in ("c++11", "gnu++17"):
        command = ["c++", f"-std={standard}", "-Wall", "-Werror", "-fsyntax-only", "-I", "c", "use.cpp"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


REFUSED: list[tuple[list[onnx.NodeProto], dict[str, list[int | str]], list[str], str]] = [
    ([node("Relu", ["x"], ["y"])], {"x": [1, 3]}, ["y", "y"], "outputs .* are not all different"),
    ([node("Relu", ["x"], ["y"])], {"x": [1, 0]}, ["y"], "'x' has the size 0 at axis 1"),
    ([node("Identity", ["w"], ["y"])], {}, ["y"], "no input but memory"),
    ([node("Add", ["memory_in.a", "x"], ["memory_out.a"])], MEMORIES, ["memory_out.a"], "pairs"),
    (
        [node("Add", ["memory_in.a", "x"], ["memory_out.a"])],
        {"x": [1, 3], "memory_in.a": [1, 3]},
        ["memory_out.a"],
        "no output but memory",
    ),
    (
        [node("Add", ["memory_in.a", "x"], ["memory_out.a"]), node("Neg", ["x"], ["y"])],
        {"x": [1, 3], "memory_in.a": [1, 1]},
        ["y", "memory_out.a"],
        r"'a' goes in with shape \(1, 1\) and comes out with \(1, 3\)",
    ),
    (
        [node("Cast", ["x"], ["c"], "narrow", to=TensorProto.INT8), node("Cast", ["c"], ["y"], to=TensorProto.FLOAT)],
        {"x": [1, 3]},
        ["y"],
        r"'narrow' \(operator Cast\).*INT8",
    ),
    (
        [
            node("Cast", ["x"], ["c"], to=TensorProto.INT64),
            node("Div", ["whole", "c"], ["d"], "ratio"),
            node("Cast", ["d"], ["y"], to=TensorProto.FLOAT),
        ],
        {"x": [1, 3]},
        ["y"],
        r"'ratio' \(operator Div\): whole numbers",
    ),
    ([node("Dropout", ["x", "half", "yes"], ["y"], "drop")], {"x": [1, 3]}, ["y"], "'drop' .*training mode"),
    (
        [node("Dropout", ["x"], ["z", "m"], "drop"), node("Cast", ["m"], ["y"], to=TensorProto.FLOAT)],
        {"x": [1, 3]},
        ["y"],
        "'drop' .*mask",
    ),
    ([node("Gather", ["x", "far"], ["y"], axis=1)], {"x": [1, 3]}, ["y"], "cannot be run"),
    ([node("Log", ["x"], ["y"])], {"x": [1, 9]}, ["y"], "NaN or infinity"),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", REFUSED, ids=[case[3] for case in REFUSED])
def test_refusals_name_what_is_wrong(
    case: tuple[list[onnx.NodeProto], dict[str, list[int | str]], list[str], str], tmp_path: Path
) -> None:
    nodes, inputs, outputs, message = case
    constants = {
        "w": WEIGHTS, "whole": np.array([1], np.int64), "yes": np.array(True), "half": np.float32(0.5),
        "far": np.array([7], np.int64),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "refused",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["a"] * len(inputs.get("x", [1, 3]))) for n in outputs],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    with pytest.raises(ExportError, match=message):
        generate(tmp_path / "m.onnx", tmp_path / "c")


def test_numbers_beyond_32_bits_are_held_at_the_end(save_graph: Save) -> None:
    """In C such a conversion is undefined; on every target it must be the same."""
    nodes = [
        node("Mul", ["x", "w"], ["h"]),
        node("Cast", ["h"], ["c"], to=TensorProto.INT64),
        node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    path = save_graph(nodes, {"x": [1, 1]}, ["y"], {"w": np.float32(1e6)})
    with HostModel(path, flags=["-fsanitize-undefined-trap-on-error", "-fsanitize=float-cast-overflow"]) as compiled:
        assert compiled.status is Status.OK
        for given, wanted in ((1e4, 2147483648.0), (-1e4, -2147483648.0), (2.5, 2.5e6)):
            assert compiled.evaluate({"x": np.float32([given])}, {})[1]["y"] == wanted


@pytest.mark.parametrize("operator", ["ReduceMax", "ReduceMin", "Sign"])
def test_nan_inside_the_graph_reaches_the_guard(operator: str, save_graph: Save) -> None:
    """Infinity less infinity: the graph makes a NaN of finite signals, which must not pass for an answer."""
    nodes = [
        node("Mul", ["x", "huge"], ["a"]),
        node("Mul", ["x", "huge"], ["b"]),
        node("Sub", ["a", "b"], ["c"]),
        node("Add", ["c", "x"], ["d"]),
        node(operator, ["d"], ["y"]),
    ]
    path = save_graph(nodes, {"x": [1, 3]}, ["y"], {"huge": np.float32(1e30)})
    with HostModel(path) as compiled:
        assert compiled.status is Status.OK
        for place in range(3):
            given = np.ones((1, 3), np.float32)
            given[0, place] = 1e20
            assert compiled.evaluate({"x": given}, {})[0] is Status.BAD_OUTPUT
