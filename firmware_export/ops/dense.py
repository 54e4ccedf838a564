"""Matrix products. By a constant matrix: weights are packed for kernels that keep a block of sums in registers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.firmware_export.ir import Graph, Node
from robot_rl.firmware_export.operator import Helper, Kernel, Unsupported
from robot_rl.firmware_export.render import KernelWriter

UNROLLED = 4
"""Columns handled per turn of the inner loop."""


def _block(rows: int) -> Helper:
    """Kernel for `rows` outputs at a time.

    Weights lie block by block: all columns, `rows` weights each. Every weight is loaded once, every input once per
    block; the sums, an input and the weights in flight fit into the 32 single registers of a Cortex-M4F.
    """
    sums = [f"s{r}" for r in range(rows)]

    def macs(column: int, depth: str) -> str:
        return "\n".join(f"{depth}{s} += w[{column * rows + r}] * v{column};" for r, s in enumerate(sums))

    loads = ", ".join(f"v{c} = v[{c}]" for c in range(UNROLLED))
    starts = ",\n            ".join(f"{s} = b ? b[{r}] : 0.0f" for r, s in enumerate(sums))
    body = "\n".join(macs(c, " " * 12) for c in range(UNROLLED))
    stores = "\n".join(f"        y[{r}] = {s};" for r, s in enumerate(sums))
    return Helper(
        f"dense{rows}",
        f"""static void {{p}}_dense{rows}(const float *restrict w, const float *restrict b, const float *restrict x,
    float *restrict y, size_t columns, size_t blocks)
{{{{
    for (; blocks > 0; --blocks) {{{{
        const float *restrict v = x;
        float {starts};
        for (size_t k = columns / {UNROLLED}; k > 0; --k) {{{{
            const float {loads};
{body}
            w += {rows * UNROLLED};
            v += {UNROLLED};
        }}}}
        for (size_t k = columns % {UNROLLED}; k > 0; --k) {{{{
            const float v0 = *v++;
{macs(0, " " * 12)}
            w += {rows};
        }}}}
{stores}
        y += {rows};
        b = b ? b + {rows} : b;
    }}}}
}}}}
""",
    )


BLOCKS = {rows: _block(rows) for rows in (8, 4)}

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


def parts(outputs: int) -> list[tuple[int, int, int]]:
    """How the outputs are divided: (first output, outputs per block, number of blocks); the last has blocks of 1."""
    result, start = [], 0
    for rows in (*BLOCKS, 1):
        count = (outputs - start) // rows
        if count:
            result.append((start, rows, count))
            start += rows * count
    return result


def packed(matrix: NDArray[Any]) -> NDArray[np.float32]:
    """Weights (outputs, inputs) in the order in which the kernels read them; same number of elements."""
    matrix = matrix.astype(np.float32)
    pieces = []
    for start, rows, count in parts(matrix.shape[0]):
        block = matrix[start : start + rows * count].reshape(count, rows, matrix.shape[1])
        pieces.append(block.transpose(0, 2, 1).ravel())
    return np.concatenate(pieces)


def dense(writer: KernelWriter, matrix: NDArray[Any], bias: NDArray[Any] | None, x: str, y: str, origin: str) -> None:
    """Y = matrix·x + bias for one vector; matrix (outputs, inputs)."""
    outputs, inputs = matrix.shape
    weights = writer.weight(packed(matrix), origin)
    biases = None if bias is None else writer.weight(bias, f"{origin} (bias)")
    for start, rows, count in parts(outputs):
        if rows == 1:
            writer.use(DENSE1)
            for row in range(start, outputs):
                first = f"{biases}[{row}]" if biases else "0.0f"
                writer.line(f"({y})[{row}] = {{p}}_dense1({_at(weights, row * inputs)}, {first}, {x}, {inputs});")
        else:
            writer.use(BLOCKS[rows])
            offsets = _at(biases, start) if biases else "NULL"
            where = f"{_at(weights, start * inputs)}, {offsets}, {x}, {_at(y, start)}"
            writer.line(f"{{p}}_dense{rows}({where}, {inputs}, {count});")
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
            dense(
                writer,
                right.data.T,
                None,
                _at(writer.input(0), row * inputs),
                _at(writer.output(), row * outputs),
                node.inputs[1],
            )
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
