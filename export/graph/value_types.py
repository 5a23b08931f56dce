"""The precision of an ONNX graph, read from its tensors' types and its Q/DQ pairs."""

from __future__ import annotations

import onnx

__all__ = ["float32_tensors", "graph_precision", "has_half"]

QUANTIZATION = ("QuantizeLinear", "DequantizeLinear")


def graph_precision(model: onnx.ModelProto) -> str:
    """ "int8" if there are Q/DQ pairs, else "fp16" if anything is float16, else "fp32"."""
    if any(node.op_type in QUANTIZATION for node in model.graph.node):
        return "int8"
    return "fp16" if has_half(model) else "fp32"


def has_half(model: onnx.ModelProto) -> bool:
    """Whether a weight is float16, or a Cast gives float16."""
    half = onnx.TensorProto.FLOAT16
    casts = {a.i for node in model.graph.node if node.op_type == "Cast" for a in node.attribute if a.name == "to"}
    return half in casts | {tensor.data_type for tensor in model.graph.initializer}


def float32_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of the float32 tensors, without those that Q/DQ pairs turn into int8 arithmetic."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    pairs = [node for node in model.graph.node if node.op_type in QUANTIZATION]
    quantized = {name for node in pairs for name in node.input}
    dequantized = {name for node in pairs for name in node.output}
    return {
        name
        for node in model.graph.node
        if dequantized.isdisjoint((*node.input, *node.output))
        for name in node.output
        if types.get(name) == onnx.TensorProto.FLOAT and name not in quantized
    }
