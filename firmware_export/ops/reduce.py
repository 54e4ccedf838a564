"""Sums, means and extremes along axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_rl.firmware_export.ir import Graph, Node
from robot_rl.firmware_export.operator import Kernel, Unsupported, integers
from robot_rl.firmware_export.render import KernelWriter
from robot_rl.firmware_export.view import View, merged_axes


@dataclass(frozen=True)
class _Reduction:
    start: str
    update: str
    finish: str = "sum"

    def write(self, node: Node, graph: Graph, writer: KernelWriter) -> None:
        source, result = graph.tensors[node.inputs[0]], graph.tensors[node.outputs[0]]
        if source.kind != "float" or source.size == 0:
            raise Unsupported("it is translated for non-empty float32 arrays only")
        axes = integers(graph, node, 1, "axes")
        if axes is None:
            axes = [] if node.attributes.get("noop_with_empty_axes", 0) else list(range(len(source.shape)))
        axes = [a % len(source.shape) for a in axes]
        kept = [a for a in range(len(source.shape)) if a not in axes]
        view = View.whole("x", source.shape)
        outer, (outer_steps,) = merged_axes([source.shape[a] for a in kept], [view.transposed([*kept])])
        inner, (inner_steps,) = merged_axes([source.shape[a] for a in axes], [view.transposed([*axes])])
        count = int(np.prod([source.shape[a] for a in axes], dtype=np.int64))
        writer.line("{")
        writer.line(f"const float *const x = {writer.input(0)};", 2)
        writer.line(f"float *y = {writer.output()};", 2)
        depth = _open(writer, "i", outer, 2)
        writer.line(f"float sum = {self.start.format(first=_element('', [], 'i', outer_steps))};", depth)
        deepest = _open(writer, "k", inner, depth)
        value = _element("k", inner_steps, "i", outer_steps)
        writer.line(self.update.format(x=value), deepest)
        _close(writer, deepest, depth)
        writer.line(f"*y++ = {self.finish.format(n=count)};", depth)
        _close(writer, depth, 1)
        assert result.size * count == source.size


def _open(writer: KernelWriter, letter: str, counts: list[int], depth: int) -> int:
    for axis, count in enumerate(counts):
        writer.line(f"for (size_t {letter}{axis} = 0; {letter}{axis} < {count}; ++{letter}{axis}) {{", depth + axis)
    return depth + len(counts)


def _close(writer: KernelWriter, depth: int, until: int) -> None:
    for level in range(depth - 1, until - 1, -1):
        writer.line("}", level)


def _element(inner: str, inner_steps: list[int], outer: str, outer_steps: list[int]) -> str:
    terms = [f"{s} * {outer}{a}" for a, s in enumerate(outer_steps)] + [
        f"{s} * {inner}{a}" for a, s in enumerate(inner_steps)
    ]
    return f"x[{' + '.join(terms) or '0'}]"


OPERATORS = {
    "ReduceSum": Kernel(_Reduction("0.0f", "sum += {x};").write),
    "ReduceMean": Kernel(_Reduction("0.0f", "sum += {x};", "sum / {n}.0f").write),
    "ReduceSumSquare": Kernel(_Reduction("0.0f", "sum += {x} * {x};").write),
    "ReduceL2": Kernel(_Reduction("0.0f", "sum += {x} * {x};", "sqrtf(sum)").write),
    "ReduceL1": Kernel(_Reduction("0.0f", "sum += fabsf({x});").write),
    "ReduceProd": Kernel(_Reduction("1.0f", "sum *= {x};").write),
    "ReduceMax": Kernel(_Reduction("{first}", "sum = (sum < {x} || {x} != {x}) ? {x} : sum;").write),
    "ReduceMin": Kernel(_Reduction("{first}", "sum = (sum > {x} || {x} != {x}) ? {x} : sum;").write),
}
