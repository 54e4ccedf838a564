"""From steps to C statements: the body of the one function that computes the policy, its weights and its helpers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ExportError
from robot_rl.firmware_export.arena import Arena
from robot_rl.firmware_export.ir import Graph
from robot_rl.firmware_export.lower import Buffer, Call, Copy, Loop, Program, Step
from robot_rl.firmware_export.number import literal
from robot_rl.firmware_export.operator import Elementwise, Helper, Kernel, Unsupported, operators
from robot_rl.firmware_export.simplify import describe
from robot_rl.firmware_export.view import View, merged_axes


@dataclass(frozen=True)
class Weight:
    """A member of the constant weights structure."""

    member: str
    kind: str
    values: NDArray[Any]
    origin: str


@dataclass
class Code:
    """C text of the computation and what it needs around it."""

    lines: list[str] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)
    helpers: dict[str, Helper] = field(default_factory=dict)
    macs: int = 0


def rendered(program: Program, arena: Arena, places: dict[str, str], prefix: str) -> Code:
    """C for every step.

    Args:
        places: C expression of the array behind each input and output buffer.
        prefix: what all names start with.

    Raises:
        ExportError: a kernel refuses its node.
    """
    renderer = Renderer(program, arena, places, prefix)
    for step in program.steps:
        try:
            renderer.step(step)
        except Unsupported as reason:
            assert isinstance(step, Call)  # loops know themselves which of their nodes it was
            raise ExportError(f"cannot translate {describe(step.node)}: {reason}") from reason
    return renderer.code


class Renderer:
    """Writes the statements of one program."""

    def __init__(self, program: Program, arena: Arena, places: dict[str, str], prefix: str) -> None:
        self.program, self.arena, self.places, self.prefix = program, arena, places, prefix
        self.code = Code()
        self._weights: dict[tuple[str, bytes], str] = {}

    def step(self, step: Step) -> None:
        """Append the statements of one step."""
        if isinstance(step, Loop):
            self.line(f"/* {', '.join(n.op for n in step.nodes)} */")
            self._loop(step)
        elif isinstance(step, Copy):
            self._copy(step)
        else:
            self.line(f"/* {step.node.op} {_comment(step.node.name)} */")
            operator = operators()[step.node.op]
            assert isinstance(operator, Kernel)
            for helper in operator.helpers:
                self.use(helper)
            operator.write(step.node, self.program.graph, KernelWriter(self, step))

    def line(self, text: str, depth: int = 1) -> None:
        """One line, indented; `{p}` becomes the prefix."""
        self.code.lines.append("    " * depth + text.replace("{p}", self.prefix))

    def use(self, helper: Helper) -> None:
        """Make sure a helper is written before the code that calls it."""
        for needed in helper.needs:
            self.use(needed)
        self.code.helpers.setdefault(helper.name, helper)

    def weight(self, values: NDArray[Any], kind: str, origin: str) -> str:
        """The C array that holds these constants; equal constants are stored once."""
        flat = np.ascontiguousarray(values.ravel())
        flat = flat.astype(np.float32) if kind == "float" else np.clip(flat, -(2**31) + 1, 2**31 - 1).astype(np.int32)
        key = (kind, flat.tobytes())
        if key not in self._weights:
            member = f"w{len(self.code.weights)}"
            self._weights[key] = f"{self.prefix}_weights.{member}"
            self.code.weights.append(Weight(member, kind, flat, _comment(origin)))
        return self._weights[key]

    def array(self, buffer: Buffer) -> tuple[str, int]:
        """C array and element offset of a buffer."""
        if buffer.place == "arena":
            name = "arena" if buffer.kind == "float" else "words"
            return f"{self.prefix}_{name}", self.arena.offsets[buffer.name]
        if buffer.place == "constant":
            assert buffer.data is not None
            return self.weight(buffer.data, buffer.kind, buffer.name.removeprefix("const:")), 0
        return self.places[buffer.name], 0

    def pointer(self, view: View) -> str:
        """C expression for the address of a contiguous view."""
        array, offset = self.array(self.program.buffers[view.buffer])
        total = offset + view.offset
        return f"&{array}[{total}]" if total else array

    def element(self, view: View, strides: Sequence[int]) -> str:
        """C expression for one element inside loops with counters i0, i1 and so on."""
        array, offset = self.array(self.program.buffers[view.buffer])
        return f"{array}[{_index(offset + view.offset, strides)}]"

    def _loop(self, step: Loop) -> None:
        names = [*step.leaves, *step.results]
        views = [*step.leaves.values(), *step.results.values()]
        counts, strides = merged_axes(step.shape, views)
        if 0 in step.shape:
            return
        self.line("{")
        local: dict[str, str] = {}
        graph = self.program.graph
        varying = []
        for name, view, steps in zip(names, views, strides, strict=True):
            if name not in step.leaves:
                continue
            same = _uniform(graph, name)
            if same is not None:
                local[name] = same
            elif not any(steps):
                local[name] = self._load(name, view, steps, len(local), 2)
            else:
                varying.append((name, view, steps))
        depth = self._open(counts, 2)
        for name, view, steps in varying:
            local[name] = self._load(name, view, steps, len(local), depth)
        self._expressions(step, local, depth)
        for name, steps in zip(names, strides, strict=True):
            if name in step.results:
                self.line(f"{self.element(step.results[name], steps)} = {local[name]};", depth)
        self._close(depth, 2)
        self.line("}")

    def _load(self, name: str, view: View, steps: Sequence[int], number: int, depth: int) -> str:
        kind = self.program.graph.tensors[name].kind
        self.line(f"const {_ctype(kind)} x{number} = {self.element(view, steps)};", depth)
        return f"x{number}"

    def _expressions(self, step: Loop, local: dict[str, str], depth: int) -> None:
        graph = self.program.graph
        for number, node in enumerate(step.nodes):
            operator = operators()[node.op]
            assert isinstance(operator, Elementwise)
            for helper in operator.helpers:
                self.use(helper)
            try:
                text = operator.expression(node, graph, [local[name] for name in node.inputs if name])
            except Unsupported as reason:
                raise ExportError(f"cannot translate {describe(node)}: {reason}") from reason
            output = node.outputs[0]
            self.line(f"const {_ctype(graph.tensors[output].kind)} t{number} = {text};", depth)
            local[output] = f"t{number}"

    def _copy(self, step: Copy) -> None:
        if 0 in step.target.shape:
            return
        counts, (to, origin) = merged_axes(step.target.shape, [step.target, step.source])
        same = _uniform(self.program.graph, step.source.buffer.removeprefix("const:"))
        depth = self._open(counts, 1)
        self.line(f"{self.element(step.target, to)} = {same or self.element(step.source, origin)};", depth)
        self._close(depth, 1)

    def _open(self, counts: Sequence[int], depth: int) -> int:
        for axis, count in enumerate(counts):
            self.line(f"for (size_t i{axis} = 0; i{axis} < {count}; ++i{axis}) {{", depth + axis)
        return depth + len(counts)

    def _close(self, depth: int, until: int) -> None:
        for level in range(depth - 1, until - 1, -1):
            self.line("}", level)


class KernelWriter:
    """What a kernel writes through: addresses of its arrays, constants, helpers, lines."""

    def __init__(self, renderer: Renderer, call: Call) -> None:
        self._renderer, self._call = renderer, call

    def input(self, position: int) -> str:
        """Address of an input."""
        view = self._call.inputs[position]
        assert view is not None
        return self._renderer.pointer(view)

    def output(self, position: int = 0) -> str:
        """Address of an output."""
        return self._renderer.pointer(self._call.outputs[position])

    def weight(self, values: NDArray[Any], origin: str, kind: str = "float") -> str:
        """Address of a constant array."""
        return self._renderer.weight(values, kind, origin)

    def use(self, helper: Helper) -> None:
        """Include a helper."""
        self._renderer.use(helper)

    def line(self, text: str, depth: int = 1) -> None:
        """One line of C; `{p}` becomes the prefix."""
        self._renderer.line(text, depth)

    def count(self, macs: int) -> None:
        """Add to the number of multiply-accumulate operations that is reported."""
        self._renderer.code.macs += macs


def _index(offset: int, strides: Sequence[int]) -> str:
    terms = [f"i{axis}" if s == 1 else f"{s} * i{axis}" for axis, s in enumerate(strides) if s > 0]
    if offset or not terms:
        terms.insert(0, str(offset))
    text = " + ".join(terms)
    for axis, s in enumerate(strides):
        if s < 0:
            text += f" - {-s} * i{axis}" if s != -1 else f" - i{axis}"
    return text


def _uniform(graph: Graph, name: str) -> str | None:
    """The literal of a constant whose elements are all the same."""
    tensor = graph.tensors.get(name)
    if tensor is None or tensor.data is None or tensor.size == 0:
        return None
    first = tensor.data.ravel()[0]
    return literal(first, tensor.kind) if (tensor.data == first).all() else None


def _ctype(kind: str) -> str:
    return "float" if kind == "float" else "int32_t"


def _comment(text: str) -> str:
    """Text that can stand inside a C comment."""
    return "".join(c if 32 <= ord(c) < 127 else "?" for c in text).replace("*/", "* /").replace("/*", "/ *")[:60]
