"""ONNX files of ours: reading one with its checks, and serialising one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import onnx

from sdk import ContractError, EngineError, ModelContract
from sdk.backends.onnx_file import contract_in, require_ports
from sdk.errors import first_line

from .tensors import type_name
from .value_types import graph_precision

__all__ = ["ModelFile", "read_model", "serialize"]


class ModelFile(NamedTuple):
    """A model.onnx: its bytes, its graph and its contract."""

    data: bytes
    graph: onnx.ModelProto
    contract: ModelContract


def read_model(path: Path) -> ModelFile:
    """Read a model, and check that its graph is valid and is what its contract says.

    Raises:
        EngineError: the file is missing, or is not valid ONNX.
        ContractError: it has no readable contract, or its ports or its precision differ from the contract.
    """
    reason = "it is no ONNX"
    try:
        data = path.read_bytes()
        model = onnx.load_model_from_string(data)
        reason = "its graph is not valid"
        onnx.checker.check_model(model, full_check=True)
        for weight in model.graph.initializer:
            onnx.TensorProto.DataType.Name(weight.data_type)  # the checker accepts unknown types
    except Exception as error:  # protobuf and the checker raise kinds that share no base class
        reason = getattr(error, "strerror", None) or f"{reason}: {first_line(error)}"
        raise EngineError(f"{path}: cannot be read ({reason}); make one with `structvpr export onnx`") from None
    contract = contract_in(path, next((entry.value for entry in model.metadata_props if entry.key == "contract"), None))
    takes, gives = (
        [
            (type_name(port.type.tensor_type.elem_type), [d.dim_value for d in port.type.tensor_type.shape.dim])
            for port in ports
        ]
        for ports in (model.graph.input, model.graph.output)
    )
    require_ports(path, contract, takes, gives, "uint8", "float")
    precision = graph_precision(model)
    if precision != contract.precision:
        raise ContractError(
            f"{path}: has a graph in {precision}, expected {contract.precision} by its contract; make it again with "
            "`structvpr export precision`"
        )
    return ModelFile(data, model, contract)


def serialize(model: onnx.ModelProto, contract: ModelContract, tools: str) -> bytes:
    """Put the contract into a model, check the model and serialise it. Equal models give equal bytes.

    Args:
        model: to be written; changed in place.
        contract: of the model.
        tools: packages that made the graph, for the message.

    Raises:
        EngineError: the graph is not valid ONNX.
    """
    del model.graph.value_info[:]  # may be out of date; readers infer them
    others = {entry.key: entry.value for entry in model.metadata_props if entry.key != "contract"}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**others, "contract": contract.to_json()})
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EngineError(
            f"the new graph is not valid ONNX ({first_line(error)}); report this with the versions of {tools}"
        ) from None
    data: bytes = model.SerializeToString(deterministic=True)
    return data
