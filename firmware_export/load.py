"""From an ONNX file to a static graph and its interface, with or without a contract inside."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx.reference import ReferenceEvaluator

from robot_rl.contract import CONTRACT_KEY, Golden, GoldenStep
from robot_rl.errors import ExportError
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
from robot_rl.policy_file import read_policy_file

_OWN_GOLDEN_STEPS = 4


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
    if not name.isidentifier() or not name.isascii():
        raise ExportError(f"'{name}' cannot start C names; use letters, digits and '_', for example 'policy'")
    model = _read(Path(path))
    if any(p.key == CONTRACT_KEY for p in model.metadata_props):
        policy = read_policy_file(path)
        graph = static_graph(onnx.load_model_from_string(policy.model_bytes))
        return LoadedPolicy(graph, from_contract(policy.contract, name), policy.model_bytes)
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


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load_model(str(path))
        onnx.checker.check_model(model)
    except FileNotFoundError as error:
        raise ExportError(f"there is no file '{path}'; give the path of an exported policy (.onnx)") from error
    except (OSError, DecodeError, onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ExportError(f"'{path}' is not a valid ONNX file: {str(error).splitlines()[0][:300]}") from error
    return model


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
        answers = dict(zip(names, reference.run(None, feeds), strict=True))
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
