"""Checks an ONNX graph for what each TensorRT refuses or misreads. TensorRT itself is not needed.

TensorRT-RTX runs on any machine, so a test asks it directly (tests/export/graph/test_rtx.py); its parser is that of
TensorRT 11. The parsers of JetPack's releases exist only on the device, so their known traps are written here as rules,
each with its source. A graph that passes has no known trap; it may still fail to build.

Sources, and their short names below:

    parser      onnx-tensorrt, builtin_op_importers.cpp and ModelImporter.cpp: commit 7583da4 for 8.5.2, 6ba67d3 for
                8.6.1, and onnxOpImporters.cpp at 96e7811 for 10.1
    operators   docs/operators.md there, for 8.5, 8.6, 10.0 and 10.15; docs/Changelog.md up to 10.7
    header      NvInferRuntimeBase.h (10: NvInferRuntime.h), the comment on DataType::kUINT8, unchanged 8.5 to 10
    rtx         observed with TensorRT-RTX 1.7.1, by test_rtx.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto

from sdk import UsageError

from .targets import KNOWN, Target
from .tensors import Graph, attribute, label, type_name
from .value_types import graph_precision, has_half

__all__ = ["TARGETS", "Finding", "check_graph", "targets_that_take"]

QUANTIZATION = ("QuantizeLinear", "DequantizeLinear")

TARGETS = tuple(KNOWN)


@dataclass(frozen=True)
class Finding:
    """A trap for one TensorRT in a graph.

    Attributes:
        target: one of `TARGETS`.
        rule: name of the rule.
        node: name of the node or input; empty for the whole graph.
        found: what is wrong.
        remedy: what to do.
        refused: True if this TensorRT refuses or misreads the graph; False if it accepts the graph, but the build must
            do something for it.
    """

    target: str
    rule: str
    node: str
    found: str
    remedy: str
    refused: bool

    def __str__(self) -> str:
        where = f" at {self.node}" if self.node else ""
        return f"TensorRT {self.target}{where}: {self.found}; {self.remedy}"


def check_graph(model: onnx.ModelProto, targets: Sequence[str] = TARGETS) -> list[Finding]:
    """Look for known traps in a graph.

    Args:
        model: valid ONNX.
        targets: names in `TARGETS`.

    Returns:
        The findings, ordered by target.

    Raises:
        UsageError: there is no such target.
    """
    graph = Graph(model)
    findings = []
    for name in targets:
        if name not in KNOWN:
            raise UsageError(f"TensorRT {name!r} is not known, expected one of {', '.join(TARGETS)}")
        for rule in RULES:
            for trap in rule(graph, KNOWN[name]):
                findings.append(Finding(name, rule.__name__, trap.node, trap.found, trap.remedy, trap.refused))
    return findings


def targets_that_take(model: onnx.ModelProto, targets: Sequence[str] = TARGETS) -> tuple[str, ...]:
    """The targets that accept a graph, by our rules; see `check_graph`."""
    refusing = {finding.target for finding in check_graph(model, targets) if finding.refused}
    return tuple(name for name in targets if name not in refusing)


class Trap(NamedTuple):
    """A rule's result, see `Finding`."""

    node: str
    found: str
    remedy: str
    refused: bool = True


# --- the graph as a whole -------------------------------------------------------------------------------


def opset(graph: Graph, target: Target) -> Iterator[Trap]:
    """Newer opsets are not refused, but read as older ones. Source: operators; parser."""
    for entry in graph.model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > target.opset:
            yield Trap("", f"opset {entry.version} found, expected at most {target.opset}", "export with opset 17")


def operator(graph: Graph, target: Target) -> Iterator[Trap]:
    """Unknown operators. Source: operators; for other domains, rtx ("Plugin not found")."""
    for node in graph.foreign:
        found = f"operator {node.domain}.{node.op_type} found, expected one of ONNX"
        yield Trap(label(node), found, "express it by operators of ONNX, or give TensorRT a plugin for it")
    for node in graph.nodes:
        if node.op_type in target.unknown:
            found = f"operator {node.op_type} found, expected one that this parser knows"
            yield Trap(label(node), found, "express it by other operators")
        elif any(a.HasField("g") or a.graphs for a in node.attribute):
            found = f"a graph inside {node.op_type} found, expected none: these rules do not look into it"
            yield Trap(label(node), found, "export without branches and loops")


def static_shape(graph: Graph, target: Target) -> Iterator[Trap]:
    """A dynamic shape needs an optimisation profile, and our builder makes none. Source: rtx."""
    for value in graph.inputs:
        if not all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim):
            yield Trap(value.name, "an input with a dynamic shape found, expected a static one", "fix its size")


def typing(graph: Graph, target: Target) -> Iterator[Trap]:
    """From TensorRT 10 on a network is strongly typed. Before, the builder chooses precisions within its flags.

    Source: NetworkDefinitionCreationFlag.STRONGLY_TYPED is in the API of 10.0 to 11.4, but not of 8.6.
    """
    if target.version >= (10, 0):
        return
    if has_half(graph.model):
        remedy = "build with FP16 and OBEY_PRECISION_CONSTRAINTS, and hold the layers that are float32 to it, or build"
        remedy += " the fp32 graph with FP16 and the head held to float32"
        yield Trap("", "float16 found in the graph, which this TensorRT takes for a hint", remedy, refused=False)
    if graph_precision(graph.model) == "int8":
        yield Trap(
            "", "Q/DQ found in the graph, which this TensorRT reads if told to", "build with INT8", refused=False
        )


# --- inputs that must be constants, and types -----------------------------------------------------------


def reduce_axes(graph: Graph, target: Target) -> Iterator[Trap]:
    """TensorRT 8 reads axes from an input for ReduceSum only. It silently reduces all others over all axes.

    Source: parser: before 9.0 the importers of ReduceMean and similar ignore such axes. Operators: later versions need
    an initializer.
    """
    for node in graph.nodes:
        if node.op_type.startswith("Reduce") and len(node.input) > 1 and node.input[1]:
            if target.version < (10, 0) and node.op_type != "ReduceSum":
                found = f"{node.op_type} with its axes as an input found, expected an attribute"
                yield Trap(label(node), found, "export with opset 17: this TensorRT would reduce over all axes")
            elif node.input[1] not in graph.constants:
                found = f"{node.op_type} with computed axes found, expected an initializer"
                yield Trap(label(node), found, "fold constants")


def constant_input(graph: Graph, target: Target) -> Iterator[Trap]:
    """Inputs that must be constants.

    Source: parser (TopK: assertIsWeights; Clip: elementwiseClipHelper); operators; Changelog, 10.3 and 10.7. Sizes and
    scales of Resize may be computed from 8.5 on (parser: `setInput(1, ...)`).
    """
    wanted = {"TopK": (1, (8, 6)), "Slice": (3, (10, 3)), "Squeeze": (1, (10, 7)), "Unsqueeze": (1, (10, 7))}
    for node in graph.nodes:
        index, since = wanted.get(node.op_type, (0, (0, 0)))
        computed = [name for name in node.input[index : index + 1] if name and name not in graph.constants]
        if target.version < since and computed:
            found = f"{node.op_type} with a computed input {index} found, expected an initializer"
            yield Trap(label(node), found, "fold constants")
        computed = [name for name in node.input[1:] if name and name not in graph.constants]
        if node.op_type == "Clip" and target.version < (10, 0) and computed:
            found = "Clip with computed bounds found, expected initializers"
            yield Trap(label(node), found, "fold constants: it becomes two more layers here", refused=False)


def uint8(graph: Graph, target: Target) -> Iterator[Trap]:
    """Only inputs and outputs may be uint8, and only a Cast may read such an input.

    Source: header: converted to float32 or float16 before any other layer. Parser: 8.5 asserts this in Cast; 8.6 and
    later refuse a uint8 tensor inside. Casts to other types: refused by 8.5, not documented before 10.6 (where the page
    on ICastLayer lists all types), accepted by rtx.
    """
    ends = {value.name for value in graph.model.graph.output}
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    for value in graph.inputs:
        for node in graph.users(value.name) if graph.types[value.name] == TensorProto.UINT8 else ():
            to = attribute(node, "to", 0)
            if node.op_type != "Cast":
                found = f"{node.op_type} of the uint8 input {value.name} found, expected a Cast"
                yield Trap(label(node), found, "cast the input to float32 first")
            elif to not in floats and target.version < (10, 6):
                found = f"Cast of the uint8 input {value.name} to {type_name(to)} found, expected float32 or float16"
                yield Trap(label(node), found, "cast the input to float32 first")
    for node in graph.nodes:
        if node.op_type in ("Constant", *QUANTIZATION):  # of Q/DQ: see `quantized_type`
            continue
        made = [name for name in node.output if name not in ends and graph.types.get(name) == TensorProto.UINT8]
        if made and all(graph.types.get(name) != TensorProto.UINT8 for name in node.input):
            yield Trap(label(node), "a uint8 tensor inside the graph found, expected none", "use float32 or int32")


def wide_type(graph: Graph, target: Target) -> Iterator[Trap]:
    """Types wider than TensorRT's. Source: operators: float64 is cast down; 8.x clamps int64 and has no bfloat16."""
    wide = sorted(name for name, kind in graph.types.items() if kind == TensorProto.DOUBLE)
    if wide:
        yield Trap(wide[0], "float64 found, which is computed as float32", "export with float32", refused=False)
    if target.version >= (10, 0):
        return
    brain = sorted(name for name, kind in graph.types.items() if kind == TensorProto.BFLOAT16)
    if brain:
        yield Trap(brain[0], "bfloat16 found, expected float32 or float16", "export with one of these")
    for name, tensor in graph.constants.items():
        # The end of a Slice is often the largest int64; clamped, it means the same.
        if tensor.data_type == TensorProto.INT64 and any(user.op_type != "Slice" for user in graph.users(name)):
            values = onnx.numpy_helper.to_array(tensor)
            if (values != values.clip(-(2**31), 2**31 - 1)).any():
                yield Trap(name, "an int64 beyond int32 found, which is clamped", "use smaller numbers")


# --- Q/DQ -----------------------------------------------------------------------------------------------


def quantized_type(graph: Graph, target: Target) -> Iterator[Trap]:
    """Q/DQ must be symmetric int8. Without a zero point, ONNX's default is uint8.

    Source: parser: 8.5 to 10 refuse uint8, and 8.x a missing zero point. rtx reads uint8 with zero point 0 as int8,
    which saturates at another value, and refuses int32 (ONNX Runtime's quantiser makes int32 biases by default).
    """
    for node in graph.nodes:
        if node.op_type not in QUANTIZATION:
            continue
        zero_name = node.input[2] if len(node.input) > 2 else ""
        zero = graph.value(zero_name)
        source = node.input[0] if node.op_type == "DequantizeLinear" else node.output[0]
        kind = graph.types.get(source, graph.types.get(zero_name, TensorProto.UNDEFINED))
        if kind == TensorProto.INT32:
            found = f"{node.op_type} of int32 found, expected int8"
            yield Trap(label(node), found, "leave biases in float (ONNX Runtime: QuantizeBias False)")
        elif kind != TensorProto.INT8:
            found = f"{node.op_type} with {type_name(kind)} found, expected int8"
            yield Trap(label(node), found, "quantise activations and weights to int8, symmetric")
        elif not zero_name and target.version < (10, 0):
            yield Trap(label(node), f"{node.op_type} without a zero point found, expected int8 0", "give it one")
        if zero is not None and zero.any():
            found = f"{node.op_type} with zero point {int(zero.ravel()[np.flatnonzero(zero)[0]])} found, expected 0"
            yield Trap(label(node), found, "quantise symmetrically")


def quantized_weight(graph: Graph, target: Target) -> Iterator[Trap]:
    """Weights stored as int8 with only DequantizeLinear; a quarter of the size of float weights with the whole pair.

    Source: ONNX Runtime's documents (AddQDQPairToWeight) and Optimum's guide to TensorRT ask for the pair; rtx builds
    both.
    """
    alone = [
        node
        for node in graph.nodes
        if node.op_type == "DequantizeLinear" and graph.types.get(node.input[0]) == TensorProto.INT8
        if node.input[0] in graph.constants
    ]
    if alone and target.version < (10, 13):
        found = f"weights stored as int8 found ({len(alone)} tensors), not shown to build here"
        yield Trap(label(alone[0]), found, "if it is refused, build the fp16 model", refused=False)


def quantized_scale(graph: Graph, target: Target) -> Iterator[Trap]:
    """Scales must be positive and float32. Source: parser: 8.x reads the bytes of any type as float32."""
    for node in graph.nodes:
        scale = graph.value(node.input[1]) if node.op_type in QUANTIZATION else None
        if scale is None:
            continue
        if not (scale.astype(np.float32) > 0.0).all():
            yield Trap(label(node), "a scale that is not positive found, expected one > 0", "calibrate again")
        if scale.dtype != np.float32 and target.version < (10, 0):
            yield Trap(label(node), f"a scale of {scale.dtype} found, expected float32", "keep scales in float32")


def quantized_axis(graph: Graph, target: Target) -> Iterator[Trap]:
    """Only weights may have a scale per channel, along their output channels.

    Source: parser, the comments in QuantDequantLinearHelper. rtx also builds others, so 11 and rtx are not checked.
    """
    for node in graph.nodes:
        scale = graph.value(node.input[1]) if node.op_type in QUANTIZATION else None
        if scale is None or scale.size == 1 or target.version >= (11, 0):
            continue
        if not graph.is_weight(node.input[0]):
            found = f"{node.op_type} of an activation with {scale.size} scales found, expected one scale"
            yield Trap(label(node), found, "quantise activations per tensor")
            continue
        for user in graph.users(node.output[0]):
            wanted = {"Conv": 0, "ConvTranspose": 1}.get(user.op_type)
            if wanted is not None and (axis := attribute(node, "axis", 1)) != wanted:
                found = f"weights of {user.op_type} quantised along axis {axis} found, expected axis {wanted}"
                yield Trap(label(node), found, "give each output channel its scale")


RULES: tuple[Callable[[Graph, Target], Iterator[Trap]], ...] = (
    opset,
    operator,
    static_shape,
    typing,
    reduce_axes,
    constant_input,
    uint8,
    wide_type,
    quantized_type,
    quantized_weight,
    quantized_scale,
    quantized_axis,
)
