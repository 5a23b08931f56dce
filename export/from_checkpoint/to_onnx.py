"""Exports a checkpoint to the ONNX file that every device runs.

    frame            input, uint8 (1, h, w, 3) RGB, as `sdk.prepare` makes it
    raw_descriptor   output, float32 (1, D); the kernel does the final L2 normalisation

The file uses what TensorRT 8.5 (JetPack 5) and later read: opset 17, IR version 8, static shapes, one file, and no
reduction with its axes as an input except ReduceSum. `graph.rules` checks this for each release.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator

from sdk import DataError, EngineError, ModelContract, open_source, prepare
from training.networks.checkpoint import load_checkpoint
from training.networks.descriptor_net import DeployedNet

from ..graph.model_file import WrittenModel, serialize, write_model
from ..graph.rules import TARGETS, Finding, check_graph
from ..graph.synthetic_frames import Frame, synthetic_frames
from .agreement import Agreement, verify

__all__ = ["ExportReport", "export_onnx"]

MAX_FRAMES = 32
OPSET = 17  # the newest that TensorRT 8.5 and 8.6 read; from 18 on they misread ReduceMean
IR_VERSION = 8


@dataclass(frozen=True)
class ExportReport(WrittenModel):
    """What was written and how well it agrees with the checkpoint.

    Attributes:
        agreement: of the file with PyTorch.
        simplified: whether the graph is onnxsim's.
        note: why it is not; empty if it is.
        targets: the TensorRT releases, of `graph.rules.TARGETS`, that accept the graph by our rules.
        findings: why the others refuse it, and what a build must do for those that accept it.
    """

    agreement: Agreement
    simplified: bool
    note: str
    targets: tuple[str, ...]
    findings: tuple[Finding, ...]


def export_onnx(
    checkpoint_path: str | Path,
    onnx_path: str | Path,
    frames: str | Path | Sequence[Frame] | None = None,
    simplify: bool = True,
) -> ExportReport:
    """Export a checkpoint, and write the file only if its descriptors agree with PyTorch's.

    onnxsim's graph is used if it agrees. Otherwise the exporter's own graph is verified and written, and the report's
    note says why. After an error, `onnx_path` is unchanged.

    Args:
        checkpoint_path: file of `training.networks.checkpoint.save_checkpoint`.
        onnx_path: file to write; an existing one is replaced in one step.
        frames: frames to verify on: a folder or a video (its first 32 frames), or uint8 (H, W, 3) RGB arrays; None for
            `synthetic_frames`.
        simplify: try onnxsim.

    Raises:
        EngineError: the checkpoint cannot be read, the graph disagrees with PyTorch, or no TensorRT accepts it.
        ContractError: the checkpoint's parts do not belong together.
        FrameError: a frame cannot be read.
        DataError: `frames` holds no frames.
        WriteError: the file cannot be written.
    """
    net, contract = load_checkpoint(checkpoint_path)
    if frames is None:
        frames = synthetic_frames()
    elif isinstance(frames, (str, Path)):
        source = open_source(frames, positions=False)
        frames = [sighting.frame for sighting in islice(source, MAX_FRAMES)]
    if len(frames) == 0:
        raise DataError("there are no frames to verify on; give at least one, or frames=None for synthetic ones")
    inputs = [prepare(frame, contract.size) for frame in frames]  # each (1, h, w, 3)
    deployed = DeployedNet(net, contract).eval()
    with torch.no_grad():
        expected = [deployed(torch.from_numpy(frame)).numpy() for frame in inputs]  # each (1, D)

    def checked(model: onnx.ModelProto) -> tuple[bytes, dict[str, Any]]:
        data = finish(model, contract)
        agreement = verify(data, inputs, expected)
        targets, findings = accepted_by(data)
        return data, {"agreement": agreement, "targets": targets, "findings": findings}

    plain = trace(deployed, contract)
    note = "" if simplify else "onnxsim was switched off"
    if simplify:
        try:
            data, facts = checked(simplified(plain))
        except EngineError as error:
            note = f"onnxsim's graph was rejected: {error}"
    if note:
        data, facts = checked(plain)
    return ExportReport(**vars(write_model(data, onnx_path, contract)), **facts, simplified=not note, note=note)


def trace(deployed: DeployedNet, contract: ModelContract) -> onnx.ModelProto:
    """PyTorch's own export, before any simplification."""
    frame = torch.zeros((1, contract.height, contract.width, 3), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The TorchScript exporter is deprecated, but the newer one cannot write opset 17. Its other warnings are about
        # padding recorded as constants, which is intended: shapes are static.
        warnings.simplefilter("ignore")
        path = Path(folder) / "plain.onnx"
        torch.onnx.export(
            deployed,
            (frame,),
            str(path),
            input_names=["frame"],
            output_names=["raw_descriptor"],
            opset_version=OPSET,
            dynamo=False,
        )
        return onnx.load(path)


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Simplify a graph with onnxsim.

    Raises:
        EngineError: onnxsim failed, or reports that its result differs.
    """
    import onnxsim

    try:
        result, same = onnxsim.simplify(model)
    except Exception as error:  # a C++ tool that documents no errors; its result is optional
        raise EngineError(f"onnxsim failed with {type(error).__name__}") from None
    if not same:
        raise EngineError("onnxsim reports that its result differs")
    proto: onnx.ModelProto = result
    return proto


def accepted_by(data: bytes) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """The TensorRT releases that accept a graph, and all findings of the rules.

    Raises:
        EngineError: no release accepts it.
    """
    findings = tuple(check_graph(onnx.load_from_string(data)))
    refusals = {finding.target: finding for finding in reversed(findings) if finding.refused}  # the first of each
    if len(refusals) == len(TARGETS):
        raise EngineError(
            f"the exported graph is one that no TensorRT takes ({refusals[TARGETS[-1]]}); report this with the "
            "versions of torch and onnxsim"
        )
    return tuple(name for name in TARGETS if name not in refusals), findings


def fold_constants(graph: onnx.GraphProto) -> None:
    """Replace all nodes that do not depend on the frame by initializers.

    PyTorch computes asymmetric padding by a chain of operators, which hides that shapes are static. It writes the
    bounds of Clip as Constant nodes, but TensorRT 8.5 needs initializers.
    """
    fixed = {tensor.name for tensor in graph.initializer}
    nodes = []
    for node in graph.node:  # in topological order
        if all(not name or name in fixed for name in node.input):
            fixed.update(node.output)
            nodes.append(node)
    made = {name for node in nodes for name in node.output}
    for node in nodes:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    wanted = sorted(made & used)
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in wanted]
    constants = onnx.helper.make_graph(nodes, "constants", [], outputs, graph.initializer)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    values = ReferenceEvaluator(onnx.helper.make_model(constants, opset_imports=opset)).run(None, {})
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    kept += [onnx.numpy_helper.from_array(np.asarray(v), name) for v, name in zip(values, wanted, strict=True)]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def finish(model: onnx.ModelProto, contract: ModelContract) -> bytes:
    """Fold constants, fix the shapes, name the producer, and serialise."""
    model.ir_version = IR_VERSION
    model.producer_name = "structvpr"
    model.producer_version = f"torch {torch.__version__.split('+')[0]}"
    model.graph.name = "structvpr"
    del model.metadata_props[:]
    fold_constants(model.graph)
    shape = model.graph.output[0].type.tensor_type.shape  # may be symbolic
    for axis, size in enumerate((1, contract.descriptor_dim)):
        shape.dim[axis].dim_value = size
    return serialize(model, contract, "torch, onnx and onnxsim")
