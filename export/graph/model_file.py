"""Reads ONNX models with their checks, and writes them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

from sdk import ContractError, EngineError, ModelContract, UsageError
from sdk.atomic_file import replace_when_done, require_replaceable, writing
from sdk.backends.onnx_file import contract_in, match_ports
from sdk.errors import first_line

from .tensors import type_name
from .value_types import graph_precision

__all__ = ["WrittenModel", "read_model", "require_new", "serialize", "write_model"]


def read_model(path: Path) -> tuple[bytes, onnx.ModelProto, ModelContract]:
    """Read a model, and check that its graph is valid and is what its contract says.

    Returns:
        The file's bytes, the graph and the contract.

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
    match_ports(path, contract, _ports(model.graph.input), _ports(model.graph.output), "uint8", "float")
    precision = graph_precision(model)
    if precision != contract.precision:
        raise ContractError(
            f"{path}: has a graph in {precision}, expected {contract.precision} by its contract; make it again with "
            "`structvpr export precision`"
        )
    return data, model, contract


def _ports(values: Iterable[onnx.ValueInfoProto]) -> list[tuple[str, str, list[object]]]:
    types = [(value.name, value.type.tensor_type) for value in values]
    return [(name, type_name(kind.elem_type), [size.dim_value for size in kind.shape.dim]) for name, kind in types]


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


@dataclass(frozen=True)
class WrittenModel:
    """A file that was written.

    Attributes:
        path: of the file.
        size_bytes: of the file.
        sha256: of the file, 64 hex digits. The same inputs and tool versions give the same file.
        contract: in the file's metadata, under "contract".
        operators: operator name -> count.
    """

    path: str
    size_bytes: int
    sha256: str
    contract: ModelContract
    operators: dict[str, int]

    def to_json(self) -> str:
        """One line of JSON, with the contract and its identity as objects."""
        return json.dumps({**asdict(self), "identity": self.contract.identity}, sort_keys=True)


def write_model(data: bytes, path: str | Path, contract: ModelContract) -> WrittenModel:
    """Write a serialised model in one step.

    Raises:
        WriteError: the file cannot be written.
    """
    with replace_when_done(path) as temporary:
        temporary.write_bytes(data)
    operators = Counter(node.op_type for node in onnx.load_from_string(data).graph.node)
    digest = hashlib.sha256(data).hexdigest()
    return WrittenModel(str(path), len(data), digest, contract, dict(sorted(operators.items())))


def require_new(path: Path, kept: Path, what: str = "the model itself") -> None:
    """Refuse, before the work, a path that cannot be written or that is a file to keep.

    Raises:
        UsageError: `path` is `kept`, which the message calls `what`.
        WriteError: `path` is no file, or its name cannot be used.
    """
    with writing(path):
        same = path.exists() and kept.exists() and path.samefile(kept)
    if same:
        raise UsageError(f"{path}: is {what}, which would be replaced; choose another path")
    require_replaceable(path)
