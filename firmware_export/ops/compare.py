"""Comparisons, logic and selection; truth values are 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence

from robot_rl.firmware_export.ir import Graph, Node
from robot_rl.firmware_export.operator import Elementwise


def _format(template: str) -> Elementwise:
    def expression(node: Node, graph: Graph, x: Sequence[str]) -> str:
        return template.format(*x)

    return Elementwise(expression)


OPERATORS = {
    "Less": _format("({0} < {1})"),
    "LessOrEqual": _format("({0} <= {1})"),
    "Greater": _format("({0} > {1})"),
    "GreaterOrEqual": _format("({0} >= {1})"),
    "Equal": _format("({0} == {1})"),
    "And": _format("({0} && {1})"),
    "Or": _format("({0} || {1})"),
    "Xor": _format("(({0} != 0) != ({1} != 0))"),
    "Not": _format("(!{0})"),
    "Where": _format("({0} ? {1} : {2})"),
    "IsNaN": _format("({0} != {0})"),
}
