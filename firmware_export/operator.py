"""What an operator is to the generator: an expression per element, a view of another array, or a kernel of its own.

Each file in `ops/` defines `OPERATORS`, a dict from ONNX's operator type to one of these; nothing else has to be
edited. See docs/add_an_operator.md.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from robot_rl.firmware_export.ir import Graph, Node, Tensor

if TYPE_CHECKING:
    from robot_rl.firmware_export.render import KernelWriter
    from robot_rl.firmware_export.view import View


class Unsupported(Exception):
    """Raised by an operator that cannot translate a node; the text is the reason, the caller adds which node it was."""


@dataclass(frozen=True)
class Helper:
    """A static C function that generated code may call. `{p}` in the code is the prefix of all names.

    `needs` are the helpers that it calls itself.
    """

    name: str
    code: str
    needs: tuple[Helper, ...] = ()


@dataclass(frozen=True)
class Elementwise:
    """One output element from one element of each (broadcast) input.

    `expression(node, graph, operands)` gives a C expression; operands are literals or names of locals, `{p}` is the
    prefix.
    """

    expression: Callable[[Node, Graph, Sequence[str]], str]
    helpers: tuple[Helper, ...] = ()


@dataclass(frozen=True)
class Viewing:
    """Outputs that are the first input's elements in another arrangement: nothing is computed.

    `views(node, graph, view)` gives one view per output, or None where that is impossible: then `otherwise` copies, or,
    where there is no `otherwise`, the input is made contiguous and `views` asked again.
    """

    views: Callable[[Node, Graph, View], list[View] | None]
    otherwise: Assembling | None = None


@dataclass(frozen=True)
class Assembling:
    """One output put together from pieces of the inputs: nothing is computed, but elements move.

    `pieces(node, graph, inputs, output)` gives (destination, source) pairs of views with equal shapes.
    """

    pieces: Callable[[Node, Graph, Sequence[View], View], list[tuple[View, View]]]


@dataclass(frozen=True)
class Kernel:
    """Anything else. `write(node, graph, writer)` writes statements; inputs and outputs are contiguous arrays."""

    write: Callable[[Node, Graph, KernelWriter], None]
    helpers: tuple[Helper, ...] = ()


Operator = Elementwise | Viewing | Assembling | Kernel


@cache
def operators() -> dict[str, Operator]:
    """Every operator type that can be translated, from all files of `ops/`."""
    package = importlib.import_module("robot_rl.firmware_export.ops")
    found: dict[str, Operator] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        found.update(importlib.import_module(f"{package.__name__}.{module}").OPERATORS)
    return found


def constant(graph: Graph, name: str, what: str) -> Tensor:
    """The tensor, which must be a constant.

    Raises:
        Unsupported: it is computed while running.
    """
    tensor = graph.tensors[name]
    if tensor.data is None:
        raise Unsupported(f"its {what} ('{name}') is computed while running; it must be a constant")
    return tensor


def integers(graph: Graph, node: Node, position: int, attribute: str) -> list[int] | None:
    """Integers given as attribute (older operator sets) or as constant input number `position`; None when absent."""
    if attribute in node.attributes:
        value = node.attributes[attribute]
        return [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
    if len(node.inputs) > position and node.inputs[position]:
        data = constant(graph, node.inputs[position], attribute).data
        assert data is not None
        return [int(v) for v in data.ravel()]
    return None
