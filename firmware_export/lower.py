"""From graph to steps: which buffers exist, which tensors are views of them, and which loops, copies and kernels run.

Nothing here is C text yet; `arena.py` gives the buffers their place and `render.py` writes the statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from robot_rl.errors import ExportError
from robot_rl.firmware_export.fuse import grouped, with_biases
from robot_rl.firmware_export.ir import Graph, Node
from robot_rl.firmware_export.operator import Assembling, Elementwise, Kernel, Unsupported, Viewing, operators
from robot_rl.firmware_export.simplify import describe
from robot_rl.firmware_export.view import View


@dataclass(frozen=True)
class Buffer:
    """Memory for `size` elements. `place` is input, output, constant or arena."""

    name: str
    place: str
    kind: str
    size: int
    data: NDArray[Any] | None = None


@dataclass
class Loop:
    """Elementwise nodes over one shape; `leaves` are read, `results` are written."""

    shape: tuple[int, ...]
    nodes: list[Node]
    leaves: dict[str, View]
    results: dict[str, View]


@dataclass
class Copy:
    """Elements of `source` to `target`, which has the same shape."""

    target: View
    source: View
    kind: str


@dataclass
class Call:
    """A kernel; all views are contiguous, None for inputs left out."""

    node: Node
    inputs: list[View | None]
    outputs: list[View]


Step = Loop | Copy | Call


@dataclass
class Program:
    """Steps in order and the buffers they use."""

    graph: Graph
    steps: list[Step] = field(default_factory=list)
    buffers: dict[str, Buffer] = field(default_factory=dict)


def lowered(graph: Graph) -> Program:
    """Plan the whole graph.

    Raises:
        ExportError: an operator refuses a node; the message names node, operator and reason.
    """
    graph = with_biases(graph)
    planner = _Planner(graph)
    for group in grouped(graph):
        try:
            planner.add(group)
        except Unsupported as reason:
            raise ExportError(f"cannot translate {describe(group[0])}: {reason}") from reason
    planner.finish()
    return planner.program


class _Planner:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.program = Program(graph)
        self.views: dict[str, View] = {}
        for name in graph.inputs:
            tensor = graph.tensors[name]
            self._buffer(Buffer(f"in:{name}", "input", tensor.kind, tensor.size))
            self.views[name] = View.whole(f"in:{name}", tensor.shape)

    def add(self, group: list[Node]) -> None:
        operator = operators()[group[0].op]
        if isinstance(operator, Elementwise):
            self._loop(group)
        elif isinstance(operator, Viewing):
            self._view(group[0], operator)
        elif isinstance(operator, Assembling):
            self._assemble(group[0], operator)
        else:
            self._call(group[0], operator)

    def finish(self) -> None:
        """Copy the outputs that are not computed in place: constants, inputs handed through, views."""
        for name in self.graph.outputs:
            tensor = self.graph.tensors[name]
            if f"out:{name}" not in self.program.buffers:
                source = self._read(name)
                self._buffer(Buffer(f"out:{name}", "output", tensor.kind, tensor.size))
                self._copy(View.whole(f"out:{name}", tensor.shape), source, tensor.kind)

    def _buffer(self, buffer: Buffer) -> None:
        self.program.buffers[buffer.name] = buffer

    def _copy(self, target: View, source: View, kind: str) -> None:
        if target.shape != source.shape:
            source = source.broadcast(target.shape)
        self.program.steps.append(Copy(target, source, kind))

    def _read(self, name: str) -> View:
        if name not in self.views:
            tensor = self.graph.tensors[name]
            self._buffer(Buffer(f"const:{name}", "constant", tensor.kind, tensor.size, tensor.data))
            self.views[name] = View.whole(f"const:{name}", tensor.shape)
        return self.views[name]

    def _write(self, name: str) -> View:
        tensor = self.graph.tensors[name]
        place = "output" if name in self.graph.outputs else "arena"
        buffer = f"out:{name}" if place == "output" else f"tmp:{name}"
        self._buffer(Buffer(buffer, place, tensor.kind, tensor.size))
        self.views[name] = View.whole(buffer, tensor.shape)
        return self.views[name]

    def _contiguous(self, name: str) -> View:
        view, tensor = self._read(name), self.graph.tensors[name]
        if view.contiguous:
            return view
        buffer = f"copy{len(self.program.steps)}:{name}"
        self._buffer(Buffer(buffer, "arena", tensor.kind, tensor.size))
        target = View.whole(buffer, tensor.shape)
        self._copy(target, view, tensor.kind)
        return target

    def _loop(self, group: list[Node]) -> None:
        shape = self.graph.tensors[group[0].outputs[0]].shape
        made = {node.outputs[0] for node in group}
        leaves = {
            name: self._read(name).broadcast(shape)
            for node in group
            for name in node.inputs
            if name and name not in made
        }
        members = set(map(id, group))
        results = {
            name: self._write(name)
            for name in (node.outputs[0] for node in group)
            if name in self.graph.outputs or any(id(n) not in members for n in self.graph.consumers(name))
        }
        self.program.steps.append(Loop(shape, group, leaves, results))

    def _view(self, node: Node, operator: Viewing) -> None:
        views = operator.views(node, self.graph, self._read(node.inputs[0]))
        if views is None and operator.otherwise is not None:
            self._assemble(node, operator.otherwise)
            return
        if views is None:
            views = operator.views(node, self.graph, self._contiguous(node.inputs[0]))
        assert views is not None
        for name, view in zip(node.outputs, views, strict=False):
            assert view.shape == self.graph.tensors[name].shape, (node, view)
            self.views[name] = view

    def _assemble(self, node: Node, operator: Assembling) -> None:
        inputs = [self._read(name) for name in node.inputs]
        output = self._write(node.outputs[0])
        for target, source in operator.pieces(node, self.graph, inputs, output):
            self._copy(target, source, self.graph.tensors[node.outputs[0]].kind)

    def _call(self, node: Node, operator: Kernel) -> None:
        del operator
        inputs: Sequence[View | None] = [self._contiguous(name) if name else None for name in node.inputs]
        self.program.steps.append(Call(node, list(inputs), [self._write(name) for name in node.outputs]))


def reads(step: Step) -> list[View]:
    """Every view that a step reads."""
    if isinstance(step, Loop):
        return list(step.leaves.values())
    return [step.source] if isinstance(step, Copy) else [v for v in step.inputs if v is not None]


def writes(step: Step) -> list[View]:
    """Every view that a step writes."""
    if isinstance(step, Loop):
        return list(step.results.values())
    return [step.target] if isinstance(step, Copy) else step.outputs


def renamed(step: Step, names: dict[str, str]) -> Step:
    """The step with buffers replaced by others."""

    def view(v: View) -> View:
        return replace(v, buffer=names.get(v.buffer, v.buffer))

    if isinstance(step, Loop):
        leaves = {k: view(v) for k, v in step.leaves.items()}
        return Loop(step.shape, step.nodes, leaves, {k: view(v) for k, v in step.results.items()})
    if isinstance(step, Copy):
        return Copy(view(step.target), view(step.source), step.kind)
    return Call(step.node, [v and view(v) for v in step.inputs], [view(v) for v in step.outputs])
