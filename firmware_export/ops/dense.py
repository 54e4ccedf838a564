"""Matrix products. By a constant matrix: weights are packed for a kernel that keeps 4 sums and 4 inputs in registers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.firmware_export.ir import Graph, Node
from robot_rl.firmware_export.operator import Helper, Kernel, Unsupported
from robot_rl.firmware_export.render import KernelWriter

BLOCK = 4

# Weights lie block by block: for 4 outputs, all columns, 4 weights each. Each weight is loaded once and each input once per
# 4 outputs; 4 sums, 4 inputs and the weights in flight fit into the 32 single registers of a Cortex-M4F.
DENSE4 = Helper(
    "dense4",
    """static void {p}_dense4(const float *restrict w, const float *restrict b, const float *restrict x, float *restrict y,
    size_t columns, size_t blocks)
{{
    for (; blocks > 0; --blocks) {{
        const float *restrict v = x;
        float s0 = b ? b[0] : 0.0f, s1 = b ? b[1] : 0.0f, s2 = b ? b[2] : 0.0f, s3 = b ? b[3] : 0.0f;
        for (size_t k = columns / 4; k > 0; --k) {{
            const float v0 = v[0], v1 = v[1], v2 = v[2], v3 = v[3];
            s0 += w[0] * v0;
            s1 += w[1] * v0;
            s2 += w[2] * v0;
            s3 += w[3] * v0;
            s0 += w[4] * v1;
            s1 += w[5] * v1;
            s2 += w[6] * v1;
            s3 += w[7] * v1;
            s0 += w[8] * v2;
            s1 += w[9] * v2;
            s2 += w[10] * v2;
            s3 += w[11] * v2;
            s0 += w[12] * v3;
            s1 += w[13] * v3;
            s2 += w[14] * v3;
            s3 += w[15] * v3;
            w += 16;
            v += 4;
        }}
        for (size_t k = columns % 4; k > 0; --k) {{
            const float v0 = *v++;
            s0 += w[0] * v0;
            s1 += w[1] * v0;
            s2 += w[2] * v0;
            s3 += w[3] * v0;
            w += 4;
        }}
        y[0] = s0;
        y[1] = s1;
        y[2] = s2;
        y[3] = s3;
        y += 4;
        b = b ? b + 4 : b;
    }}
}}
""",
)

# The outputs left over, one row of weights each.
DENSE1 = Helper(
    "dense1",
    """static float {p}_dense1(const float *restrict w, float bias, const float *restrict x, size_t columns)
{{
    float s0 = bias, s1 = 0.0f;
    for (size_t k = columns / 2; k > 0; --k) {{
        s0 += w[0] * x[0];
        s1 += w[1] * x[1];
        w += 2;
        x += 2;
    }}
    return (columns % 2) ? s0 + s1 + *w * *x : s0 + s1;
}}
""",
)


def packed(matrix: NDArray[Any]) -> NDArray[np.float32]:
    """Weights (outputs, inputs) in the order in which the kernels read them; same number of elements."""
    matrix = matrix.astype(np.float32)
    whole = matrix.shape[0] // BLOCK * BLOCK
    blocks = matrix[:whole].reshape(-1, BLOCK, matrix.shape[1]).transpose(0, 2, 1)
    return np.concatenate([blocks.ravel(), matrix[whole:].ravel()])


def dense(writer: KernelWriter, matrix: NDArray[Any], bias: NDArray[Any] | None, x: str, y: str, origin: str) -> None:
    """y = matrix·x + bias for one vector; matrix (outputs, inputs)."""
    outputs, inputs = matrix.shape
    blocks = outputs // BLOCK
    weights = writer.weight(packed(matrix), origin)
    biases = None if bias is None else writer.weight(bias, f"{origin} (bias)")
    if blocks:
        writer.use(DENSE4)
        writer.line(f"{{p}}_dense4({weights}, {biases or 'NULL'}, {x}, {y}, {inputs}, {blocks});")
    for row in range(blocks * BLOCK, outputs):
        writer.use(DENSE1)
        start = f"{biases}[{row}]" if biases else "0.0f"
        writer.line(f"({y})[{row}] = {{p}}_dense1({weights} + {row * inputs}, {start}, {x}, {inputs});")
    writer.count(outputs * inputs)


def _gemm(node: Node, graph: Graph, writer: KernelWriter) -> None:
    left, right = graph.tensors[node.inputs[0]], graph.tensors[node.inputs[1]]
    if left.kind != "float":
        raise Unsupported("it is translated for float32 only")
    bias = graph.tensors[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else None
    alpha, beta = float(node.attributes.get("alpha", 1.0)), float(node.attributes.get("beta", 1.0))
    if right.data is None or (bias is not None and bias.data is None):
        raise Unsupported("its matrix or bias is computed while running; a Gemm needs constant weights")
    if node.attributes.get("transA", 0) and min(left.shape) > 1:
        raise Unsupported("transA=1 is translated for vectors only")
    matrix = right.data.astype(np.float32)
    matrix = (matrix if node.attributes.get("transB", 0) else matrix.T) * np.float32(alpha)
    rows, outputs = graph.tensors[node.outputs[0]].shape
    offsets = None
    if bias is not None and bias.data is not None:
        offsets = np.broadcast_to(bias.data.astype(np.float32) * np.float32(beta), (rows, outputs))
    for row in range(rows):
        x, y = _at(writer.input(0), row * matrix.shape[1]), _at(writer.output(), row * outputs)
        dense(writer, matrix, None if offsets is None else offsets[row], x, y, node.inputs[1])


def _matmul(node: Node, graph: Graph, writer: KernelWriter) -> None:
    left, right = (graph.tensors[name] for name in node.inputs)
    if left.kind != "float":
        raise Unsupported("it is translated for float32 only")
    if right.data is not None and len(right.shape) == 2:
        inputs, outputs = right.shape
        for row in range(left.size // inputs):
            dense(writer, right.data.T, None, _at(writer.input(0), row * inputs),
                  _at(writer.output(), row * outputs), node.inputs[1])
    elif left.data is not None and len(left.shape) == 2 and (len(right.shape) == 1 or right.shape[1:] == (1,)):
        dense(writer, left.data, None, writer.input(1), writer.output(), node.inputs[0])
    else:
        _general(node, graph, writer)


def _general(node: Node, graph: Graph, writer: KernelWriter) -> None:
    """Products of two computed matrices, with NumPy's rules for vectors and stacks."""
    a, b = (graph.tensors[name].shape for name in node.inputs)
    a, b = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
    (rows, inner), outputs = a[-2:], b[-1]
    stack = np.broadcast_shapes(a[:-2], b[:-2])
    of_a = np.broadcast_to(np.arange(int(np.prod(a[:-2]))).reshape(a[:-2]), stack).ravel()
    of_b = np.broadcast_to(np.arange(int(np.prod(b[:-2]))).reshape(b[:-2]), stack).ravel()
    for index, (first, second) in enumerate(zip(of_a.tolist(), of_b.tolist(), strict=True)):
        writer.line("{")
        writer.line(f"const float *const a = {_at(writer.input(0), first * rows * inner)};", 2)
        writer.line(f"const float *const b = {_at(writer.input(1), second * inner * outputs)};", 2)
        writer.line(f"float *const y = {_at(writer.output(), index * rows * outputs)};", 2)
        writer.line(f"for (size_t i = 0; i < {rows}; ++i) {{", 2)
        writer.line(f"for (size_t j = 0; j < {outputs}; ++j) {{", 3)
        writer.line("float sum = 0.0f;", 4)
        writer.line(f"for (size_t k = 0; k < {inner}; ++k) {{", 4)
        writer.line(f"sum += a[{inner} * i + k] * b[{outputs} * k + j];", 5)
        writer.line("}", 4)
        writer.line(f"y[{outputs} * i + j] = sum;", 4)
        writer.line("}", 3)
        writer.line("}", 2)
        writer.line("}")
        writer.count(rows * inner * outputs)


def _at(pointer: str, offset: int) -> str:
    return f"{pointer} + {offset}" if offset else pointer


OPERATORS = {"Gemm": Kernel(_gemm), "MatMul": Kernel(_matmul)}
