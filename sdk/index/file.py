"""The index file beside a map: where it lies, and what it says about the map that it was derived from."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal, cast

import numpy as np

from .._core import IndexFileError, PlaceIndex
from ..places.database import MapState
from ..places.map_reader import MapReader

__all__ = ["WAYS", "index_path", "load_index", "method_of", "new_index", "reason", "save_index"]

STAMP = struct.Struct("<16sQQ")  # digest, count, losses: the index file's 32 bytes of state

# What the ways through a `PlaceIndex` are called in words.
WAYS = {"scan": "exact scan", "sketch": "scan of sketches", "graph": "graph"}


def index_path(map_path: Path) -> Path:
    """Where a map's index lies: `campus.places` has `campus.places.index` beside it."""
    return map_path.with_name(map_path.name + ".index")


def new_index(place_map: MapReader) -> PlaceIndex:
    """An empty index for a map's descriptors, as precise as the map is."""
    return PlaceIndex(place_map.contract.descriptor_dim, precision=_precision(place_map))


def load_index(place_map: MapReader) -> tuple[PlaceIndex, MapState, int]:
    """Open the index file of a map: the index, the map's state when it was derived, and the losses up to then.

    Raises:
        IndexFileError: it is missing, damaged, of another model or precision.
    """
    path = index_path(place_map.file)
    index, stamp = PlaceIndex.load(
        str(path), dim=place_map.contract.descriptor_dim, contract=bytes.fromhex(place_map.contract.identity)
    )
    if index.precision != place_map.descriptor_dtype:
        raise IndexFileError(f"{path}: holds {index.precision} descriptors, expected {place_map.descriptor_dtype}")
    digest, count, losses = STAMP.unpack(stamp)
    return index, MapState(int.from_bytes(digest, "little"), count), losses


def save_index(index: PlaceIndex, place_map: MapReader, state: MapState, losses: int) -> None:
    """Write the index file of a map; see `PlaceIndex.save` for what it raises."""
    stamp = STAMP.pack(state.digest.to_bytes(16, "little"), state.count, losses)
    contract = bytes.fromhex(place_map.contract.identity)
    index.save(str(index_path(place_map.file)), contract=contract, state=stamp)


def reason(error: Exception, place_map: MapReader) -> str:
    """What is wrong with the index file, without its name."""
    return f"its index {error}".replace(f"{index_path(place_map.file)}: ", "")


def method_of(index: PlaceIndex, k: int = 5) -> str:
    """The way that a search for k places takes, a key of `WAYS`. Raises as `PlaceIndex.explain` does."""
    anywhere = np.eye(1, index.dim, dtype=np.float32)[0]  # (D,)
    return str(index.explain(anywhere, k)["method"])


def _precision(place_map: MapReader) -> Literal["float16", "float32"]:
    return cast(Literal["float16", "float32"], place_map.descriptor_dtype)
