"""Splits a descriptor network into the parts before, trunk and head, by the graph's structure; names do not matter.

before   nodes before the first convolution: the cast of the frame, mean and std
trunk    convolutions and the nodes between them: most of the work, and robust to few bits
head     nodes after the last convolution on their path: powers, means and norms, sensitive to few bits
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from sdk import EngineError

__all__ = ["GraphParts", "arrange", "split"]


@dataclass(frozen=True)
class GraphParts:
    """The nodes of a graph, each in one part, in the order of the graph."""

    before: list[onnx.NodeProto]
    trunk: list[onnx.NodeProto]
    head: list[onnx.NodeProto]


def split(graph: onnx.GraphProto) -> GraphParts:
    """Sort the nodes of a graph into its three parts.

    Raises:
        EngineError: there is no convolution, or nothing follows the last one.
    """
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output}
    leads_to_convolution: set[int] = set()
    waiting = [index for index, node in enumerate(graph.node) if node.op_type == "Conv"]
    while waiting:
        index = waiting.pop()
        if index not in leads_to_convolution:
            leads_to_convolution.add(index)
            waiting += [maker[name] for name in graph.node[index].input if name in maker]
    parts = GraphParts([], [], [])
    convolved: set[str] = set()  # tensors that depend on a convolution
    for index, node in enumerate(graph.node):  # in topological order
        if node.op_type != "Conv" and convolved.isdisjoint(node.input):
            parts.before.append(node)
            continue
        convolved.update(node.output)
        (parts.trunk if index in leads_to_convolution else parts.head).append(node)
    if not parts.trunk or not parts.head:
        raise EngineError(
            f"the graph has {len(parts.trunk)} nodes in its convolutional trunk and {len(parts.head)} after it, "
            "expected a convolutional trunk and a head; convert the file of `structvpr export onnx`"
        )
    return parts


def arrange(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> None:
    """Replace a graph's nodes, given in topological order, and keep only the constants, old or new, that they use."""
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]  # copies outlive the list
    used = {name for node in kept for name in node.input}
    tensors = [tensor for tensor in [*graph.initializer, *constants] if tensor.name in used]
    tensors = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in tensors]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(tensors)
