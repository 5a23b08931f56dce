"""int8 in the graph: Q/DQ pairs around the convolutions of the trunk; the head stays as it is.

    flavour        activations                        weights                     biases and what else is quantised
    tensorrt       int8, symmetric, zero point 0      int8, symmetric, a scale    float32; the shortcut of a residual
                                                      per output channel          sum where it is quantised already
    onnxruntime    uint8, with a zero point           the same                    int32; both terms of residual sums

Both come from the same ranges. TensorRT takes only zero points of 0 and no int32 bias, and fuses what lies between two
convolutions from the pairs at their inputs. ONNX Runtime and OpenVINO on x86 multiply uint8 by int8 (VNNI), and ONNX
Runtime fuses a convolution only if its bias is quantised as well.

The head reads its taps before they are quantised. Between the pairs everything is float32: opset 17, the newest that
TensorRT 8.6 reads, has no Q/DQ pair on float16, and between fused layers nothing but int8 is left to move.

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
MOST = 127  # int8 without -128, so that zero is in the middle
MOST_BIAS = 2.0**30  # a bias in units of its scale; half of what int32 holds
LEAST_SCALE = 1e-15  # of what is always zero; the product of two is a normal float32


def tensors_to_calibrate(model: onnx.ModelProto, flavour: str) -> list[str]:
    """The activations that `quantize` asks a range of, each once.

    Raises:
        EngineError: the graph has no trunk with a head behind it.
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
        model: fp32.
        measured: each of `tensors_to_calibrate`, over frames.
        flavour: one of `FLAVOURS`.

    Raises:
        EngineError: the graph has no trunk with a head behind it, or a weight is not finite.
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
            # Where a shortcut is the input of a convolution too, TensorRT need keep but its int8 form. The other term
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
        self.activations: dict[str, tuple[str, float]] = {}  # name -> (name behind its pair, scale)
        self.after: dict[str, list[onnx.NodeProto]] = {}  # name -> nodes to put behind its maker
        self.weights: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def activation(self, name: str) -> str:
        """The name of a tensor behind its pair."""
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
        """The name of a constant that is stored as whole numbers, with a scale for each of its rows."""
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
    """Scale and zero point, scalars, of a tensor of that range.

    A range below zero is taken as far up as down, and the other way round: frames other than those it was measured on
    go further, and cutting them off costs more than a part of a bit.
    """
    reach = max(-measured.least, measured.greatest, LEAST_SCALE * MOST)
    if flavour == "tensorrt":
        return np.array(reach / MOST, np.float32), np.array(0, np.int8)
    if measured.least >= 0.0:
        # Rounded down: ONNX Runtime drops a Clip whose bound the pair keeps by itself, but not if it is a bit beyond.
        return np.array(np.nextafter(np.float32(reach / 255), np.float32(0.0))), np.array(0, np.uint8)
    return np.array(reach / MOST, np.float32), np.array(128, np.uint8)


def quantize_convolution(node: onnx.NodeProto, values: Mapping[str, npt.NDArray[np.generic]], pairs: Pairs) -> None:
    """Make a convolution read its input, its weights and, for ONNX Runtime, its bias through pairs.

    What rounding the weights shifts on average is taken back by the bias.
    """
    name = node.input[0]
    restored = pairs.activation(name)
    _, input_scale = pairs.activations[name]
    weight = np.asarray(values[node.input[1]], np.float64)  # (out, in / groups, kh, kw)
    if not np.isfinite(weight).all():
        raise EngineError(f"weight {node.input[1]} is not finite, expected finite values; export the network again")
    bias = np.asarray(values[node.input[2]], np.float64) if len(node.input) > 2 else np.zeros(len(weight))  # (out,)
    scales = np.abs(weight).reshape(len(weight), -1).max(axis=1) / MOST  # (out,)
    if pairs.flavour == "onnxruntime":
        # A dead channel has tiny weights and a bias that would not fit int32 in their unit.
        scales = np.maximum(scales, np.abs(bias) / (input_scale * MOST_BIAS))
    scales = np.maximum(scales, LEAST_SCALE).astype(np.float32)
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
    """What a convolution gives less, on average, for weights that are less by `lost`.

    Weights of one channel are rounded in the same direction often enough that the whole map is shifted, by more than
    its noise where there are only nine of them. The border, where some weights meet padding, is neglected.

    Args:
        lost: float64 (out, in / groups, kh, kw).
        means: of the input's channels, float64 (in,).

    Returns:
        float64 (out,).

    Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (ICCV 2019), section
    4.2; the means are measured here, there they are inferred from batch norms.
    """
    summed = lost.sum(axis=(2, 3))  # (out, in / groups)
    groups = len(means) // summed.shape[1]
    by_group = means.reshape(groups, -1)  # (groups, in / groups)
    shift: npt.NDArray[np.float64] = np.einsum("goi,gi->go", summed.reshape(groups, -1, summed.shape[1]), by_group)
    return shift.reshape(-1)
