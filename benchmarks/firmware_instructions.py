"""Instructions of one call on an emulated Cortex-M4F: our generated C beside emx-onnx-cgen's, same compiler and flags.

    python benchmarks/firmware_instructions.py [policy.onnx …] [--board stm32f405]

Without files: an MLP 16-64-64-4 with tanh and a compact flight policy (rotation, leaky filters, MLP 35-64-64-4,
mixer). Ours is
counted with all guards against NaN; emx-onnx-cgen's has none. Both are compiled with -O2, theirs also with -O3.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from robot_rl.errors import RobotRlError
from robot_rl.firmware_export.board import load_emulated
from robot_rl.firmware_export.instructions import count_instructions, count_program
from robot_rl.firmware_export.interface import c_names

TARGET_RATIO = 0.5


def main() -> int:
    """Print the table; 1 when a ratio misses the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policies", nargs="*", type=Path)
    parser.add_argument("--board", default="stm32f405")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        paths = arguments.policies or [_mlp(Path(scratch)), _compact(Path(scratch))]
        print(
            f"{'policy':24} {'ours':>8} {'emx -O2':>8} {'emx -O3':>8} {'ratio':>6}  (to the better; aim {TARGET_RATIO})"
        )
        worst = 0.0
        for path in paths:
            ours = count_instructions(path, arguments.board)
            theirs = [_emx(path, arguments.board, level) for level in ("-O2", "-O3")]
            ratio = ours / min(theirs)
            worst = max(worst, ratio)
            print(f"{path.stem:24} {ours:8d} {theirs[0]:8d} {theirs[1]:8d} {ratio:6.2f}")
    return 0 if worst <= TARGET_RATIO else 1


def _emx(path: Path, board: str, level: str) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = onnx.load(path)
        initialised = {t.name for t in model.graph.initializer}
        inputs = [v for v in model.graph.input if v.name not in initialised]
        for value in inputs:
            value.type.tensor_type.shape.dim[0].dim_value = 1
        onnx.save(model, folder / "model.onnx")
        program = Path(sys.executable).with_name("emx-onnx-cgen")
        command = [program, "compile", "model.onnx", "theirs.c", "--model-name", "theirs"]
        command += ["--large-temp-threshold", "0"]
        for value in inputs:
            if not value.type.tensor_type.shape.dim[0].HasField("dim_value"):
                command += ["--input-dim", f"{value.name}:0=1"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        shapes = {
            v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in (*inputs, *model.graph.output)
        }
        (folder / "call.c").write_text(_caller(shapes))
        return count_program(folder, ["theirs.c", "call.c"], load_emulated(board), (level, "-w"))


def _caller(shapes: dict[str, list[int]]) -> str:
    names = c_names(shapes)
    arrays = {name: "".join(f"[{n}]" for n in shape) for name, shape in shapes.items()}
    declared = "\n".join(f"static float {names[n]}{a};" for n, a in arrays.items())
    parameters = ", ".join(f"float {names[n]}{a}" for n, a in arrays.items())
    filled = "\n".join(
        f"    for (int i = 0; i < (int)(sizeof {names[n]} / 4); ++i) ((float *){names[n]})[i] = 0.1f * (float)i;"
        for n in arrays
    )
    return (
        f"void theirs({parameters});\nvoid counted_setup(void);\nvoid counted(void);\n{declared}\n"
        f"void counted_setup(void)\n{{\n{filled}\n}}\n"
        f"void counted(void)\n{{\n    theirs({', '.join(names.values())});\n}}\n"
    )


class _Builder:
    """Just enough to write a small ONNX graph by hand."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: object, dtype: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, op: str, *inputs: str, output: str = "", **attributes: object) -> str:
        name = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def mlp(self, x: str, sizes: list[int], output: str = "") -> str:
        layers = list(pairwise(sizes))
        for index, (n, m) in enumerate(layers):
            weights = self.constant(self.rng.standard_normal((m, n)) / np.sqrt(n))
            x = self.add("Gemm", x, weights, self.constant(self.rng.standard_normal(m) * 0.1), transB=1)
            x = self.add("Tanh", x, output=output if index == len(layers) - 1 else "")
        return x

    def save(self, path: Path, inputs: dict[str, int], outputs: dict[str, int]) -> Path:
        def values(sizes: dict[str, int]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(k, TensorProto.FLOAT, [1, n]) for k, n in sizes.items()]

        graph = helper.make_graph(self.nodes, path.stem, values(inputs), values(outputs), self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        return path


def _mlp(folder: Path) -> Path:
    builder = _Builder()
    builder.mlp("obs", [16, 64, 64, 4], "act")
    return builder.save(folder / "mlp-16-64-64-4.onnx", {"obs": 16}, {"act": 4})


VECTORS = ("base_pos_w", "base_lin_vel_w", "base_ang_vel_b", "target_pos_w", "target_lin_vel_w", "target_lin_acc_w")


def _compact(folder: Path) -> Path:
    """The shape of a compact flight policy: 35 features, 3 leaky filters per motor, normalised mixer."""
    b = _Builder()
    one, half = b.constant(1.0), b.constant(0.5)
    error = b.add("Clip", b.add("Sub", "base_pos_w", "target_pos_w"), b.constant(-1.0), one)
    features = b.add(
        "Concat", error, *_rotation(b, one), b.add("Sub", "base_lin_vel_w", "target_lin_vel_w"), "base_ang_vel_b",
        b.add("Cos", "target_yaw"), b.add("Sin", "target_yaw"), _filtered(b, one, half), "target_lin_acc_w", axis=1,
    )  # fmt: skip
    action = b.mlp(features, [35, 64, 64, 4], "memory_out.action")
    mixer = b.constant(np.array([[1, 1, 1, 1], [-1, -1, 1, 1], [-1, 1, 1, -1], [-1, 1, -1, 1]]))
    share = b.add("Tanh", b.add("MatMul", action, mixer))
    b.add("Mul", b.add("Add", b.add("Mul", share, half), half), b.constant(2272.6), output="rotor_speed_target")
    b.add("Max", "memory_in.started", one, output="memory_out.started")
    memory = {"filter": 12, "action": 4, "started": 1}
    inputs = {
        **dict.fromkeys(VECTORS, 3), "base_quat_wxyz": 4, "target_yaw": 1, "time_step": 1,
        **{f"memory_in.{name}": size for name, size in memory.items()},
    }  # fmt: skip
    outputs = {"rotor_speed_target": 4, **{f"memory_out.{name}": size for name, size in memory.items()}}
    return b.save(folder / "compact-flight.onnx", inputs, outputs)


def _rotation(b: _Builder, one: str) -> list[str]:
    """Nine elements of the rotation matrix from the quaternion."""
    axis, two, q = b.constant([1], np.int64), b.constant(2.0), []
    for i in range(4):
        q.append(b.add("Slice", "base_quat_wxyz", b.constant([i], np.int64), b.constant([i + 1], np.int64), axis))
    w, x, y, z = q

    def product(first: str, second: str) -> str:
        return b.add("Mul", two, b.add("Mul", first, second))

    def diagonal(first: str, second: str) -> str:
        return b.add("Sub", one, b.add("Add", product(first, first), product(second, second)))

    def mixed(op: str, first: str, second: str, third: str) -> str:
        return b.add(op, product(first, second), product(third, w))

    return [
        diagonal(y, z), mixed("Sub", x, y, z), mixed("Add", x, z, y), mixed("Add", x, y, z), diagonal(x, z),
        mixed("Sub", y, z, x), mixed("Sub", x, z, y), mixed("Add", y, z, x), diagonal(x, y),
    ]  # fmt: skip


def _filtered(b: _Builder, one: str, half: str) -> str:
    """Leaky filters of the last action with three time constants, started by the first call."""
    taus = b.constant(np.repeat([0.02, 0.05, 0.15], 4)[None])
    decay = b.add("Exp", b.add("Neg", b.add("Div", "time_step", taus)))
    repeated = b.add("Concat", *["memory_in.action"] * 3, axis=1)
    blended = b.add("Add", b.add("Mul", decay, "memory_in.filter"), b.add("Mul", b.add("Sub", one, decay), repeated))
    started = b.add("Greater", "memory_in.started", half)
    return b.add("Where", started, blended, repeated, output="memory_out.filter")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RobotRlError as problem:
        sys.exit(f"error: {problem}")
