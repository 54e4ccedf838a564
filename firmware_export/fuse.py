"""Rewrites that make the C shorter: a matrix product takes up its bias, and elementwise neighbours share one loop."""

from __future__ import annotations

import numpy as np

from robot_rl.firmware_export.ir import Graph, Node
from robot_rl.firmware_export.operator import Elementwise, operators


def with_biases(graph: Graph) -> Graph:
    """MatMul by a constant matrix followed by Add of a constant row becomes Gemm."""
    nodes = list(graph.nodes)
    for product in graph.nodes:
        if product.op != "MatMul":
            continue
        users = list(graph.consumers(product.outputs[0]))
        if len(users) != 1 or users[0].op != "Add" or product.outputs[0] in graph.outputs:
            continue
        add = users[0]
        bias_name = add.inputs[1] if add.inputs[0] == product.outputs[0] else add.inputs[0]
        matrix, bias = graph.tensors[product.inputs[1]], graph.tensors[bias_name]
        left, out = graph.tensors[product.inputs[0]], graph.tensors[add.outputs[0]]
        fits = (
            matrix.data is not None
            and len(matrix.shape) == 2
            and len(left.shape) == 2
            and bias.data is not None
            and bias.size == matrix.shape[1] == int(np.prod(bias.shape[-1:]))
            and len(out.shape) == 2
        )
        if fits:
            nodes[nodes.index(add)] = Node(add.name, "Gemm", [*product.inputs, bias_name], add.outputs, {})
            nodes.remove(product)
    return Graph(nodes, graph.tensors, graph.inputs, graph.outputs)


def grouped(graph: Graph) -> list[list[Node]]:
    """Nodes in execution order; connected elementwise nodes of one output shape stand together in a group.

    A group is one loop in C: what one member computes for an element reaches the next in a register.
    """
    waiting = list(graph.nodes)
    known = {name for name, t in graph.tensors.items() if t.data is not None} | set(graph.inputs) | {""}
    groups = []
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.inputs)]
        # Loops wait until nothing else can run: the longer they wait, the more nodes fit into one.
        first = next((n for n in ready if not isinstance(operators()[n.op], Elementwise)), ready[0])
        group = [first]
        waiting.remove(first)
        known.update(first.outputs)
        if isinstance(operators()[first.op], Elementwise):
            _grow(group, waiting, known, graph)
        groups.append(group)
    return groups


def _grow(group: list[Node], waiting: list[Node], known: set[str], graph: Graph) -> None:
    shape = graph.tensors[group[0].outputs[0]].shape
    touched = {name for node in group for name in (*node.inputs, *node.outputs) if name}
    grew = True
    while grew:
        grew = False
        for node in waiting:
            if (
                isinstance(operators()[node.op], Elementwise)
                and graph.tensors[node.outputs[0]].shape == shape
                and known.issuperset(node.inputs)
                and touched.intersection(node.inputs)
            ):
                group.append(node)
                waiting.remove(node)
                known.update(node.outputs)
                touched.update(name for name in (*node.inputs, *node.outputs) if name)
                grew = True
                break
