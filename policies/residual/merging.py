"""One ONNX graph of a base's graph and the traced rest of a refined policy."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx.compose
import onnx.helper
import onnx.inliner
import onnx.version_converter
import torch
from torch import Tensor

from robot_rl.errors import ExportError
from robot_rl.policies.residual.refined import OWN, RefinedPolicy
from robot_rl.policies.tracing import OPSET, interface, traced_model
from robot_rl.policy_file import BATCH

PREFIX = "base/"


def refined_model(refined: RefinedPolicy, example: Mapping[str, Tensor]) -> onnx.ModelProto:
    """The graph of `refined`, with inputs and outputs as its contract names them.

    Args:
        refined: on the CPU, in evaluation mode. example: one step of signals, name → (1, *shape).

    Raises:
        ExportError: the base's graph cannot be brought to this operator set or has a fixed batch size, or the rest
            cannot be traced.
    """
    shapes = {s.name: (1, *s.shape) for s in refined.head.answers}
    first = {**example, **{name: torch.zeros(shape) for name, shape in shapes.items()}}
    head = traced_model(refined.head, first)  # type: ignore[arg-type]
    base = _converted(refined)
    graph = base.graph
    answers = {f"base.{name}": PREFIX + theirs for name, theirs in _outputs(refined).items()}
    inputs, outputs = (_described(shapes) for shapes in interface(refined))
    entries = [_same(name, PREFIX + theirs) for theirs, name in _base_inputs(refined).items()]
    exits = [_same(answers[a.name], a.name) for a in refined.head.answers]
    exits += [_same(f"{PREFIX}memory_out.{m.name}", f"memory_out.{OWN}{m.name}") for m in refined.own]
    merged = onnx.helper.make_graph(
        [*entries, *graph.node, *exits, *head.graph.node], "policy", inputs, outputs,
        [*graph.initializer, *head.graph.initializer],
    )  # fmt: skip
    opsets = {o.domain: o for o in (*base.opset_import, *head.opset_import)}
    model = onnx.helper.make_model(merged, opset_imports=list(opsets.values()), producer_name=head.producer_name)
    model.ir_version = head.ir_version
    return model


def _converted(refined: RefinedPolicy) -> onnx.ModelProto:
    """The base's model with all its names prefixed, in our operator set."""
    model = onnx.load_model_from_string(refined.file.model_bytes)
    if model.graph.input[0].type.tensor_type.shape.dim[0].dim_value:
        raise ExportError("the base was exported for one robot at a time; export it with a symbolic batch dimension")
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), OPSET)
    if version != OPSET:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except Exception as error:  # the converter raises many kinds
            raise ExportError(f"the base's graph cannot be brought from opset {version} to {OPSET}: {error}") from error
    return onnx.compose.add_prefix(model, PREFIX)


def _outputs(refined: RefinedPolicy) -> dict[str, str]:
    """What `base.<name>` is called among the base's own outputs."""
    commands = {c.name: c.name for c in refined.contract.commands}
    return commands | {m.name: f"memory_out.{m.name}" for m in refined.contract.memory}


def _base_inputs(refined: RefinedPolicy) -> dict[str, str]:
    """Inputs of the base → inputs of the merged graph."""
    own = {m.name for m in refined.own}
    signals = {s.name: s.name for s in refined.contract.signals}
    return signals | {
        f"memory_in.{m.name}": f"memory_in.{OWN if m.name in own else ''}{m.name}" for m in refined.contract.memory
    }


def _described(shapes: Mapping[str, tuple[int, ...]]) -> list[onnx.ValueInfoProto]:
    kind = onnx.TensorProto.FLOAT
    return [onnx.helper.make_tensor_value_info(name, kind, [BATCH, *shape]) for name, shape in shapes.items()]


def _same(source: str, target: str) -> onnx.NodeProto:
    return onnx.helper.make_node("Identity", [source], [target])
