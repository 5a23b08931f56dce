"""Puts int8 into a graph: Q/DQ pairs around the convolutions of the trunk. The head stays float32.

    flavour        activations                        weights                     biases and other tensors
    tensorrt       int8, symmetric, zero point 0      int8, symmetric, a scale    float32; a residual sum reads its
                                                      per output channel          shortcut quantised where it already is
    onnxruntime    uint8, with a zero point           the same                    int32; both terms of residual sums

Both flavours use the same ranges. TensorRT accepts only zero points of 0 and no int32 bias; it fuses the nodes between
two convolutions, given the pairs at their inputs. ONNX Runtime and OpenVINO on x86 multiply uint8 by int8 (VNNI), and
ONNX Runtime fuses a convolution only if its bias is quantised too.

The head reads its taps before quantisation. Tensors between the pairs are float32: opset 17, the newest that TensorRT
8.6 reads, has no Q/DQ on float16, and fused layers exchange only int8 anyway.

Sources: NVIDIA, TensorRT developer guide, "Working with Quantized Types" (placement of Q/DQ); Krishnamoorthi,
Quantizing deep convolutional networks for efficient inference (2018), on a scale per channel for depthwise weights;
ONNX Runtime, "Quantize ONNX Models", on uint8 activations and VNNI.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from sdk import EngineError

from ..graph.parts import arrange, split
from .calibration import Statistics

__all__ = ["FLAVOURS", "quantize", "tensors_to_calibrate"]

FLAVOURS = ("tensorrt", "onnxruntime")
MOST = 127  # int8 without -128, so that the range is symmetric
MAX_BIAS = 2.0**30  # a bias in units of its scale; half of what int32 holds
MIN_SCALE = 1e-15  # for tensors that are always zero; the product of two is a normal float32


def tensors_to_calibrate(model: onnx.ModelProto, flavour: str) -> list[str]:
    """Names of the activations whose range `quantize` needs, each once.

    Raises:
        EngineError: the graph has no trunk followed by a head.
    """
    trunk = split(model.graph).trunk
    weights = {tensor.name for tensor in model.graph.initializer}
    names = [node.input[0] for node in trunk if is_convolution(node, weights)]
    if flavour == "onnxruntime":
        names += [name for node in trunk if node.op_type == "Add" for name in node.input if name not in weights]
    return list(dict.fromkeys(names))


def is_convolution(node: onnx.NodeProto, weights: set[str]) -> bool:
    """Whether a node is a convolution with constant weights."""
    return node.op_type == "Conv" and weights.issuperset(node.input[1:])


def quantize(model: onnx.ModelProto, measured: Mapping[str, Statistics], flavour: str) -> onnx.ModelProto:
    """Put Q/DQ pairs into a copy of a network.

    Args:
        model: in fp32.
        measured: statistics of each of `tensors_to_calibrate`.
        flavour: one of `FLAVOURS`.

    Raises:
        EngineError: the graph has no trunk followed by a head, or a weight is not finite.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = Pairs(flavour, measured, taken=set(values) | {name for node in graph.node for name in node.output})
    trunk = split(graph).trunk
    for node in trunk:
        if is_convolution(node, set(values)):
            quantize_convolution(node, values, pairs)
    for node in trunk:
        if node.op_type == "Add":
            # If the shortcut is also the input of a convolution, TensorRT then keeps only its int8 form. The other term
            # is fused with the convolution that makes it.
            for position, name in enumerate(node.input):
                if name in pairs.activations or (flavour == "onnxruntime" and name in measured):
                    node.input[position] = pairs.activation(name)
    nodes = []
    for node in [*pairs.weights, *graph.node]:
        nodes.append(node)
        nodes += [pair for name in node.output for pair in pairs.after.get(name, [])]
    arrange(graph, nodes, pairs.constants)
    return result


class Pairs:
    """The Q/DQ pairs made so far, one for each tensor."""

    def __init__(self, flavour: str, measured: Mapping[str, Statistics], taken: set[str]) -> None:
        self.flavour, self.measured, self.taken = flavour, measured, taken
        self.activations: dict[str, tuple[str, float]] = {}  # name -> (name after its pair, scale)
        self.after: dict[str, list[onnx.NodeProto]] = {}  # name -> nodes to insert after its producer
        self.weights: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def activation(self, name: str) -> str:
        """The name of a tensor after its pair."""
        if name not in self.activations:
            scale, zero = activation_scale(self.measured[name], self.flavour)
            parameters = [self.constant(f"{name}_scale", scale), self.constant(f"{name}_zero_point", zero)]
            quantized, restored = self.fresh(f"{name}_quantized"), self.fresh(f"{name}_dequantized")
            self.after[name] = [
                onnx.helper.make_node("QuantizeLinear", [name, *parameters], [quantized], quantized),
                onnx.helper.make_node("DequantizeLinear", [quantized, *parameters], [restored], restored),
            ]
            self.activations[name] = restored, float(scale)
        return self.activations[name][0]

    def weight(self, name: str, whole: npt.NDArray[np.integer], scales: npt.NDArray[np.float32]) -> str:
        """The dequantised name of a constant that is stored as integers, with one scale per row."""
        parts = [
            self.constant(f"{name}_quantized", whole),
            self.constant(f"{name}_scale", scales),
            self.constant(f"{name}_zero_point", np.zeros(len(scales), whole.dtype)),
        ]
        restored = self.fresh(f"{name}_dequantized")
        self.weights.append(onnx.helper.make_node("DequantizeLinear", parts, [restored], restored, axis=0))
        return restored

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        name = self.fresh(name)
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def fresh(self, name: str) -> str:
        """A name that nothing else has."""
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name


def activation_scale(measured: Statistics, flavour: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.integer]]:
    """Scale and zero point, scalars, for a tensor's measured range.

    A range with negative values is made symmetric. Other frames exceed the measured range, and clipping them costs more
    than the fraction of a bit that a tighter range would gain.
    """
    reach = max(-measured.least, measured.greatest, MIN_SCALE * MOST)
    if flavour == "tensorrt":
        return np.array(reach / MOST, np.float32), np.array(0, np.int8)
    if measured.least >= 0.0:
        # Rounded down: ONNX Runtime removes a Clip only if the pair's own limit does not exceed the Clip's bound.
        return np.array(np.nextafter(np.float32(reach / 255), np.float32(0.0))), np.array(0, np.uint8)
    return np.array(reach / MOST, np.float32), np.array(128, np.uint8)


def quantize_convolution(node: onnx.NodeProto, values: Mapping[str, npt.NDArray[np.generic]], pairs: Pairs) -> None:
    """Make a convolution read its input, its weights and, for ONNX Runtime, its bias through pairs.

    The bias corrects the mean shift that rounding the weights causes.
    """
    name = node.input[0]
    restored = pairs.activation(name)
    _, input_scale = pairs.activations[name]
    weight = np.asarray(values[node.input[1]], np.float64)  # (out, in / groups, kh, kw)
    if not np.isfinite(weight).all():
        raise EngineError(f"weight {node.input[1]} is not finite; export the network again")
    bias = np.asarray(values[node.input[2]], np.float64) if len(node.input) > 2 else np.zeros(len(weight))  # (out,)
    scales = np.abs(weight).reshape(len(weight), -1).max(axis=1) / MOST  # (out,)
    if pairs.flavour == "onnxruntime":
        # A dead channel has tiny weights; in their scale its bias would not fit into int32.
        scales = np.maximum(scales, np.abs(bias) / (input_scale * MAX_BIAS))
    scales = np.maximum(scales, MIN_SCALE).astype(np.float32)
    unit = scales.reshape(-1, 1, 1, 1).astype(np.float64)
    whole = np.rint(weight / unit).clip(-MOST, MOST).astype(np.int8)
    bias = bias + mean_shift(weight - whole * unit, pairs.measured[name].means)
    node.input[:] = [restored, pairs.weight(node.input[1], whole, scales), f"{node.input[1]}_bias"]
    if pairs.flavour == "onnxruntime":
        units = scales * np.float32(input_scale)
        whole_bias = np.rint(bias / units.astype(np.float64)).astype(np.int32)
        node.input[2] = pairs.weight(node.input[2], whole_bias, units)
    else:
        node.input[2] = pairs.constant(node.input[2], bias.astype(np.float32))


def mean_shift(lost: npt.NDArray[np.float64], means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean decrease of a convolution's output when its weights decrease by `lost`.

    Rounding errors of one channel's weights do not average out, so the whole map is shifted; with only nine weights,
    the shift exceeds the noise. The border, where some weights meet padding, is neglected.

    Args:
        lost: float64 (out, in / groups, kh, kw).
        means: of the input's channels, float64 (in,).

    Returns:
        float64 (out,).

    Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (ICCV 2019), section
    4.2; they infer the means from batch norms, we measure them.
    """
    summed = lost.sum(axis=(2, 3))  # (out, in / groups)
    groups = len(means) // summed.shape[1]
    by_group = means.reshape(groups, -1)  # (groups, in / groups)
    shift: npt.NDArray[np.float64] = np.einsum("goi,gi->go", summed.reshape(groups, -1, summed.shape[1]), by_group)
    return shift.reshape(-1)
