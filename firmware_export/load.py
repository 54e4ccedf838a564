"""From an ONNX file to a static graph and its interface, with or without a contract inside."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from robot_rl.contract import CONTRACT_KEY, Golden, GoldenStep
from robot_rl.errors import ContractError, ExportError
from robot_rl.firmware_export.interface import (
    MEMORY_IN,
    MEMORY_OUT,
    TIME_STEP,
    Defaults,
    Interface,
    assumed,
    from_contract,
)
from robot_rl.firmware_export.ir import Graph
from robot_rl.firmware_export.simplify import static_graph
from robot_rl.policy_file import read_model, read_policy_file

_OWN_GOLDEN_STEPS = 4

_TAKEN = {
    *("assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits", "locale", "math"),
    *("memory", "new", "setjmp", "signal", "stdalign", "stdarg", "stdatomic", "stdbool", "stddef", "stdint", "stdio"),
    *("stdlib", "stdnoreturn", "string", "tgmath", "threads", "time", "uchar", "unistd", "wchar", "wctype"),
    *("board", "semihosting", "serve", "served", "served_policy", "startup_cortex_m", "startup_riscv"),
}
"""Headers that the C library or a board's project has; a policy.h of that name would hide them."""


@dataclass(frozen=True)
class LoadedPolicy:
    """A graph that can be translated, its interface, the ONNX bytes it came from, and what the user should know."""

    graph: Graph
    interface: Interface
    model_bytes: bytes
    warnings: tuple[str, ...] = ()


def load_policy(path: str | Path, name: str = "policy", defaults: Defaults | None = None) -> LoadedPolicy:
    """Read an ONNX file.

    Args:
        path: a policy file of this project, or any ONNX model with static shapes.
        name: prefix of all C names.
        defaults: what to assume about a model without a contract.

    Raises:
        ContractError: the file is damaged or its contract does not fit its graph.
        ExportError: the graph cannot be translated, or the name is no C identifier.
    """
    _check_name(name)
    try:
        model = read_model(path)
    except ContractError as error:
        raise ExportError(str(error)) from error
    if any(p.key == CONTRACT_KEY for p in model.metadata_props):
        policy = read_policy_file(path)
        graph = static_graph(onnx.load_model_from_string(policy.model_bytes))
        return LoadedPolicy(graph, from_contract(policy.contract, name), policy.model_bytes)
    _complete(model, Path(path))
    graph = static_graph(model)
    data = model.SerializeToString(deterministic=True)
    interface = assumed(graph, hashlib.sha256(data).hexdigest(), name, defaults or Defaults())
    interface = _with_own_golden(interface, graph, model)
    idle = interface.commands[0].idle[0] if interface.commands else 0.0
    warning = (
        "the ONNX file carries no robot_rl contract: signal names and order come from the graph, the period is assumed "
        f"to be {interface.rate.control_dt} s, idle commands to be {idle}, and command limits are only the range seen "
        "on random inputs"
    )
    return LoadedPolicy(graph, interface, data, (warning,))


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,39}", name):
        raise ExportError(
            f"'{name[:60]}' cannot start C names; use at most 40 letters, digits and '_', a letter first, for example "
            "'policy'"
        )
    if name in _TAKEN:
        raise ExportError(
            f"'{name}' is the name of a header or source file already; choose another, such as 'my_{name}'"
        )


def _complete(model: onnx.ModelProto, path: Path) -> None:
    """Load tensors that lie in files beside the model, then check it all."""
    try:
        onnx.load_external_data_for_model(model, str(path.absolute().parent))
        onnx.checker.check_model(model)
    except (OSError, onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ExportError(f"'{path}' is not a valid ONNX file: {str(error).splitlines()[0][:300]}") from error


def _with_own_golden(interface: Interface, graph: Graph, model: onnx.ModelProto) -> Interface:
    """Golden vectors from ONNX's reference implementation on seeded random inputs, and command limits from them."""
    rng = np.random.default_rng(0)
    reference = ReferenceEvaluator(model)
    names = [v.name for v in model.graph.output]
    steps = []
    for _ in range(_OWN_GOLDEN_STEPS):
        feeds = {n: rng.standard_normal(graph.tensors[n].shape).astype(np.float32) for n in graph.inputs}
        if TIME_STEP in feeds:
            feeds[TIME_STEP][...] = interface.rate.control_dt
        try:
            answers = dict(zip(names, reference.run(None, feeds), strict=True))
        except Exception as error:  # the reference implementation raises whatever NumPy raises
            raise ExportError(f"the model cannot be run, so it has no self-test: {str(error)[:300]}") from error
        if not all(np.isfinite(a).all() for a in answers.values()):
            raise ExportError("the model answers random normal inputs with NaN or infinity; it has no usable self-test")
        steps.append(
            GoldenStep(
                {k: _floats(v) for k, v in feeds.items() if not k.startswith(MEMORY_IN)},
                {k.removeprefix(MEMORY_IN): _floats(v) for k, v in feeds.items() if k.startswith(MEMORY_IN)},
                {k: _floats(v) for k, v in answers.items() if not k.startswith(MEMORY_OUT)},
                {k.removeprefix(MEMORY_OUT): _floats(v) for k, v in answers.items() if k.startswith(MEMORY_OUT)},
            )
        )
    commands = []
    for command in interface.commands:
        largest = max(1.0, max((abs(x) for s in steps for x in s.commands[command.name]), default=1.0))
        size = len(command.lower)
        commands.append(dataclasses.replace(command, lower=(-largest,) * size, upper=(largest,) * size))
    return dataclasses.replace(
        interface, commands=tuple(commands), golden=Golden(interface.golden.tolerance, tuple(steps))
    )


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in np.asarray(values, np.float32).ravel())
