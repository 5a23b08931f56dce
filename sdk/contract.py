"""The model contract: what training, export and the device agree on. It travels in every artefact."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from .errors import ContractError

__all__ = ["RAW_DESCRIPTOR", "FeatureMap", "ModelContract"]

SCHEMA = 2
FIRST_SCHEMA = 1  # without feature maps; structvpr 0.1.0 reads it too
RAW_DESCRIPTOR = "raw_descriptor"  # the output of every network
IDENTITY = ("weights", "height", "width", "descriptor_dim", "mean", "std", "colour", "resize")
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class FeatureMap:
    """An additional output of the network: one vector per cell of a grid over the frame.

    Attributes:
        name: name of the output, such as "feature_map".
        height: rows of the grid.
        width: columns of the grid.
        depth: length of a cell's vector.
        stride_px: distance between cells, in pixels of the network's input.

    Raises:
        ContractError: a value is out of its range.
    """

    name: str
    height: int
    width: int
    depth: int
    stride_px: int

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.isidentifier() and self.name != RAW_DESCRIPTOR):
            raise ContractError(f"model contract: output name is {self.name!r}, expected an identifier")
        for field in ("height", "width", "depth", "stride_px"):
            if not (_is_whole(value := getattr(self, field)) and 1 <= value <= 65536):
                raise ContractError(
                    f"model contract: {field} of {self.name} is {value!r}, expected a whole number, 1 to 65536"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, depth)."""
        return self.height, self.width, self.depth


@dataclass(frozen=True)
class ModelContract:
    """The network that makes a descriptor, and the input that it needs.

    Two descriptors are comparable if and only if their contracts have the same `identity`: the same weights and the
    same preprocessing. `name`, `precision` and `feature_maps` are not part of the identity.

    Attributes:
        name: name of the model, for people.
        weights: sha256 (64 hex digits) over the sorted (name, dtype, shape, little-endian bytes) of the
            exported branch's float32 tensors.
        height: rows of the network's input, px.
        width: columns of the network's input, px.
        descriptor_dim: D, length of the descriptor.
        mean: subtracted from each channel inside the graph, in pixel values (0 to 255), RGB order.
        std: divisor of each channel inside the graph, in pixel values, > 0, RGB order.
        colour: order of the input channels; always "rgb".
        resize: filter that stretches a frame to (height, width); always "area".
        precision: arithmetic of this artefact: "fp32", "fp16" or "int8".
        schema: version of this record: 1 without feature maps, 2 with them.
        feature_maps: the outputs beside `raw_descriptor`.

    Raises:
        ContractError: a value is out of its range.
    """

    name: str
    weights: str
    height: int
    width: int
    descriptor_dim: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    colour: str = "rgb"
    resize: str = "area"
    precision: str = "fp32"
    schema: int = FIRST_SCHEMA
    feature_maps: tuple[FeatureMap, ...] = ()

    def __post_init__(self) -> None:
        def require(ok: bool, field: str, expected: str) -> None:
            if not ok:
                raise ContractError(
                    f"model contract: {field} is {getattr(self, field)!r}, expected {expected}; "
                    "export the model again with `structvpr export onnx`"
                )

        require(_is_whole(self.schema) and self.schema >= 1, "schema", "a whole number >= 1")
        if self.schema > SCHEMA:
            raise ContractError(
                f"model contract: schema version {self.schema} found, this structvpr reads up to "
                f"{SCHEMA}; update structvpr"
            )
        require(isinstance(self.name, str) and self.name.isprintable() and bool(self.name), "name", "a printable text")
        require(
            isinstance(self.weights, str) and re.fullmatch("[0-9a-f]{64}", self.weights) is not None,
            "weights",
            "64 lower-case hex digits",
        )
        for field in ("height", "width"):
            value = getattr(self, field)
            require(_is_whole(value) and 32 <= value <= 4096, field, "a whole number, 32 to 4096 px")
        require(
            _is_whole(self.descriptor_dim) and 1 <= self.descriptor_dim <= 65536,
            "descriptor_dim",
            "a whole number, 1 to 65536",
        )
        for field in ("mean", "std"):
            triple = getattr(self, field)
            require(
                isinstance(triple, tuple)
                and len(triple) == 3
                and all((_is_whole(v) or isinstance(v, float)) and 0 <= v <= 255 for v in triple),
                field,
                "three pixel values, 0 to 255",
            )
        require(all(v > 0 for v in self.std), "std", "three pixel values > 0")
        require(self.colour == "rgb", "colour", "'rgb'")
        require(self.resize == "area", "resize", "'area'")
        require(self.precision in PRECISIONS, "precision", " or ".join(map(repr, PRECISIONS)))
        require(
            isinstance(self.feature_maps, tuple)
            and all(isinstance(each, FeatureMap) for each in self.feature_maps)
            and len({each.name for each in self.feature_maps}) == len(self.feature_maps),
            "feature_maps",
            "feature maps of different names",
        )
        object.__setattr__(self, "schema", SCHEMA if self.feature_maps else FIRST_SCHEMA)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input, px, for `sdk.prepare`."""
        return self.height, self.width

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each output by name, without the batch axis; `raw_descriptor` (D,) comes first."""
        return {RAW_DESCRIPTOR: (self.descriptor_dim,), **{each.name: each.shape for each in self.feature_maps}}

    @property
    def identity(self) -> str:
        """sha256 (64 hex digits) of everything that a descriptor's values depend on."""
        # Fields are listed by name: a field of a later schema must not change the identity of today's models.
        record: dict[str, Any] = {name: getattr(self, name) for name in IDENTITY}
        for field in ("mean", "std"):
            record[field] = [float(value) for value in record[field]]
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

    def to_record(self) -> dict[str, Any]:
        """Plain values for JSON. Without feature maps, structvpr 0.1.0 reads and writes the same."""
        record = asdict(self)
        if not self.feature_maps:
            del record["feature_maps"]
        return record

    def to_json(self) -> str:
        """The contract as one line of JSON with sorted keys."""
        return json.dumps(self.to_record(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, found_in: str) -> ModelContract:
        """Read the output of `to_json`.

        Args:
            text: the JSON.
            found_in: the artefact that holds the JSON, for the message.

        Raises:
            ContractError: not JSON, a field is missing or unknown, a value is out of range, or the schema is newer than
                this library.
        """
        remedy = "export it again with `structvpr export onnx`"
        try:
            record: Any = json.loads(text)
        except (ValueError, RecursionError):
            raise ContractError(f"{found_in}: its model contract is not JSON; {remedy}") from None
        if not isinstance(record, dict):
            raise ContractError(
                f"{found_in}: its model contract is a {type(record).__name__}, expected an object; {remedy}"
            )
        schema = record.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise ContractError(
                f"{found_in}: its model contract has schema version {schema}, this structvpr reads up to "
                f"{SCHEMA}; update structvpr"
            )
        known = {field.name for field in fields(cls)} - ({"feature_maps"} if schema != SCHEMA else set())
        if record.keys() != known:
            missing, extra = sorted(known - record.keys()), sorted(record.keys() - known)
            found = [f"lacks {missing}"] * bool(missing) + [f"has the unknown {extra}"] * bool(extra)
            raise ContractError(
                f"{found_in}: its model contract {' and '.join(found)}, expected the fields of schema "
                f"version {SCHEMA if schema == SCHEMA else FIRST_SCHEMA}; {remedy}"
            )
        for field in ("mean", "std"):
            if isinstance(record[field], list):
                record[field] = tuple(record[field])
        try:
            if schema == SCHEMA:
                record["feature_maps"] = tuple(FeatureMap(**each) for each in record["feature_maps"])
            return cls(**record)
        except ContractError as error:
            raise ContractError(f"{found_in}: {error}") from None
        except TypeError:
            raise ContractError(f"{found_in}: its model contract has damaged feature maps; {remedy}") from None


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
