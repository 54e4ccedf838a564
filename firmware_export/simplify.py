"""Make an ONNX model static: batch 1, constants folded, every shape known. Refusals name the node and the reason.

Folding evaluates a node whose inputs are all constant with ONNX's own reference implementation, so any operator may be
folded, translated or not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import inliner, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from robot_rl.errors import ExportError
from robot_rl.firmware_export.ir import Graph, Node, Tensor
from robot_rl.firmware_export.operator import operators

_KINDS = {
    onnx.TensorProto.FLOAT: "float",
    onnx.TensorProto.BOOL: "bool",
    onnx.TensorProto.INT64: "int",
    onnx.TensorProto.INT32: "int",
}
_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
_MAX_PASSES = 50


def describe(node: onnx.NodeProto | Node) -> str:
    """How error messages call a node."""
    op = node.op_type if isinstance(node, onnx.NodeProto) else node.op
    outputs = node.output if isinstance(node, onnx.NodeProto) else node.outputs
    name = node.name or (outputs[0] if outputs else "?")
    return f"node '{name}' (operator {op})"


def static_graph(model: onnx.ModelProto) -> Graph:
    """The model as a graph that can be translated.

    Raises:
        ExportError: a shape stays dynamic, an element type or operator is not supported; names each node.
    """
    model = _without_dead_nodes(_with_batch_one(inliner.inline_local_functions(model)))
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    model, types = _folded(model, constants)
    unknown = {
        (n.domain, n.op_type) for n in model.graph.node if n.op_type not in operators() or n.domain not in _DOMAINS
    }
    if unknown:
        # Operators that ONNX defines through others (Mish, Softplus, …) are replaced by their definition.
        # Some definitions depend on the types of the inputs, constants among them.
        model.graph.value_info.extend(
            onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
        )
        model = inliner.inline_selected_functions(model, sorted(unknown), inline_schema_functions=True)
        model, types = _folded(model, constants)
    _refuse_unknown(model)
    return _converted(model, constants, types).without_dead_nodes()


_DOMAINS = ("", "ai.onnx")


def _without_dead_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Less what no output depends on: exporters leave such nodes behind, and nobody should be refused for them."""
    needed, kept = {v.name for v in model.graph.output}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed |= _read_names(node)
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    return model


def _read_names(node: onnx.NodeProto) -> set[str]:
    """Inputs of a node; graphs inside it read names of the graph around it."""
    inner = (n for attribute in node.attribute for graph in _graphs(attribute) for n in graph.node)
    return {*node.input, *(name for n in inner for name in _read_names(n))} | {
        v.name for attribute in node.attribute for graph in _graphs(attribute) for v in graph.output
    }


def _graphs(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _with_batch_one(model: onnx.ModelProto) -> onnx.ModelProto:
    static = onnx.ModelProto()
    static.CopyFrom(model)
    del static.graph.value_info[:]
    initialised = {t.name for t in static.graph.initializer}
    for value in static.graph.input:
        if value.name in initialised:
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                continue
            if axis and dim.HasField("dim_value"):
                raise ExportError(f"input '{value.name}' has the size {dim.dim_value} at axis {axis}; remove it")
            if axis:
                symbol = dim.dim_param or "?"
                raise ExportError(
                    f"input '{value.name}' has the dynamic dimension '{symbol}' at axis {axis}; only the first (batch) "
                    "may be symbolic, it becomes 1. Export the model with fixed shapes."
                )
            dim.dim_value = 1
    inputs = {value.name: value for value in static.graph.input}
    for value in static.graph.output:
        if value.name in inputs:  # handed through
            value.CopyFrom(inputs[value.name])
        else:
            value.type.tensor_type.ClearField("shape")
    return static


def _folded(
    model: onnx.ModelProto, constants: dict[str, np.ndarray[Any, Any]]
) -> tuple[onnx.ModelProto, dict[str, onnx.TypeProto.Tensor]]:
    """Move every node that can be evaluated now into `constants`; gives the rest and the type of each tensor."""
    for _ in range(_MAX_PASSES):
        types = _inferred_types(model)
        _settle_casts(model, constants, types)
        remaining = [n for n in model.graph.node if not _fold(n, model, constants, types)]
        if len(remaining) == len(model.graph.node):
            return model, types
        del model.graph.node[:]
        model.graph.node.extend(remaining)
        known = {t.name for t in model.graph.initializer}
        model.graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(v) if v.ndim else v, k)
            for k, v in constants.items()
            if k not in known
        )
    raise ExportError("constant folding did not come to an end; the model is damaged")


def _settle_casts(
    model: onnx.ModelProto, constants: dict[str, np.ndarray[Any, Any]], types: dict[str, onnx.TypeProto.Tensor]
) -> None:
    """CastLike, which definitions of other operators use, becomes Cast: its second input matters by type only."""
    for node in model.graph.node:
        if node.op_type != "CastLike":
            continue
        like = node.input[1]
        known = onnx.helper.np_dtype_to_tensor_dtype(constants[like].dtype) if like in constants else None
        element = known or (types[like].elem_type if like in types else None)
        if element:
            node.op_type = "Cast"
            del node.input[1:]
            node.attribute.append(onnx.helper.make_attribute("to", element))


def _inferred_types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    try:
        inferred = shape_inference.infer_shapes(model, data_prop=True)
    except (shape_inference.InferenceError, RuntimeError) as error:
        raise ExportError(f"shapes of the model contradict each other: {str(error).splitlines()[0][:300]}") from error
    graph = inferred.graph
    return {v.name: v.type.tensor_type for v in (*graph.output, *graph.value_info, *graph.input)}


def _fold(
    node: onnx.NodeProto,
    model: onnx.ModelProto,
    constants: dict[str, np.ndarray[Any, Any]],
    types: dict[str, onnx.TypeProto.Tensor],
) -> bool:
    if node.op_type in ("Shape", "Size") and node.input[0] not in constants:
        shape = _static_shape(types.get(node.input[0]))
        if shape is None:
            return False
        feeds = {node.input[0]: np.zeros(shape, np.float32)}
    elif (
        node.op_type in _RANDOM
        or any(map(_graphs, node.attribute))
        or not all(name in constants for name in node.input if name)
    ):
        return False
    else:
        feeds = {name: constants[name] for name in node.input if name}
    inputs = [
        onnx.helper.make_tensor_value_info(k, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for k, v in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    single = onnx.helper.make_model(
        onnx.helper.make_graph([node], "fold", inputs, outputs), opset_imports=list(model.opset_import)
    )
    try:
        values: Any = ReferenceEvaluator(single).run(None, feeds)
    except Exception as error:  # the reference implementation raises whatever NumPy raises
        raise ExportError(f"{describe(node)}: its constant value cannot be computed: {error}") from error
    for output, value in zip(outputs, values, strict=True):
        constants[output.name] = np.asarray(value)
    return True


def _static_shape(tensor_type: onnx.TypeProto.Tensor | None) -> tuple[int, ...] | None:
    if tensor_type is None or not tensor_type.HasField("shape"):
        return None
    dims = tensor_type.shape.dim
    return tuple(d.dim_value for d in dims) if all(d.HasField("dim_value") for d in dims) else None


def _refuse_unknown(model: onnx.ModelProto) -> None:
    bad = [n for n in model.graph.node if n.op_type not in operators() or n.domain not in _DOMAINS]
    if bad:
        listed = "; ".join(describe(n) + (f" of domain {n.domain}" if n.domain else "") for n in bad[:5])
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise ExportError(
            f"cannot translate {listed}{more}: no such operator here. Supported: {', '.join(sorted(operators()))}. "
            "An operator is one entry in firmware_export/ops, see docs/add_an_operator.md."
        )


def _converted(
    model: onnx.ModelProto, constants: dict[str, np.ndarray[Any, Any]], types: dict[str, onnx.TypeProto.Tensor]
) -> Graph:
    tensors = {name: _constant_tensor(name, value) for name, value in constants.items()}
    inputs = [v.name for v in model.graph.input if v.name not in constants]
    for name in inputs:
        tensors[name] = _typed(name, types, f"input '{name}'")
    nodes = []
    for index, proto in enumerate(model.graph.node):
        node = Node(
            proto.name or f"{proto.op_type}_{index}",
            proto.op_type,
            list(proto.input),
            list(proto.output),
            {a.name: _attribute(a) for a in proto.attribute},
        )
        for name in proto.output:
            if name:
                tensors[name] = _typed(name, types, describe(node))
        nodes.append(node)
    return Graph(nodes, tensors, inputs, [v.name for v in model.graph.output])


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def _typed(name: str, types: dict[str, onnx.TypeProto.Tensor], where: str) -> Tensor:
    shape = _static_shape(types.get(name))
    if shape is None:
        raise ExportError(
            f"{where}: the shape of '{name}' depends on data or on a dynamic dimension; it must be static"
        )
    element: Any = types[name].elem_type
    if element not in _KINDS:
        found = onnx.helper.tensor_dtype_to_string(element)
        raise ExportError(
            f"{where}: '{name}' has element type {found}; supported while running: FLOAT, INT32, INT64, BOOL"
        )
    return Tensor(name, shape, _KINDS[element])


def _constant_tensor(name: str, value: np.ndarray[Any, Any]) -> Tensor:
    kind = "bool" if value.dtype == np.bool_ else "int" if value.dtype.kind in "iu" else "float"
    if kind == "float" and np.isnan(value.astype(np.float64)).any():
        raise ExportError(f"constant '{name}' contains NaN; the policy is damaged, export it again")
    return Tensor(name, value.shape, kind, value)
