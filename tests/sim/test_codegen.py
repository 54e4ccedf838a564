"""The code generator: values, adjoints and tails of native functions against torch."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.errors import MissingDependency, RobotRlError
from robot_rl.sim.codegen import symbolic
from robot_rl.sim.codegen.build import compile_library, find_compiler
from robot_rl.sim.codegen.emit import PRELUDE, function
from robot_rl.sim.codegen.native import NativeFunction
from robot_rl.sim.quadrotor import equations as eq
from robot_rl.sim.robots.crazyflie import ROBOT

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler: apt-get install g++")


def every_operation(xp: Any, x: Any, y: Any, k: Any) -> Any:
    a = xp.exp(-x[0]) * xp.sin(y[0]) + xp.cos(x[1]) / (2.0 + y[1] * y[1])
    b = xp.sqrt(1.0 + x[0] * x[0]) - xp.tanh(3.0 * y[1]) * k[0]
    c = xp.clip(x[1] * 2.0, -0.5, 0.75) + xp.where(x[0] > y[0], x[0] * y[1], -y[0])
    return xp.stack([a, b, c, xp.maximum(x[0], y[0]) - xp.minimum(x[1], y[1])])


@needs_compiler
@pytest.mark.parametrize("n", [1, 15, 16, 17, 100])
def test_native_values_equal_torch_at_every_length(n: int) -> None:
    native = NativeFunction("every_operation", every_operation, {"x": 2, "y": 2}, {"k": 1})
    generator = torch.Generator().manual_seed(n)
    x, y = torch.randn(2, n, generator=generator), torch.randn(2, n, generator=generator)
    k = torch.tensor([0.7])
    expected = every_operation(torch, x.double(), y.double(), k.double())
    torch.testing.assert_close(native(x=x, y=y, k=k).double(), expected, rtol=2e-6, atol=2e-6)


@needs_compiler
def test_native_refuses_a_wrong_shape() -> None:
    native = NativeFunction("every_operation", every_operation, {"x": 2, "y": 2}, {"k": 1})
    with pytest.raises(ValueError, match=r"y: shape \(3, 4\), expected \(2, 4\)"):
        native(x=torch.zeros(2, 4), y=torch.zeros(3, 4), k=torch.ones(1))


def evaluate(expressions: list[Any], values: dict[str, np.ndarray]) -> list[float]:
    """A slow interpreter of expressions, so that adjoints are checked without a compiler."""
    table = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "exp": np.exp, "sqrt": np.sqrt,
        "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "max": np.maximum, "min": np.minimum, "gt": np.greater,
        "where": np.where,
    }  # fmt: skip
    known: dict[int, Any] = {}
    for node in expressions[0].graph.nodes:
        if node.op == "const":
            known[node.index] = node.value
        elif node.op == "input":
            known[node.index] = values[node.value[0]][node.value[1]]
        else:
            known[node.index] = table[node.op](*(known[a.index] for a in node.args))
    return [float(known[e.index]) for e in expressions]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=4, max_size=4))
def test_adjoint_equals_autograd(numbers: list[float]) -> None:
    graph = symbolic.Graph()
    x, y, k = graph.inputs("x", 2), graph.inputs("y", 2), graph.inputs("k", 1)
    bars = [0.3, -1.0, 2.0, 0.5]
    out = every_operation(symbolic, x, y, k)
    adjoint = symbolic.gradient(list(out), bars, [*x, *y])
    values = {"x": np.array(numbers[:2]), "y": np.array(numbers[2:]), "k": np.array([0.7])}
    tensors = {n: torch.tensor(v, dtype=torch.float64, requires_grad=True) for n, v in values.items()}
    every_operation(torch, *tensors.values()).backward(torch.tensor(bars, dtype=torch.float64))
    ties = abs(numbers[0] - numbers[2]) < 1e-9 or abs(numbers[1] - numbers[3]) < 1e-9
    if not ties and not any(abs(numbers[1] * 2 - edge) < 1e-9 for edge in (-0.5, 0.75)):
        expected = torch.cat([tensors["x"].grad, tensors["y"].grad])  # type: ignore[list-item]
        np.testing.assert_allclose(evaluate(adjoint, values), expected.numpy(), rtol=1e-9, atol=1e-12)


def test_equal_expressions_are_shared_and_constants_fold() -> None:
    graph = symbolic.Graph()
    a, b = graph.inputs("a", 2)
    assert a * b is b * a
    assert a + 0.0 is a and a * 1.0 is a and (a * 0.0).value == 0.0
    assert (graph.const(2.0) * 3.0 + 1.0).value == 7.0
    with pytest.raises(TypeError, match=r"xp\.where"):
        bool(a > b)


@needs_compiler
def test_native_quadrotor_step_equals_torch_double() -> None:
    native = NativeFunction(
        "quadrotor_check",
        lambda xp, state, params, command, dt: eq.step(xp, state, params, command, dt[0]),
        {"state": 17, "params": eq.PARAM_SIZE, "command": 4},
        {"dt": 1},
    )
    generator = torch.Generator().manual_seed(3)
    n = 200
    state = 0.5 * torch.randn(17, n, generator=generator)
    state[3:7] = torch.nn.functional.normalize(torch.randn(4, n, generator=generator), dim=0)
    state[13:] = torch.rand(4, n, generator=generator)
    params = torch.tensor(ROBOT.parameters("pybullet").column()).float()[:, None].repeat(1, n)
    params[eq.PARAMS.index("ground_z")] = -0.5
    command = 1.4 * torch.rand(4, n, generator=generator) - 0.2
    expected = eq.step(torch, state.double(), params.double(), command.double(), 0.01)
    found = native(state=state, params=params, command=command, dt=torch.tensor([0.01]))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=2e-5)


def test_no_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(MissingDependency, match=r"apt-get install g\+\+"):
        compile_library("int x;", "nothing")


@needs_compiler
def test_a_failing_build_reports_the_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("ROBOT_RL_CACHE", str(tmp_path))
    with pytest.raises(RobotRlError, match="could not build broken"):
        compile_library("this is not C++", "broken")
    assert not list(tmp_path.glob("*.so"))


@needs_compiler
def test_emitted_names_do_not_depend_on_the_run() -> None:
    def text() -> str:
        graph = symbolic.Graph()
        x, y, k = graph.inputs("x", 2), graph.inputs("y", 2), graph.inputs("k", 1)
        return PRELUDE + function("f", graph, ["x", "y"], {"out": list(every_operation(symbolic, x, y, k))}, ["k"])

    assert text() == text()
    assert shutil.which(find_compiler() or "")
