"""Looks up the tensors of an ONNX graph: constants, types, producers and users."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

__all__ = ["Graph", "attribute", "label", "type_name"]


class Graph:
    """A graph with its constants, types, producers and users.

    Constant nodes count as initializers, because the parsers read both as weights. `nodes` have operators of ONNX,
    checked by onnx; `foreign` are the nodes of other domains.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = [node for node in model.graph.node if node.domain in ("", "ai.onnx")]
        self.foreign = [node for node in model.graph.node if node.domain not in ("", "ai.onnx")]
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                self.constants.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
        self.inputs = [value for value in model.graph.input if value.name not in self.constants]
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self.types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
        self.types.update({v.name: v.type.tensor_type.elem_type for v in self.inputs})
        self.types.update({name: tensor.data_type for name, tensor in self.constants.items()})
        self.maker = {name: node for node in self.nodes for name in node.output}

    def users(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor."""
        return [node for node in self.nodes if name in node.input]

    def value(self, name: str) -> np.ndarray[Any, Any] | None:
        """A constant's values; None if there is no such constant."""
        return onnx.numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def is_weight(self, name: str) -> bool:
        """Whether a tensor is a constant, or a quantised constant."""
        maker = self.maker.get(name)
        quantized = maker is not None and maker.op_type == "QuantizeLinear" and maker.input[0] in self.constants
        return name in self.constants or quantized


def label(node: onnx.NodeProto) -> str:
    """A node's name for a message, or its operator and outputs if it has none."""
    return node.name or f"{node.op_type} -> {', '.join(node.output)}"


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """An integer attribute."""
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def type_name(elem_type: int) -> str:
    """The name of an element type, such as uint8; "type N" for a number that ONNX does not know."""
    known = elem_type in TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(elem_type)).lower() if known else f"type {elem_type}"
