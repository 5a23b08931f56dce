"""Small graphs: each has one trap of `export.graph.rules`, and a twin without it; for the rules and TensorRT-RTX."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper, shape_inference

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
FRAME = ("frame", UINT8, [1, 8, 8, 3])
X = ("x", FLOAT, [1, 4, 8, 8])
ZERO, SCALE = np.int8(0), np.float32(0.1)


def model(nodes, inputs=(X,), opset=17, domains=(), **initializers) -> ModelProto:
    """A graph of (operator, inputs, outputs, attributes) with the output y."""
    made = [helper.make_node(op, i.split(), o.split(), name=f"{op} {o}", **more) for op, i, o, more in nodes]
    graph = helper.make_graph(
        made,
        "trap",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    result = shape_inference.infer_shapes(helper.make_model(graph, opset_imports=imports, ir_version=8))
    if not result.graph.output[0].type.tensor_type.elem_type:  # of an operator that is not ONNX's
        result.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", *X[1:]))
    result.graph.output[0].type.tensor_type.shape.SetInParent()  # which the checker wants, even when it is not known
    checker.check_model(result)
    return result


def cast_first(to=FLOAT):
    return model([("Cast", "frame", "t", {"to": to}), ("Cast", "t", "y", {"to": FLOAT})], [FRAME])


def transpose_first():
    nodes = [("Transpose", "frame", "t", {"perm": [0, 3, 1, 2]}), ("Cast", "t", "y", {"to": FLOAT})]
    return model(nodes, [FRAME])


def through(to):
    return model([("Cast", "x", "t", {"to": to}), ("Cast", "t", "y", {"to": FLOAT})])


def quantized(zero=ZERO, scale=SCALE):
    """An activation quantised and back."""
    ends = [("QuantizeLinear", "x s z", "q", {}), ("DequantizeLinear", "q s z", "y", {})]
    if zero is None:
        return model([(op, i.removesuffix(" z"), o, more) for op, i, o, more in ends], s=scale)
    return model(ends, s=scale, z=zero)


def quantized_by_channel():
    ends = [("QuantizeLinear", "x s z", "q", {"axis": 1}), ("DequantizeLinear", "q s z", "y", {"axis": 1})]
    return model(ends, s=np.full(4, 0.1, np.float32), z=np.zeros(4, np.int8))


def quantized_convolution(axis=0, bias=None):
    """As a quantiser leaves it: x and weights through Q/DQ, a scale for each channel of the weights."""
    nodes = [
        ("QuantizeLinear", "x s z", "xq", {}),
        ("DequantizeLinear", "xq s z", "xd", {}),
        ("DequantizeLinear", "w ws wz", "wd", {"axis": axis}),
    ]
    constants = {"s": SCALE, "z": ZERO, "w": np.arange(24, dtype=np.int8).reshape(6, 4, 1, 1)}
    channels = constants["w"].shape[axis]
    constants |= {"ws": np.full(channels, 0.01, np.float32), "wz": np.zeros(channels, np.int8)}
    if bias is None:
        return model([*nodes, ("Conv", "xd wd", "y", {})], **constants)
    constants |= {"b": np.zeros(6, bias), "bs": np.full(6, 0.001, np.float32), "bz": np.zeros(6, bias)}
    nodes.append(("DequantizeLinear", "b bs bz", "bd", {"axis": 0}))
    return model([*nodes, ("Conv", "xd wd bd", "y", {})], **constants)


def reduction(op="ReduceMean", opset=17, constant=True):
    if opset < 18 and op != "ReduceSum":
        return model([(op, "x", "y", {"axes": [2, 3]})], opset=opset)
    if constant:
        return model([(op, "x a", "y", {})], opset=opset, a=np.array([2, 3]))
    return model([(op, "x a", "y", {})], [X, ("a", TensorProto.INT64, [2])], opset=opset)


def inverse(op, constant=True, **attributes):
    """An operator whose second input is a constant, or is computed."""
    if constant:
        return model([(op, "x i", "y", attributes)], i=np.array([0], np.int64))
    return model([("Add", "n n", "i", {}), (op, "x i", "y", attributes)], [X, ("n", TensorProto.INT64, [1])])


def clip(constant=True):
    if constant:
        return model([("Clip", "x low", "y", {})], low=np.float32(0))
    return model([("ReduceMin", "x", "low", {"keepdims": 0}), ("Clip", "x low", "y", {})])


def added(number):
    """An int64 that reaches the graph's values."""
    nodes = [("Cast", "x", "t", {"to": TensorProto.INT64}), ("Add", "t n", "u", {}), ("Cast", "u", "y", {"to": FLOAT})]
    return model(nodes, n=np.array([number], np.int64))


def shape_of(size):
    return model([("Relu", "x", "y", {})], [("x", FLOAT, [size, 4, 8, 8])])


def simple(op, domain=""):
    return model([(op, "x", "y", {"domain": domain} if domain else {})], domains=[domain] if domain else [])


def branch():
    """Relu in one branch of an If, Neg in the other."""
    branches = {}
    for key, op in (("then_branch", "Relu"), ("else_branch", "Neg")):
        out = helper.make_tensor_value_info(key, FLOAT, [1, 4, 8, 8])
        branches[key] = helper.make_graph([helper.make_node(op, ["x"], [key])], key, [], [out])
    return model([("If", "c", "y", branches)], [X, ("c", TensorProto.BOOL, [])])
