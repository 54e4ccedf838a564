"""Call an array-agnostic function as vectorised native code on torch CPU tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from robot_rl.sim.codegen import symbolic
from robot_rl.sim.codegen.build import compile_library
from robot_rl.sim.codegen.emit import LANES, PRELUDE, function


class NativeFunction:
    """`function(xp, **arrays) -> array` compiled for component-first float32 arrays (rows, N).

    Args:
        body: the equations, called once with symbolic arrays.
        inputs: name → number of rows of the per-environment inputs.
        uniform: name → number of values of the inputs that all environments share.
    """

    def __init__(
        self, name: str, body: Callable[..., Any], inputs: Mapping[str, int], uniform: Mapping[str, int] | None = None
    ) -> None:
        uniform = uniform or {}
        graph = symbolic.Graph()
        arrays = {n: graph.inputs(n, rows) for n, rows in {**inputs, **uniform}.items()}
        result = body(symbolic, **arrays)
        self.inputs, self.uniform, self.rows = dict(inputs), dict(uniform), len(result)
        source = (
            PRELUDE
            + function("body", graph, list(inputs), {"out": result}, list(uniform))
            + _loop(inputs, uniform, len(result))
        )
        self._run = compile_library(source, name).run
        self._run.restype = None

    def __call__(self, out: Tensor | None = None, **arrays: Tensor) -> Tensor:
        """Inputs (rows, N) float32 on the CPU → (rows_out, N); `out` may be one of the inputs."""
        n = next(iter(arrays[name] for name in self.inputs)).shape[1]
        if out is None:
            out = torch.empty(self.rows, n)
        pointers: list[Any] = []
        keep = []
        for name, rows in {**self.inputs, **self.uniform}.items():
            array = arrays[name].to(torch.float32).contiguous()
            shape = (rows, n) if name in self.inputs else (rows,)
            if tuple(array.shape) != shape:
                raise ValueError(f"{name}: shape {tuple(array.shape)}, expected {shape}")
            keep.append(array)
            pointers.append(ctypes.c_void_p(array.data_ptr()))
        self._run(ctypes.c_long(n), *pointers, ctypes.c_void_p(out.data_ptr()))
        return out


def _loop(inputs: Mapping[str, int], uniform: Mapping[str, int], rows_out: int) -> str:
    arguments = "".join(f", const float* {n}" for n in (*inputs, *uniform))
    copies = "".join(
        f"    for (int r = 0; r < {rows}; ++r) "
        f"v_{n}[r] = full ? load({n} + r * n + i) : tail({n} + r * n + i, n - i);\n"
        for n, rows in inputs.items()
    )
    buffers = "".join(f"  vf v_{n}[{rows}];\n" for n, rows in inputs.items())
    call = ", ".join([*(f"v_{n}" for n in inputs), *uniform, "v_out"])
    return f"""
static vf tail(const float* p, long count) {{ vf x{{}}; memcpy(&x, p, 4 * count); return x + splat(0.0f); }}
extern "C" void run(long n{arguments}, float* out) {{
{buffers}  vf v_out[{rows_out}];
  for (long i = 0; i < n; i += LANES) {{
    const bool full = i + LANES <= n;
{copies}    body({call});
    for (int r = 0; r < {rows_out}; ++r) {{
      if (full) store(out + r * n + i, v_out[r]); else memcpy(out + r * n + i, &v_out[r], 4 * (n - i));
    }}
  }}
}}
"""


def supported_rows(arrays: Sequence[Tensor]) -> bool:
    """True where a native function can take these tensors: float32 on the CPU, no gradient wanted."""
    return all(a.device.type == "cpu" and a.dtype == torch.float32 and not a.requires_grad for a in arrays)


__all__ = ["LANES", "NativeFunction", "supported_rows"]
