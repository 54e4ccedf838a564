"""From a torch module with named inputs and outputs to a small, clean ONNX graph with a symbolic batch dimension.

Only translation: whether the graph computes the right thing is checked by `export.py`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import traceback
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from robot_rl.errors import ExportError, MissingDependency
from robot_rl.observer import initial_memory
from robot_rl.policies.deployed import DeployedPolicy
from robot_rl.policy_file import BATCH

if TYPE_CHECKING:
    import onnx

OPSET = 20
_MAX_IR_VERSION = 10  # the newest that onnxruntime 1.18 reads
_THIS = {Path(__file__).name, "deployed.py"}
_NOISY = ("torch.onnx", "torch.export", "torch._dynamo", "torch.fx", "onnxscript", "onnx_ir")


class _Flat(nn.Module):
    """The exporter wants tensors in a row, not dictionaries."""

    def __init__(self, deployed: DeployedPolicy) -> None:
        super().__init__()
        self.deployed = deployed

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        names = [s.name for s in self.deployed.signals]
        memory_names = [m.name for m in self.deployed.memory]
        signals = dict(zip(names, tensors[: len(names)], strict=True))
        memory = dict(zip(memory_names, tensors[len(names) :], strict=True))
        commands, following = self.deployed(signals, memory)
        return (*(commands[c.name] for c in self.deployed.commands), *(following[n] for n in memory_names))


def traced_model(deployed: DeployedPolicy, example: dict[str, Tensor], opset: int = OPSET) -> onnx.ModelProto:
    """The ONNX model of `deployed`: inputs and outputs named as the contract wants, batch dimension symbolic.

    Args:
        deployed: on the CPU, in evaluation mode.
        example: one step of signals, name → (1, *shape).
        opset: ONNX operator set.

    Raises:
        ExportError: torch cannot trace it; names the reason.
        MissingDependency: onnxscript is not installed.
    """
    if importlib.util.find_spec("onnxscript") is None:
        raise MissingDependency("onnxscript", "exporting policies", "pip install 'robot-rl[train]'")
    # Two different rows: with one, torch.export would take the batch size 1 for a constant.
    rows = [torch.cat([example[s.name], 0.5 * example[s.name]]) for s in deployed.signals]
    rows += list(initial_memory(deployed.memory, 2).values())
    batch = torch.export.Dim(BATCH)
    outputs = [c.name for c in deployed.commands] + [f"memory_out.{m.name}" for m in deployed.memory]
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                _Flat(deployed).eval(),
                tuple(rows),
                dynamo=True,
                opset_version=opset,
                input_names=[s.name for s in deployed.signals] + [f"memory_in.{m.name}" for m in deployed.memory],
                output_names=outputs,
                dynamic_shapes={"tensors": tuple({0: batch} for _ in rows)},
                external_data=False,
                optimize=True,
                verbose=False,
            )
    except Exception as error:  # torch.export raises many kinds
        raise ExportError(f"torch cannot trace the policy: {_reason(error)}") from error
    if program is None:
        raise ExportError("torch's exporter returned nothing")
    return _clean(program.model_proto, deployed)


def _clean(model: onnx.ModelProto, deployed: DeployedPolicy) -> onnx.ModelProto:
    """Inline functions, drop what only describes the tracing (stack traces, file names), declare exact shapes."""
    import onnx
    import onnx.helper
    import onnx.inliner

    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    graph = model.graph
    graph.name = "policy"
    for field in ("doc_string", "metadata_props", "value_info", "quantization_annotation"):
        graph.ClearField(field)
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for field in ("doc_string", "metadata_props", "producer_version", "domain"):
        model.ClearField(field)
    model.producer_name = "robot_rl"
    model.ir_version = min(model.ir_version, _MAX_IR_VERSION)
    inputs, outputs = interface(deployed)
    for values, shapes in ((graph.input, inputs), (graph.output, outputs)):
        for value in values:
            described = onnx.helper.make_tensor_value_info(
                value.name, value.type.tensor_type.elem_type, [BATCH, *shapes[value.name]]
            )
            value.CopyFrom(described)
    return model


def interface(deployed: DeployedPolicy) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Inputs and outputs of the graph: name → shape without the batch dimension."""
    inputs = {s.name: s.shape for s in deployed.signals} | {f"memory_in.{m.name}": m.shape for m in deployed.memory}
    outputs: dict[str, tuple[int, ...]] = {c.name: (len(c.elements),) for c in deployed.commands}
    return inputs, outputs | {f"memory_out.{m.name}": m.shape for m in deployed.memory}


def _reason(error: BaseException) -> str:
    """The innermost cause, shortened, with the user's own line: the exporter wraps it with pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    name, text = type(error).__name__, " ".join(str(error).split())
    if "DataDependent" in name:
        text = "it branches on the value of a tensor, or makes a shape of one; use torch.where and fixed shapes"
    own = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
    own = [f for f in own if not f.filename.startswith("<") and Path(f.filename).name not in _THIS]
    where = f" (at {Path(own[-1].filename).name}:{own[-1].lineno}, {own[-1].line})" if own else ""
    return f"{name}: {text[:500]}{where}"


@contextlib.contextmanager
def _quiet() -> Generator[None, None, None]:
    """Without the exporter's progress lines and warnings; errors still come as exceptions."""
    levels: dict[str, int] = {name: logging.getLogger(name).level for name in _NOISY}
    sink: Any = io.StringIO()
    try:
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
