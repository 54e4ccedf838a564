"""Exponential, sine and cosine of our own: the same bits on every chip with the same arithmetic, small, without errno.

Coefficients are our own minimax fits (Lawson iteration in float64, rounded to float32); tests compare with float64
over the whole range of float32. Logarithm and others come from the C library.
"""

from __future__ import annotations

from collections.abc import Sequence

from robot_rl.firmware_export.ir import Graph, Node
from robot_rl.firmware_export.number import float_literal
from robot_rl.firmware_export.operator import Elementwise, Helper, Unsupported

# exp(x) = 2^k·exp(r), |r| <= ln(2)/2. The power is applied in two halves, so that denormal results come out gradually.
EXP = Helper(
    "exp",
    """static float {p}_power_of_two(int32_t k)
{{
    const uint32_t word = (uint32_t)(k + 127) << 23;
    float power;
    memcpy(&power, &word, sizeof power);
    return power;
}}

static float {p}_exp(float x)
{{
    if (!(x <= 88.72283f)) {{
        return x != x ? x : INFINITY;
    }}
    if (x < -103.98f) {{
        return 0.0f;
    }}
    const int32_t k = (int32_t)(x * 1.442695f + (x < 0.0f ? -0.5f : 0.5f));
    const float n = (float)k;
    const float r = (x - n * 0.69314575f) - n * 1.4286068e-06f;
    float s = 0.0013814559f;
    s = s * r + 0.008368735f;
    s = s * r + 0.04166839f;
    s = s * r + 0.16666521f;
    s = s * r + 0.49999994f;
    s = s * (r * r) + r + 1.0f;
    return s * {p}_power_of_two(k / 2) * {p}_power_of_two(k - k / 2);
}}
""",
)

# sin(x + quarter·pi/2). Up to 8192 the multiple of pi/2 is taken off in three parts whose products are exact (Cody
# and Waite, 1980); above, x is multiplied by 96 bits of 2/pi in integers (Payne and Hanek, 1983), so the quadrant is
# right for any float.
SINE = Helper(
    "sine",
    """static float {p}_large_angle(float x, uint32_t *quadrant)
{{
    static const uint8_t two_over_pi[26] = {{0, 0, 162, 249, 131, 110, 78, 68, 21, 41, 252, 39, 87, 209, 245, 52,
        221, 192, 219, 98, 149, 153, 60, 67, 144, 65}};
    uint32_t word, window[3] = {{0, 0, 0}};
    memcpy(&word, &x, sizeof word);
    const uint32_t exponent = ((word >> 23) & 255u) - 127u - 9u; /* 4 at least */
    const uint32_t mantissa = ((word & 0x7fffffu) | 0x800000u) << (exponent % 8u);
    for (uint32_t i = 0; i < 12u; ++i) {{
        window[i / 4u] = (window[i / 4u] << 8) | two_over_pi[exponent / 8u + i];
    }}
    const uint64_t turns = ((uint64_t)(mantissa * window[0]) << 32) + (uint64_t)mantissa * window[1]
        + (((uint64_t)mantissa * window[2]) >> 32);
    const uint64_t nearest = (turns + ((uint64_t)1 << 61)) >> 62;
    const uint64_t rest = turns - (nearest << 62);
    const float size = (rest >> 63) ? -(float)(~rest + 1u) : (float)rest;
    *quadrant = (word >> 31) ? 0u - (uint32_t)nearest : (uint32_t)nearest;
    return ((word >> 31) ? -size : size) * 3.4061216e-19f; /* pi/2 / 2^62 */
}}

static float {p}_sine(float x, uint32_t quarter)
{{
    float r;
    if (fabsf(x) <= 8192.0f) {{
        const int32_t k = (int32_t)(x * 0.63661975f + (x < 0.0f ? -0.5f : 0.5f));
        const float n = (float)k;
        r = ((x - n * 1.5703125f) - n * 0.0004837513f) - n * 7.5497894e-08f;
        quarter += (uint32_t)k;
    }} else if (fabsf(x) < INFINITY) {{
        uint32_t quadrant;
        r = {p}_large_angle(x, &quadrant);
        quarter += quadrant;
    }} else {{
        return x - x;
    }}
    const float z = r * r;
    float y;
    if (quarter & 1u) {{
        y = ((2.4433157e-05f * z - 0.0013887316f) * z + 0.041666646f) * z * z - 0.5f * z + 1.0f;
    }} else {{
        y = ((-0.00019515282f * z + 0.00833216f) * z - 0.16666655f) * z * r + r;
    }}
    return (quarter & 2u) ? -y : y;
}}
""",
)


def _float_call(form: str) -> Elementwise:
    def expression(node: Node, graph: Graph, x: Sequence[str]) -> str:
        if graph.tensors[node.outputs[0]].kind != "float":
            raise Unsupported("it is translated for float32 only")
        return form.format(x[0], p="{p}")

    return Elementwise(expression, (EXP,) if "exp" in form else (SINE,) if "sine" in form else ())


def _elu(node: Node, graph: Graph, x: Sequence[str]) -> str:
    alpha = float(node.attributes.get("alpha", 1.0))
    scale = "" if alpha == 1.0 else f"{float_literal(alpha)} * "
    return f"({x[0]} < 0.0f ? {scale}({{p}}_exp({x[0]}) - 1.0f) : {x[0]})"


OPERATORS = {
    "Exp": _float_call("{p}_exp({0})"),
    "Sin": _float_call("{p}_sine({0}, 0)"),
    "Cos": _float_call("{p}_sine({0}, 1)"),
    "Log": _float_call("logf({0})"),
    "Erf": _float_call("erff({0})"),
    "Tan": _float_call("tanf({0})"),
    "Atan": _float_call("atanf({0})"),
    "Asin": _float_call("asinf({0})"),
    "Acos": _float_call("acosf({0})"),
    "Elu": Elementwise(_elu, (EXP,)),
}
