"""Operators that only arrange elements anew: most become views and cost nothing, the rest become copies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from robot_rl.firmware_export.ir import Graph, Node
from robot_rl.firmware_export.operator import Assembling, Unsupported, Viewing, constant, integers
from robot_rl.firmware_export.view import View


def _reshape(node: Node, graph: Graph, view: View) -> list[View] | None:
    reshaped = view.reshaped(graph.tensors[node.outputs[0]].shape)
    return None if reshaped is None else [reshaped]


def _dropout(node: Node, graph: Graph, view: View) -> list[View] | None:
    training = (
        constant(graph, node.inputs[2], "training_mode").data if len(node.inputs) > 2 and node.inputs[2] else None
    )
    if training is not None and training.any():
        raise Unsupported("it is in training mode and drops at random; export the model in evaluation mode")
    if any(name and (name in graph.outputs or any(graph.consumers(name))) for name in node.outputs[1:]):
        raise Unsupported("its mask is used; export the model in evaluation mode")
    return _reshape(node, graph, view)


def _transpose(node: Node, graph: Graph, view: View) -> list[View]:
    order = [int(a) for a in node.attributes.get("perm", range(len(view.shape))[::-1])]
    return [view.transposed(order)]


def _expand(node: Node, graph: Graph, view: View) -> list[View]:
    return [view.broadcast(graph.tensors[node.outputs[0]].shape)]


def _slice(node: Node, graph: Graph, view: View) -> list[View]:
    starts = integers(graph, node, 1, "starts")
    ends = integers(graph, node, 2, "ends")
    if starts is None or ends is None:
        raise Unsupported("it has no starts or no ends")
    axes = integers(graph, node, 3, "axes") or list(range(len(starts)))
    steps = integers(graph, node, 4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(view.shape)
        # Python's own rules for negative and overlong bounds are ONNX's, but for the "before the first" end of a
        # reverse slice.
        stop = None if step < 0 and end < -view.shape[axis] else end
        picked = range(view.shape[axis])[slice(start, stop, step)]
        view = view.sliced(axis, picked.start if len(picked) else 0, len(picked), step)
    return [view]


def _split(node: Node, graph: Graph, view: View) -> list[View]:
    axis = int(node.attributes.get("axis", 0)) % len(view.shape)
    parts, start = [], 0
    for name in node.outputs:
        count = graph.tensors[name].shape[axis]
        parts.append(view.sliced(axis, start, count))
        start += count
    return parts


def _gather_as_view(node: Node, graph: Graph, view: View) -> list[View] | None:
    """Indices in arithmetic progression are a slice; others are left to the copying form."""
    axis = int(node.attributes.get("axis", 0)) % len(view.shape)
    tensor = constant(graph, node.inputs[1], "indices")
    assert tensor.data is not None
    indices = [int(i) % view.shape[axis] for i in tensor.data.ravel()]
    if not indices or len(tensor.shape) > 1:
        return None
    step = indices[1] - indices[0] if len(indices) > 1 else 1
    if step == 0 or any(b - a != step for a, b in pairwise(indices)):
        return None
    picked = view.sliced(axis, indices[0], len(indices), step)
    return [picked] if tensor.shape else [_without_axis(picked, axis)]


def _without_axis(view: View, axis: int) -> View:
    return View(
        view.buffer,
        view.shape[:axis] + view.shape[axis + 1 :],
        view.strides[:axis] + view.strides[axis + 1 :],
        view.offset,
    )


def _gather_pieces(node: Node, graph: Graph, inputs: Sequence[View], output: View) -> list[tuple[View, View]]:
    axis = int(node.attributes.get("axis", 0)) % len(inputs[0].shape)
    tensor = constant(graph, node.inputs[1], "indices")
    assert tensor.data is not None
    flat_shape = (*inputs[0].shape[:axis], tensor.size, *inputs[0].shape[axis + 1 :])
    flat = View.whole(output.buffer, flat_shape)
    size = inputs[0].shape[axis]
    return [
        (flat.sliced(axis, to, 1), inputs[0].sliced(axis, int(index) % size, 1))
        for to, index in enumerate(tensor.data.ravel())
    ]


def _concat_pieces(node: Node, graph: Graph, inputs: Sequence[View], output: View) -> list[tuple[View, View]]:
    axis = int(node.attributes["axis"]) % len(output.shape)
    pieces, start = [], 0
    for view in inputs:
        pieces.append((output.sliced(axis, start, view.shape[axis]), view))
        start += view.shape[axis]
    return pieces


def _tile_pieces(node: Node, graph: Graph, inputs: Sequence[View], output: View) -> list[tuple[View, View]]:
    source = inputs[0]
    counts = [out // max(n, 1) for out, n in zip(output.shape, source.shape, strict=True)]
    pieces = []
    for position in np.ndindex(*counts):
        target = output
        for axis, (index, size) in enumerate(zip(position, source.shape, strict=True)):
            target = target.sliced(axis, index * size, size)
        pieces.append((target, source))
    return pieces


OPERATORS = {
    **{name: Viewing(_reshape) for name in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")},
    "Dropout": Viewing(_dropout),
    "Transpose": Viewing(_transpose),
    "Expand": Viewing(_expand),
    "Slice": Viewing(_slice),
    "Split": Viewing(_split),
    "Gather": Viewing(_gather_as_view, Assembling(_gather_pieces)),
    "Concat": Assembling(_concat_pieces),
    "Tile": Assembling(_tile_pieces),
}
