"""An array namespace whose numbers are expressions: run the equations with it and get their computation graph.

Expressions are hash-consed per `Graph`, so common sub-expressions exist once. Arrays of expressions are numpy object
arrays, which makes `+ - * /`, slicing and `.sum()` work; the functions below complete what the equations need.
`gradient` adds the reverse-mode derivative to the same graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np


class Expr:
    """One node: an operation on earlier nodes. Compare by identity; equal nodes of a graph are the same object."""

    __slots__ = ("args", "graph", "index", "op", "value")

    def __init__(self, graph: Graph, op: str, args: tuple[Expr, ...], value: Any, index: int) -> None:
        self.graph, self.op, self.args, self.value, self.index = graph, op, args, value, index

    def __add__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, np.ndarray) else self.graph.add(self, self.graph.lift(other))

    def __sub__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, np.ndarray) else self.graph.sub(self, self.graph.lift(other))

    def __mul__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, np.ndarray) else self.graph.mul(self, self.graph.lift(other))

    def __truediv__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, np.ndarray) else self.graph.div(self, self.graph.lift(other))

    def __radd__(self, other: Any) -> Any:
        return self.graph.lift(other) + self

    def __rsub__(self, other: Any) -> Any:
        return self.graph.lift(other) - self

    def __rmul__(self, other: Any) -> Any:
        return self.graph.lift(other) * self

    def __rtruediv__(self, other: Any) -> Any:
        return self.graph.lift(other) / self

    def __neg__(self) -> Expr:
        return self.graph.sub(self.graph.const(0.0), self)

    def __gt__(self, other: Any) -> Expr:
        return self.graph.node("gt", (self, self.graph.lift(other)))

    def __lt__(self, other: Any) -> Any:
        return self.graph.lift(other) > self

    def __bool__(self) -> bool:
        raise TypeError("the truth of an expression is not known while tracing; use xp.where")

    def exp(self) -> Expr:
        return self.graph.node("exp", (self,))

    def sqrt(self) -> Expr:
        return self.graph.node("sqrt", (self,))

    def sin(self) -> Expr:
        return self.graph.node("sin", (self,))

    def cos(self) -> Expr:
        return self.graph.node("cos", (self,))

    def tanh(self) -> Expr:
        return self.graph.node("tanh", (self,))


class Graph:
    """Owner of a set of expressions."""

    def __init__(self) -> None:
        self.nodes: list[Expr] = []
        self._known: dict[tuple[Any, ...], Expr] = {}

    def node(self, op: str, args: tuple[Expr, ...], value: Any = None) -> Expr:
        key = (op, value, *(a.index for a in args))
        if key not in self._known:
            expr = Expr(self, op, args, value, len(self.nodes))
            self.nodes.append(expr)
            self._known[key] = expr
        return self._known[key]

    def const(self, value: float) -> Expr:
        return self.node("const", (), float(value))

    def input(self, name: str, row: int) -> Expr:
        return self.node("input", (), (name, row))

    def inputs(self, name: str, rows: int) -> np.ndarray:
        """Object array (rows,) of inputs."""
        return np.array([self.input(name, i) for i in range(rows)], dtype=object)

    def lift(self, value: Any) -> Expr:
        return value if isinstance(value, Expr) else self.const(float(value))

    def add(self, a: Expr, b: Expr) -> Expr:
        if a.op == b.op == "const":
            return self.const(a.value + b.value)
        if _is(a, 0.0):
            return b
        if _is(b, 0.0):
            return a
        return self.node("add", (a, b) if a.index <= b.index else (b, a))

    def sub(self, a: Expr, b: Expr) -> Expr:
        if a.op == b.op == "const":
            return self.const(a.value - b.value)
        if _is(b, 0.0):
            return a
        return self.node("sub", (a, b))

    def mul(self, a: Expr, b: Expr) -> Expr:
        if a.op == b.op == "const":
            return self.const(a.value * b.value)
        if _is(a, 0.0) or _is(b, 0.0):
            return self.const(0.0)
        if _is(a, 1.0):
            return b
        if _is(b, 1.0):
            return a
        return self.node("mul", (a, b) if a.index <= b.index else (b, a))

    def div(self, a: Expr, b: Expr) -> Expr:
        if a.op == b.op == "const":
            return self.const(a.value / b.value)
        if _is(b, 1.0):
            return a
        if b.op == "const":
            return self.mul(a, self.const(1.0 / b.value))
        if _is(a, 0.0):
            return a
        return self.node("div", (a, b))


def _is(expr: Expr, value: float) -> bool:
    return expr.op == "const" and expr.value == value


def _elementwise(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    ufunc = np.frompyfunc(function, count, 1)

    def apply(*args: Any) -> Any:
        return ufunc(*args) if any(isinstance(a, np.ndarray) for a in args) else function(*args)

    return apply


def _graph_of(values: Iterable[Any]) -> Graph:
    return next(v.graph for v in values if isinstance(v, Expr))


def _binary(op: str, plain: Callable[[float, float], float]) -> Callable[[Any, Any], Any]:
    def function(a: Any, b: Any) -> Any:
        if not isinstance(a, Expr) and not isinstance(b, Expr):
            return plain(a, b)
        graph = _graph_of((a, b))
        a, b = graph.lift(a), graph.lift(b)
        return graph.const(plain(a.value, b.value)) if a.op == b.op == "const" else graph.node(op, (a, b))

    return function


def _unary(name: str, plain: Callable[[float], float]) -> Callable[[Any], Any]:
    def function(a: Any) -> Any:
        if not isinstance(a, Expr):
            return plain(a)
        return a.graph.const(plain(a.value)) if a.op == "const" else a.graph.node(name, (a,))

    return function


def _where(condition: Any, a: Any, b: Any) -> Any:
    graph = condition.graph
    a, b = graph.lift(a), graph.lift(b)
    return a if a is b else graph.node("where", (condition, a, b))


maximum = _elementwise(_binary("max", max), 2)
minimum = _elementwise(_binary("min", min), 2)
exp = _elementwise(_unary("exp", math.exp), 1)
sqrt = _elementwise(_unary("sqrt", math.sqrt), 1)
sin = _elementwise(_unary("sin", math.sin), 1)
cos = _elementwise(_unary("cos", math.cos), 1)
tanh = _elementwise(_unary("tanh", math.tanh), 1)
where = _elementwise(_where, 3)


def clip(x: Any, low: float, high: float) -> Any:
    """x limited to [low, high]; its derivative is 1 inside and 0 outside, as torch's."""
    return minimum(maximum(x, low), high)


def stack(rows: Sequence[Any], axis: int = 0) -> np.ndarray:
    """As numpy.stack; scalars become the rows of a 1-D array."""
    return np.stack([np.asarray(r, dtype=object) for r in rows], axis)


def concatenate(arrays: Sequence[Any], axis: int = 0) -> np.ndarray:
    """As numpy.concatenate, on arrays of expressions or numbers."""
    return np.concatenate([np.asarray(a, dtype=object) for a in arrays], axis)


def _partials(e: Expr) -> list[Any]:
    """∂e/∂arg for each argument, as expressions; None where the derivative is zero."""
    a = e.args
    match e.op:
        case "add":
            return [1.0, 1.0]
        case "sub":
            return [1.0, -1.0]
        case "mul":
            return [a[1], a[0]]
        case "div":
            return [1 / a[1], -(e / a[1])]
        case "sqrt":
            return [0.5 / e]
        case "exp":
            return [e]
        case "sin":
            return [cos(a[0])]
        case "cos":
            return [-sin(a[0])]
        case "tanh":
            return [1 - e * e]
        case "max" | "min":
            first = a[0] > a[1] if e.op == "max" else a[1] > a[0]
            graph = e.graph
            return [
                _where(first, graph.const(1.0), graph.const(0.0)),
                _where(first, graph.const(0.0), graph.const(1.0)),
            ]
        case "where":
            graph = e.graph
            zero, one = graph.const(0.0), graph.const(1.0)
            return [None, _where(a[0], one, zero), _where(a[0], zero, one)]
        case _:
            return [None] * len(a)


def gradient(outputs: Sequence[Any], adjoints: Sequence[Any], wrt: Sequence[Expr]) -> list[Expr]:
    """Σ adjoint · ∂output/∂x for each x of `wrt`, as expressions of the same graph (reverse mode)."""
    graph = wrt[0].graph
    total: dict[int, Expr] = {}
    for output, adjoint in zip(outputs, adjoints, strict=True):
        if isinstance(output, Expr):
            previous = total.get(output.index)
            total[output.index] = graph.lift(adjoint) if previous is None else previous + adjoint
    wanted = {x.index for x in wrt}
    depends = _depends_on(graph, wanted)
    for index in range(max(total, default=-1), -1, -1):
        if index not in total or index not in depends:
            continue
        node, bar = graph.nodes[index], total[index]
        if not node.args:
            continue
        for argument, partial in zip(node.args, _partials(node), strict=True):
            if partial is None or argument.index not in depends:
                continue
            term = _scaled(bar, partial)
            previous = total.get(argument.index)
            total[argument.index] = term if previous is None else previous + term
    return [total.get(x.index, graph.const(0.0)) for x in wrt]


def _scaled(bar: Expr, partial: Any) -> Expr:
    """bar · partial, with a 0/1 switch kept as one selection."""
    if isinstance(partial, Expr) and partial.op == "where" and _is(partial.args[1], 1.0) and _is(partial.args[2], 0.0):
        return _where(partial.args[0], bar, bar.graph.const(0.0))
    if isinstance(partial, Expr) and partial.op == "where" and _is(partial.args[1], 0.0) and _is(partial.args[2], 1.0):
        return _where(partial.args[0], bar.graph.const(0.0), bar)
    return -bar if partial == -1.0 else bar * partial


def _depends_on(graph: Graph, wanted: set[int]) -> set[int]:
    found: set[int] = set()
    for node in list(graph.nodes):
        if node.index in wanted or any(a.index in found for a in node.args):
            found.add(node.index)
    return found
