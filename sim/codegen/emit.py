"""C++ text from expressions: straight-line code on vectors of `LANES` environments.

Not a general compiler: functions without control flow, float32, rows in, rows out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robot_rl.sim.codegen.symbolic import Expr, Graph

LANES = 16

# Vector type and elementary functions. GCC and Clang split wide vectors where the CPU has narrower ones.
PRELUDE = r"""
#include <cmath>
#include <cstdint>
#include <cstring>
#define LANES 16
typedef float vf __attribute__((vector_size(4 * LANES), aligned(64)));
typedef float vfu __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t vi __attribute__((vector_size(4 * LANES), aligned(64)));
#define INLINE static inline __attribute__((always_inline))
INLINE vf splat(float x) { return x - vf{}; }
INLINE vf load(const float* p) { return *(const vfu*)p; }
INLINE void store(float* p, vf x) { *(vfu*)p = x; }
INLINE vf vmax(vf a, vf b) { return a > b ? a : b; }
INLINE vf vmin(vf a, vf b) { return a < b ? a : b; }
INLINE vf vsqrt(vf x) { vf y; for (int i = 0; i < LANES; ++i) y[i] = __builtin_sqrtf(x[i]); return y; }
/* exp by 2^k * polynomial (Cephes' minimax coefficients), relative error about 1e-7 on [-87, 88]. */
INLINE vf vexp(vf x) {
  x = vmin(vmax(x, splat(-87.0f)), splat(88.0f));
  vf k = x * 1.44269504f + splat(12582912.0f);
  vi bits = (vi)k;
  k = k - splat(12582912.0f);
  vf r = x - k * 0.693359375f + k * 2.12194440e-4f;
  vf p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f; p = p * r + 8.3334519073e-3f; p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f; p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * (vf)((bits << 23) + 0x3f800000);
}
/* tanh by an odd 13/6 rational (the coefficients Eigen uses), absolute error about 4e-7. */
INLINE vf vtanh(vf x) {
  x = vmin(vmax(x, splat(-7.90531110763549805f)), splat(7.90531110763549805f));
  vf s = x * x;
  vf p = splat(-2.76076847742355e-16f);
  p = p * s + 2.00018790482477e-13f; p = p * s + -8.60467152213735e-11f; p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f; p = p * s + 6.37261928875436e-04f; p = p * s + 4.89352455891786e-03f;
  vf q = splat(1.19825839466702e-06f);
  q = q * s + 1.18534705686654e-04f; q = q * s + 2.26843463243900e-03f; q = q * s + 4.89352518554385e-03f;
  return x * p / q;
}
INLINE vf vsin(vf x) { vf y; for (int i = 0; i < LANES; ++i) y[i] = __builtin_sinf(x[i]); return y; }
INLINE vf vcos(vf x) { vf y; for (int i = 0; i < LANES; ++i) y[i] = __builtin_cosf(x[i]); return y; }
"""

_BINARY = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_CALL = {"sqrt": "vsqrt", "exp": "vexp", "sin": "vsin", "cos": "vcos", "tanh": "vtanh", "max": "vmax", "min": "vmin"}


def _literal(value: float) -> str:
    text = repr(float(np.float32(value)))
    return f"splat({text if any(c in text for c in '.en') else text + '.0'}f)"


def _body(outputs: Sequence[Expr], read: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Assignments in dependency order, and the name that holds each output."""
    names: dict[int, str] = {}
    lines: list[str] = []

    def emit(node: Expr) -> str:
        stack = [node]
        while stack:
            top = stack[-1]
            if top.index in names:
                stack.pop()
                continue
            waiting = [a for a in top.args if a.index not in names]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            stack.pop()
            names[top.index] = _define(top, names, read, lines)
        return names[node.index]

    return lines, [emit(o) for o in outputs]


def _define(node: Expr, names: Mapping[int, str], read: Mapping[str, str], lines: list[str]) -> str:
    args = [names[a.index] for a in node.args]
    if node.op == "const":
        return _literal(node.value)
    name = f"t{node.index}"
    if node.op == "input":
        text = read[node.value[0]].format(row=node.value[1])
    elif node.op in _BINARY:
        text = f"{args[0]} {_BINARY[node.op]} {args[1]}"
    elif node.op in _CALL:
        text = f"{_CALL[node.op]}({', '.join(args)})"
    elif node.op == "gt":
        lines.append(f"  const vi {name} = {args[0]} > {args[1]};")
        return name
    elif node.op == "where":
        text = f"{args[0]} ? {args[1]} : {args[2]}"
    else:
        raise ValueError(f"no C++ for operation '{node.op}'")
    lines.append(f"  const vf {name} = {text};")
    return name


def function(
    name: str,
    graph: Graph,
    inputs: Sequence[str],
    outputs: Mapping[str, Sequence[Any]],
    uniform: Sequence[str] = (),
) -> str:
    """A C++ inline function on one vector of environments.

    Args:
        name: of the function.
        graph: owner of the expressions.
        inputs: array inputs, each `const vf*` (one vector per row).
        outputs: output name → expressions of its rows, each written to `vf*`.
        uniform: inputs that are one number for all environments, each `const float*`.

    Returns:
        C++ source of `static inline void name(inputs…, uniform…, outputs…)`.
    """
    read = {n: f"{n}[{{row}}]" for n in inputs} | {n: f"splat({n}[{{row}}])" for n in uniform}
    flat = [(o, i, graph.lift(e)) for o, rows in outputs.items() for i, e in enumerate(rows)]
    lines, results = _body([e for _, _, e in flat], read)
    lines += [f"  {o}[{i}] = {r};" for (o, i, _), r in zip(flat, results, strict=True)]
    arguments = [f"const vf* __restrict {n}" for n in inputs] + [f"const float* __restrict {n}" for n in uniform]
    arguments += [f"vf* __restrict {n}" for n in outputs]
    return f"static void {name}({', '.join(arguments)}) {{\n" + "\n".join(lines) + "\n}\n"
