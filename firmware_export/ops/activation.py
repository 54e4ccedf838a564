"""Activation functions, element by element."""

from __future__ import annotations

from collections.abc import Sequence

from robot_rl.firmware_export.ir import Graph, Node
from robot_rl.firmware_export.number import float_literal
from robot_rl.firmware_export.operator import Elementwise, Helper

# x·P(x²)/Q(x²), degree 13 over 6 (the form Eigen made popular for this function); the coefficients are our own
# minimax fit of tanh on [0, 8.1] (Lawson iteration in float64, rounded to float32). In float32 arithmetic the
# largest absolute error over
# the whole line is 2.9e-7 and the result never leaves [-1, 1]. A test repeats that measurement.
TANH = Helper(
    "tanh",
    """static inline float {p}_tanh(float x)
{{
    const float z = x * x;
    if (z > 65.61f) {{
        return x < 0.0f ? -1.0f : 1.0f;
    }}
    float n = -1.0976536e-13f;
    float d = 2.6003981e-04f;
    n = n * z + 6.161009e-11f;
    n = n * z + -2.1923826e-08f;
    n = n * z + 1.1550855e-05f;
    n = n * z + 3.140796e-03f;
    n = n * z + 1.3116714e-01f;
    n = n * z + 1.0f;
    d = d * z + 2.4641e-02f;
    d = d * z + 4.6450043e-01f;
    d = d * z + 1.0f;
    return x * n / d;
}}
""",
)


def _alpha(node: Node, default: float, name: str = "alpha") -> str:
    return float_literal(float(node.attributes.get(name, default)))


def _tanh(node: Node, graph: Graph, x: Sequence[str]) -> str:
    return f"{{p}}_tanh({x[0]})"


def _sigmoid(node: Node, graph: Graph, x: Sequence[str]) -> str:
    return f"0.5f * {{p}}_tanh(0.5f * {x[0]}) + 0.5f"


def _relu(node: Node, graph: Graph, x: Sequence[str]) -> str:
    return f"({x[0]} < 0.0f ? 0.0f : {x[0]})"


def _leaky_relu(node: Node, graph: Graph, x: Sequence[str]) -> str:
    return f"({x[0]} < 0.0f ? {_alpha(node, 0.01)} * {x[0]} : {x[0]})"


def _hard_sigmoid(node: Node, graph: Graph, x: Sequence[str]) -> str:
    return f"{{p}}_unit({_alpha(node, 0.2)} * {x[0]} + {_alpha(node, 0.5, 'beta')})"


UNIT = Helper(
    "unit", "static inline float {p}_unit(float x)\n{{\n    return x < 0.0f ? 0.0f : (x > 1.0f ? 1.0f : x);\n}}\n"
)

OPERATORS = {
    "Tanh": Elementwise(_tanh, (TANH,)),
    "Sigmoid": Elementwise(_sigmoid, (TANH,)),
    "Relu": Elementwise(_relu),
    "LeakyRelu": Elementwise(_leaky_relu),
    "HardSigmoid": Elementwise(_hard_sigmoid, (UNIT,)),
}
