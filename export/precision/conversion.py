"""Converts an fp32 network to fp16 or int8. The precision is in the graph, so every runtime computes the same.

    part of the graph     fp16                        int8
    cast, mean, std       float32                     float32
    trunk                 float16                     int8 around each convolution, see `quantization`
    head, from the taps   float32                     float32

Mean and std stay float32: pixels are integers up to 255, and subtracting the mean in float16 rounds them three times,
in float32 once, at the cast before the first convolution. This costs one pass over the frame, which TensorRT fuses with
the cast.

The head stays float32: float16 ends at 65504, and GeM's cubes exceed it for features above 40.3. Such features occur:
EfficientNet-Lite0's first tap reaches 52 on photographs. The head is cheap: the projections of the head "grid", which
hold all its weights, are under 1 % of the multiplications.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from sdk import EngineError, UsageError
from sdk.progress import Progress

from ..graph.model_file import WrittenModel, read_model, require_new, serialize, write_model
from ..graph.parts import arrange, split
from ..graph.synthetic_frames import Frame, synthetic_frames
from .calibration import Statistics, measure, read_frames
from .quantization import FLAVOURS, quantize, tensors_to_calibrate

__all__ = ["ConversionReport", "check_choices", "check_output", "convert", "to_half"]

PRECISIONS = ("fp16", "int8")
MAX_HALF = float(np.finfo(np.float16).max)  # 65504
MAX_ACTIVATION = MAX_HALF / 2.0  # other frames may exceed the measured range
# Trunk operators that only lose precision in float16; all others stay float32.
HALF_OPERATORS = {"Add", "Clip", "Concat", "Conv", "HardSigmoid", "HardSwish", "LeakyRelu"}
HALF_OPERATORS |= {"MaxPool", "Mul", "Pad", "Relu", "Sigmoid", "Sub"}


@dataclass(frozen=True)
class ConversionReport(WrittenModel):
    """What was written. The contract is the model's with the new precision; the identity is the same.

    Attributes:
        flavour: of int8, "tensorrt" or "onnxruntime"; empty for fp16.
        num_frames: number of calibration frames.
        flushed_weights: number of non-zero weights that float16 rounds to zero (below 2^-25).
    """

    flavour: str
    num_frames: int
    flushed_weights: int


def convert(
    onnx_path: str | Path,
    output_path: str | Path,
    precision: str,
    *,
    calibration: str | Path | Sequence[Frame] | None = None,
    flavour: str | None = None,
    progress: Progress | None = None,
) -> ConversionReport:
    """Convert an fp32 network to fp16 or int8. The gate measures how well the result agrees.

    The ports stay as they are: uint8 (1, h, w, 3) RGB in, float32 (1, D) out. After an error, `output_path` is
    unchanged.

    Args:
        onnx_path: file of `export_onnx`.
        output_path: file to write; an existing one is replaced in one step.
        precision: "fp16" or "int8".
        calibration: what `sdk.open_source` opens, or uint8 (H, W, 3) RGB frames; up to 256 are used, evenly spread.
            int8 takes its scales from them, so they must show what the robot sees, and must not be judged on. fp16 only
            checks its range with them; None for `synthetic_frames`.
        flavour: int8 only: "tensorrt" (the default), or "onnxruntime" for ONNX Runtime and OpenVINO on x86.
        progress: see `Progress`.

    Raises:
        UsageError: an argument is out of its range or has no effect, or the output is the model or is named like an
            engine.
        EngineError: the model cannot be read, is not fp32 or cannot be converted.
        ContractError: the model has no readable contract, or differs from it.
        DataError: there are no calibration frames.
        FrameError: a frame cannot be used.
        WriteError: the file cannot be written.
    """
    check_choices(precision, flavour, calibration)
    check_output(Path(onnx_path), Path(output_path))
    _, model, contract = read_model(Path(onnx_path))
    if contract.precision != "fp32":
        raise EngineError(
            f"{onnx_path}: is {contract.precision} already, expected fp32; convert the file of `structvpr export onnx`"
        )
    flavour = flavour or FLAVOURS[0]
    total, frames = read_frames(synthetic_frames() if calibration is None else calibration, contract)

    def tell(done: int) -> None:
        if progress is not None:
            progress("calibrating", done, total)

    if precision == "int8":
        measured = measure(model, tensors_to_calibrate(model, flavour), frames, tell)
        result, flushed = quantize(model, measured, flavour), 0
    else:
        trunk = split(model.graph).trunk
        tensors = [name for node in trunk for name in (*node.input[:1], *node.output)]
        check_activations(measure(model, tensors, frames, tell))
        result, flushed = to_half(model)
    contract = replace(contract, precision=precision)
    written = write_model(serialize(result, contract, "onnx"), output_path, contract)
    return ConversionReport(
        **vars(written), flavour=flavour if precision == "int8" else "", num_frames=total, flushed_weights=flushed
    )


def check_choices(precision: str, flavour: str | None, calibration: object) -> None:
    """Raise UsageError if an argument of `convert` is out of its range, missing, or has no effect."""
    if precision not in PRECISIONS:
        raise UsageError(f"precision is {precision!r}, expected {' or '.join(PRECISIONS)}")
    if flavour is not None and precision != "int8":
        raise UsageError(f"flavour {flavour!r} applies to int8 only, not to {precision}; leave it out")
    if flavour is not None and flavour not in FLAVOURS:
        raise UsageError(f"flavour is {flavour!r}, expected {' or '.join(FLAVOURS)}")
    if calibration is None and precision == "int8":
        raise UsageError("int8 needs calibration frames; give a folder of about 100 that show what the robot sees")


def check_output(model: Path, output: Path) -> None:
    """Refuse an output that is the model, that is named like an engine, or that cannot be written."""
    if output.suffix in (".engine", ".plan"):
        raise UsageError(f"{output}: ends like a TensorRT engine, expected .onnx; choose another path")
    require_new(output, model)


def check_activations(measured: Mapping[str, Statistics]) -> None:
    """Raise EngineError if a value in the trunk comes too close to the limit of float16."""
    for name, found in measured.items():
        greatest = max(-found.least, found.greatest)
        if greatest > MAX_ACTIVATION:
            raise EngineError(
                f"values of {greatest:.0f} found at {name}, expected at most {MAX_ACTIVATION:.0f}, half the limit of "
                "float16; keep this network in fp32"
            )


def to_half(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Copy an fp32 network with its trunk in float16 and a Cast wherever a tensor enters or leaves the trunk.

    Returns:
        The copy, and the number of weights that became zero.

    Raises:
        EngineError: the graph has no trunk followed by a head, or a weight exceeds 65504.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    in_half = {node.output[0] for node in split(graph).trunk if node.op_type in HALF_OPERATORS}
    nodes: list[onnx.NodeProto] = []
    names: dict[tuple[str, int], str] = {}  # tensor and type wanted -> name of the tensor in that type
    constants: list[onnx.TensorProto] = []
    flushed = 0

    def cast(name: str, kind: int) -> str:
        key = name, kind
        if key not in names:
            names[key] = f"{name}_{'half' if kind == TensorProto.FLOAT16 else 'float'}"
            nodes.append(onnx.helper.make_node("Cast", [name], [names[key]], names[key], to=kind))
        return names[key]

    for node in graph.node:
        half = node.output[0] in in_half
        for position, name in enumerate(node.input):
            if name not in tensors:
                if half and name not in in_half:
                    node.input[position] = cast(name, TensorProto.FLOAT16)
                elif not half and name in in_half:
                    node.input[position] = cast(name, TensorProto.FLOAT)
            elif half and tensors[name].data_type == TensorProto.FLOAT:
                key = name, TensorProto.FLOAT16
                if key not in names:
                    names[key] = f"{name}_half"
                    constant, lost = half_constant(tensors[name], names[key], bound=node.op_type == "Clip")
                    constants.append(constant)
                    flushed += lost
                node.input[position] = names[key]
        nodes.append(node)
    arrange(graph, nodes, constants)
    return result, flushed


def half_constant(tensor: onnx.TensorProto, name: str, bound: bool) -> tuple[onnx.TensorProto, int]:
    """A constant in float16, and how many of its values became zero. Bounds of Clip are limited to 65504."""
    value = numpy_helper.to_array(tensor)
    if bound:
        value = value.clip(-MAX_HALF, MAX_HALF)
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    if not np.isfinite(half).all():
        raise EngineError(
            f"weight {tensor.name} holds {value.flat[np.abs(value).argmax()]:.3g}, expected at most {MAX_HALF:.0f}, "
            "the limit of float16; keep this network in fp32"
        )
    return numpy_helper.from_array(half, name), int(((half == 0) & (value != 0)).sum())
