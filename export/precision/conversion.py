"""From an fp32 network to one in fp16 or int8: the precision is in the graph, the same for all who run it.

    part of the graph     fp16                        int8
    cast, mean, std       float32                     float32
    trunk                 float16                     int8 around each convolution, see `quantization`
    head, from the taps   float32                     float32

Mean and std stay float32 because pixels are whole numbers to 255: subtracted in float16 they are rounded three times,
in float32 once, at the cast in front of the first convolution. It costs a pass over one frame, which TensorRT fuses
with the cast. The head stays float32 because float16 ends at 65504 and GeM's cubes pass it from features of 40.3 on,
which do occur (EfficientNet-Lite0's first tap reaches 52 on photographs), and because it is next to no work: the
projections of the head "grid", all its weights, are under 1 % of the multiplications.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from sdk import ContractError, EngineError, ModelContract
from sdk.atomic_file import replace_when_done, require_replaceable

from ..from_checkpoint.agreement import synthetic_frames
from ..graph.parts import arrange, split
from ..graph.value_types import graph_precision
from .calibration import Frame, Statistics, measure, read_frames
from .quantization import FLAVOURS, quantize, tensors_to_calibrate

__all__ = ["ConversionReport", "check_output", "convert", "to_half"]

PRECISIONS = ("fp16", "int8")
MOST_HALF = float(np.finfo(np.float16).max)  # 65504
MOST_ACTIVATION = MOST_HALF / 2.0  # other frames go further than those measured
# Operators of trunks that lose nothing but digits in float16; any other stays in float32.
HALF_OPERATORS = {"Add", "Clip", "Concat", "Conv", "HardSigmoid", "HardSwish", "LeakyRelu"}
HALF_OPERATORS |= {"MaxPool", "Mul", "Pad", "Relu", "Sigmoid", "Sub"}

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ConversionReport:
    """What was written.

    Attributes:
        path: the ONNX file.
        size_bytes: of the file.
        sha256: of the file, 64 hex digits. The same model and frames, and the same versions, give the same file.
        contract: what the file carries; that of the model but for its precision, so of the same identity.
        flavour: of int8, "tensorrt" or "onnxruntime"; empty for fp16.
        num_frames: frames that the trunk's values were measured on.
        flushed_weights: weights that are not zero but too small for float16 (below 2^-25), and so became zero.
        operators: operator name -> how many.
    """

    path: str
    size_bytes: int
    sha256: str
    contract: ModelContract
    flavour: str
    num_frames: int
    flushed_weights: int
    operators: dict[str, int]

    def to_json(self) -> str:
        """One line of JSON, with the contract and its identity as objects."""
        return json.dumps({**asdict(self), "identity": self.contract.identity}, sort_keys=True)


def convert(
    onnx_path: str | Path,
    output_path: str | Path,
    precision: str,
    *,
    calibration: str | Path | Sequence[Frame] | None = None,
    flavour: str = "tensorrt",
    progress: Tell | None = None,
) -> ConversionReport:
    """Write an fp32 network in fp16 or int8. How well the result agrees is for the gate to say.

    Args:
        onnx_path: what `export_onnx` wrote.
        output_path: the file to write; an existing one is replaced in one step. Input and output are as they were:
            uint8 (1, h, w, 3) RGB, float32 (1, D).
        precision: "fp16" or "int8".
        calibration: what `sdk.open_source` opens, or uint8 (H, W, 3) RGB frames, of which up to 256 are taken, evenly
            spread. int8 is fitted to them, so they must show what the robot sees, and never be the frames that it is
            judged on. fp16 is not fitted, only checked: None takes a fixed synthetic set.
        flavour: of int8: "tensorrt", or "onnxruntime" for ONNX Runtime and OpenVINO on x86.
        progress: called with (what, done, total).

    Raises:
        EngineError: a word is unknown, the model cannot be read, is not fp32 or cannot be converted, or the file cannot
            be written, is the model itself or ends like an engine. `output_path` is as before.
        ContractError: the model carries no contract that can be read.
        FrameError: a frame cannot be used, or there is none.
        MapError: `calibration` names nothing that holds frames.
    """
    if precision not in PRECISIONS:
        raise EngineError(f"precision is {precision!r}, expected {' or '.join(PRECISIONS)}; choose one")
    if flavour not in FLAVOURS:
        raise EngineError(f"flavour is {flavour!r}, expected {' or '.join(FLAVOURS)}; choose one")
    if calibration is None and precision == "int8":
        raise EngineError(
            "int8 without calibration frames asked for, expected some 100 frames that show what the robot sees; give a "
            "folder of them"
        )
    check_output(Path(onnx_path), Path(output_path))
    model, contract = read_model(Path(onnx_path))
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
    data = finish(result, contract)
    with replace_when_done(output_path) as temporary:
        temporary.write_bytes(data)
    return ConversionReport(
        path=str(output_path),
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        contract=contract,
        flavour=flavour if precision == "int8" else "",
        num_frames=total,
        flushed_weights=flushed,
        operators=dict(sorted(Counter(node.op_type for node in result.graph.node).items())),
    )


def check_output(model: Path, output: Path) -> None:
    """Raise EngineError if what is to be written would replace the model, or be taken for an engine."""
    remedy = "choose another path, such as model.fp16.onnx"
    if output.suffix in (".engine", ".plan"):
        raise EngineError(f"{output}: ends like a TensorRT engine, expected .onnx for what is written; {remedy}")
    try:
        is_folder = output.is_dir()
        is_model = output.exists() and model.exists() and output.samefile(model)
    except OSError as error:
        raise EngineError(
            f"cannot write {output}: {error.strerror}, expected a name that a file can have; {remedy}"
        ) from None
    if is_folder:
        raise EngineError(f"cannot write {output}: is a folder, expected a file or no file there; {remedy}")
    require_replaceable(output)
    if is_model:
        raise EngineError(
            f"{output}: is the model itself, which the result is judged against, expected a new file; {remedy}"
        )


def read_model(path: Path) -> tuple[onnx.ModelProto, ModelContract]:
    """Read an fp32 network of ours.

    Raises:
        EngineError: missing, not ONNX, or not fp32.
        ContractError: without a contract that can be read.
    """
    remedy = "convert what `structvpr export onnx` wrote"
    try:
        model = onnx.load_from_string(path.read_bytes())
        onnx.checker.check_model(model, full_check=True)
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror}, expected a model.onnx; check the path") from None
    except Exception as error:  # what protobuf and the checker raise shares no base class
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineError(f"{path}: is no valid ONNX model ({first_line}), expected one; {remedy}") from None
    texts = [entry.value for entry in model.metadata_props if entry.key == "contract"]
    if not texts:
        raise ContractError(f"{path}: carries no model contract, expected one in its metadata; {remedy}")
    contract = ModelContract.from_json(texts[0], str(path))
    found = {contract.precision, graph_precision(model)} - {"fp32"}
    if found:
        raise EngineError(f"{path}: is {' and '.join(sorted(found))} already, expected fp32; {remedy}")
    return model, contract


def check_activations(measured: Mapping[str, Statistics]) -> None:
    """Raise EngineError if a value in the trunk comes too near to what float16 holds."""
    for name, found in measured.items():
        greatest = max(-found.least, found.greatest)
        if greatest > MOST_ACTIVATION:
            raise EngineError(
                f"values of {greatest:.0f} found at {name}, expected at most {MOST_ACTIVATION:.0f}, half of "
                "what float16 holds; keep this network in fp32"
            )


def to_half(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """A copy of an fp32 network whose trunk is float16, with a cast wherever a tensor crosses the border.

    Returns:
        The copy, and how many weights became zero.

    Raises:
        EngineError: the graph has no trunk with a head behind it, or a weight is beyond 65504.
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
    """A constant in float16, and how many of its values became zero. Bounds of Clip are cut off at 65504."""
    value = numpy_helper.to_array(tensor)
    if bound:
        value = value.clip(-MOST_HALF, MOST_HALF)
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    if not np.isfinite(half).all():
        raise EngineError(
            f"weight {tensor.name} holds {value.flat[np.abs(value).argmax()]:.3g}, expected at most {MOST_HALF:.0f}, "
            "which is the most that float16 holds; keep this network in fp32"
        )
    return numpy_helper.from_array(half, name), int(((half == 0) & (value != 0)).sum())


def finish(model: onnx.ModelProto, contract: ModelContract) -> bytes:
    """Put the contract into a converted model, check it, and serialise it the same way each time."""
    del model.graph.value_info[:]  # types may have changed; readers infer them
    others = {entry.key: entry.value for entry in model.metadata_props if entry.key != "contract"}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**others, "contract": contract.to_json()})
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise EngineError(
            f"the converted graph is not valid ONNX ({first_line}), expected a valid one; report this with the version "
            "of onnx"
        ) from None
    data: bytes = model.SerializeToString(deterministic=True)
    return data
