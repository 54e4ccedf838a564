"""Our own tanh, exp, sine and cosine against float64, over the whole range of float32."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from robot_rl.firmware_export.ops.activation import TANH
from robot_rl.firmware_export.ops.transcendental import EXP, SINE
from robot_rl.firmware_export.toolchain import COMPILE

Function = Callable[[NDArray[np.float32]], NDArray[np.float32]]
CALLS = {"tanh": "p_tanh(x[i])", "exp": "p_exp(x[i])", "sin": "p_sine(x[i], 0)", "cos": "p_sine(x[i], 1)"}


@pytest.fixture(scope="module", params=["off", "fast"])
def functions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Function]:
    """The C functions over arrays, with and without fused multiply-add where this computer has it."""
    folder = tmp_path_factory.mktemp("math")
    text = "#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n"
    text += "".join(h.code.format(p="p") for h in (TANH, EXP, SINE))
    for name, call in CALLS.items():
        text += f"void all_{name}(const float *x, float *y, size_t n);\n"
        text += (
            f"void all_{name}(const float *x, float *y, size_t n) {{ for (size_t i = 0; i < n; ++i) y[i] = {call}; }}\n"
        )
    (folder / "m.c").write_text(text)
    flags = ["-march=native"] if request.param == "fast" else []
    contract = f"-ffp-contract={request.param}"
    command = ["cc", *COMPILE, "-Werror", contract, *flags, "-shared", "-fPIC", "m.c", "-o", "m.so", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "m.so"))

    def of(name: str) -> Function:
        def call(x: NDArray[np.float32]) -> NDArray[np.float32]:
            x = np.ascontiguousarray(x, np.float32)
            y = np.empty_like(x)
            pointers = (ctypes.c_void_p(a.ctypes.data) for a in (x, y))
            library[f"all_{name}"](*pointers, ctypes.c_size_t(x.size))
            return y

        return call

    return {name: of(name) for name in CALLS}


def any_finite(count: int) -> NDArray[np.float32]:
    bits = np.random.default_rng(0).integers(0, 2**32, count, dtype=np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    return values[np.isfinite(values)]


def test_tanh(functions: dict[str, Function]) -> None:
    x = np.concatenate([np.linspace(-12, 12, 1_000_001), any_finite(100_000)]).astype(np.float32)
    y = functions["tanh"](x)
    assert np.abs(y - np.tanh(x.astype(np.float64))).max() <= 4e-7
    assert np.abs(y).max() <= 1.0
    assert np.array_equal(functions["tanh"](-x), -y)


def test_exp_within_two_units_in_the_last_place(functions: dict[str, Function]) -> None:
    x = np.linspace(-103.9, 88.7, 1_000_001).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(functions["exp"](x) - exact) / np.spacing(exact.astype(np.float32))).max() <= 2.0
    assert functions["exp"](np.float32([0, -200, 100, np.inf, -np.inf])).tolist() == [1, 0, np.inf, np.inf, 0]


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_sine_and_cosine_of_any_float(functions: dict[str, Function], name: str) -> None:
    near = (np.arange(1, 20_000) * (np.pi / 2)).astype(np.float32)  # the hardest: next to zeros
    x = np.concatenate([np.linspace(-9000, 9000, 1_000_001).astype(np.float32), any_finite(1_000_000), near])
    assert np.abs(functions[name](x) - getattr(np, name)(x.astype(np.float64))).max() <= 1.5e-7


def test_nan_stays_nan_and_infinite_angles_become_nan(functions: dict[str, Function]) -> None:
    for name, function in functions.items():
        assert np.isnan(function(np.float32([np.nan]))[0]), name
    for name in ("sin", "cos"):
        assert np.isnan(functions[name](np.float32([np.inf, -np.inf]))).all()
