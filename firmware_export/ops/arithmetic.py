"""Arithmetic, element by element."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from robot_rl.firmware_export.ir import Graph, Node
from robot_rl.firmware_export.number import float_literal
from robot_rl.firmware_export.operator import Elementwise, Helper, Unsupported

# A comparison with NaN is false, so the second line of each keeps a NaN visible instead of replacing it by the other
# value.
MAX = Helper("max", "static inline float {p}_max(float a, float b)\n{{\n    return (a < b || b != b) ? b : a;\n}}\n")
MIN = Helper("min", "static inline float {p}_min(float a, float b)\n{{\n    return (a > b || b != b) ? b : a;\n}}\n")


def _format(template: str) -> Elementwise:
    return Elementwise(lambda node, graph, x: template.format(*x, p="{p}"))


def _float_only(node: Node, graph: Graph) -> None:
    if graph.tensors[node.outputs[0]].kind != "float":
        raise Unsupported("it is translated for float32 only")


def _integer_or_float(float_form: str, integer_form: str) -> Elementwise:
    def expression(node: Node, graph: Graph, x: Sequence[str]) -> str:
        floating = graph.tensors[node.outputs[0]].kind == "float"
        return (float_form if floating else integer_form).format(*x, p="{p}")

    return Elementwise(expression)


def _chain(helper: Helper, symbol: str) -> Elementwise:
    """Min and Max take any number of inputs."""

    def expression(node: Node, graph: Graph, x: Sequence[str]) -> str:
        _float_only(node, graph)
        result = x[0]
        for operand in x[1:]:
            result = f"{{p}}_{symbol}({result}, {operand})"
        return result

    return Elementwise(expression, (helper,))


def _sum(node: Node, graph: Graph, x: Sequence[str]) -> str:
    return " + ".join(x)


def _mean(node: Node, graph: Graph, x: Sequence[str]) -> str:
    return f"({' + '.join(x)}) / {len(x)}.0f"


def _pow(node: Node, graph: Graph, x: Sequence[str]) -> str:
    _float_only(node, graph)
    exponent = graph.tensors[node.inputs[1]].data
    if exponent is not None and exponent.size == 1:
        simple = {2.0: "{0} * {0}", 1.0: "{0}", 0.5: "sqrtf({0})", 3.0: "{0} * {0} * {0}", -1.0: "1.0f / {0}"}
        form = simple.get(float(exponent.ravel()[0]))
        if form:
            return form.format(x[0])
    if graph.tensors[node.inputs[1]].kind != "float":
        return f"powf({x[0]}, (float){x[1]})"
    return f"powf({x[0]}, {x[1]})"


def _bound(node: Node, graph: Graph, position: int, attribute: str, operands: dict[int, str]) -> str | None:
    if attribute in node.attributes:
        value = float(node.attributes[attribute])
        return float_literal(value) if abs(value) < 3e38 else None
    if len(node.inputs) <= position or not node.inputs[position]:
        return None
    data = graph.tensors[node.inputs[position]].data
    if data is not None and np.isinf(data.astype(np.float64)).all():
        return None
    return operands[position]


def _clip(node: Node, graph: Graph, x: Sequence[str]) -> str:
    _float_only(node, graph)
    operands = dict(zip((i for i, name in enumerate(node.inputs) if name), x, strict=True))
    lower, upper = _bound(node, graph, 1, "min", operands), _bound(node, graph, 2, "max", operands)
    value = x[0]
    # ONNX: when the bounds cross, the upper one wins.
    text = value if lower is None else f"({value} < {lower} ? {lower} : {value})"
    if upper is None:
        return text
    if lower is None:
        return f"({value} > {upper} ? {upper} : {value})"
    return (
        f"({value} > {upper} || {lower} > {upper} ? {upper} : {text})"
        if _may_cross(node, graph)
        else (f"({value} > {upper} ? {upper} : {text})")
    )


def _may_cross(node: Node, graph: Graph) -> bool:
    if "min" in node.attributes or "max" in node.attributes:
        return False
    lower, upper = (graph.tensors[name].data for name in node.inputs[1:3])
    return lower is None or upper is None or bool((lower > upper).any())


def _cast(node: Node, graph: Graph, x: Sequence[str]) -> str:
    source, target = graph.tensors[node.inputs[0]].kind, graph.tensors[node.outputs[0]].kind
    if source == target or (source, target) == ("bool", "int"):
        return x[0]
    if target == "bool":
        return f"({x[0]} != 0{'.0f' if source == 'float' else ''})"
    if target == "float":
        return f"(float){x[0]}"
    # What does not fit into 32 bits is undefined in C; here it becomes the nearest that does.
    return f"({x[0]} >= 2147483648.0f ? INT32_MAX : {x[0]} >= -2147483648.0f ? (int32_t){x[0]} : INT32_MIN)"


def _div(node: Node, graph: Graph, x: Sequence[str]) -> str:
    divisor = graph.tensors[node.inputs[1]].data
    if graph.tensors[node.outputs[0]].kind != "float" and (divisor is None or not divisor.all()):
        raise Unsupported("whole numbers can only be divided by constants that are not zero")
    return f"{x[0]} / {x[1]}"


def _call(function: str) -> Callable[[Node, Graph, Sequence[str]], str]:
    def expression(node: Node, graph: Graph, x: Sequence[str]) -> str:
        _float_only(node, graph)
        return f"{function}({x[0]})"

    return expression


OPERATORS = {
    "Add": _format("{0} + {1}"),
    "Sub": _format("{0} - {1}"),
    "Mul": _format("{0} * {1}"),
    "Div": Elementwise(_div),
    "Neg": _format("-{0}"),
    "Abs": _integer_or_float("fabsf({0})", "({0} < 0 ? -{0} : {0})"),
    "Sqrt": Elementwise(_call("sqrtf")),
    "Floor": Elementwise(_call("floorf")),
    "Ceil": Elementwise(_call("ceilf")),
    "Sign": _format("({0} > 0 ? 1 : {0} < 0 ? -1 : {0})"),  # NaN stays NaN
    "Reciprocal": _format("1.0f / {0}"),
    "Pow": Elementwise(_pow),
    "Min": _chain(MIN, "min"),
    "Max": _chain(MAX, "max"),
    "Sum": Elementwise(_sum),
    "Mean": Elementwise(_mean),
    "Clip": Elementwise(_clip),
    "Cast": Elementwise(_cast),
}
