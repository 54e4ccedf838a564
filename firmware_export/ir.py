"""The graph between ONNX and C: static shapes, three element types, constants as NumPy arrays.

Only data lives here; `load.py` makes it, `fuse.py` rewrites it and `lower.py` turns it into C statements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

C_TYPES = {"float": "float", "int": "int32_t", "bool": "int32_t"}
"""C type by element type; every element is one 32-bit word, so arenas and check sums need no padding."""

NUMPY_TYPES = {"float": np.float32, "int": np.int32, "bool": np.int32}


@dataclass(frozen=True)
class Tensor:
    """A named array: `shape` is static, `kind` a key of `C_TYPES`, `data` its value where that is constant."""

    name: str
    shape: tuple[int, ...]
    kind: str
    data: NDArray[Any] | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass
class Node:
    """One operation; an input that is left out has the name ''."""

    name: str
    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """Nodes in an order that can be executed, and every tensor they mention."""

    nodes: list[Node]
    tensors: dict[str, Tensor]
    inputs: list[str]
    outputs: list[str]

    def consumers(self, name: str) -> Iterator[Node]:
        """The nodes that read a tensor."""
        return (node for node in self.nodes if name in node.inputs)

    def without_dead_nodes(self) -> Graph:
        """The same graph less every node that no output depends on."""
        needed, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(name for name in node.inputs if name)
                kept.append(node)
        return Graph(kept[::-1], self.tensors, self.inputs, self.outputs)
