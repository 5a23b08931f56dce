"""The index file beside a map: its path, reading and writing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import numpy as np

from .._core import IndexFileError, PlaceIndex
from ..places.place_map import PlaceMap
from .stamp import IndexStamp

__all__ = ["WAYS", "index_path", "load_index", "method_of", "new_index", "reason", "save_index"]

# The search methods of a `PlaceIndex`, in words.
WAYS = {"scan": "exact scan", "sketch": "scan of sketches", "graph": "graph"}


def index_path(map_path: Path) -> Path:
    """The index of a map: `campus.places` has `campus.places.index` beside it."""
    return map_path.with_name(map_path.name + ".index")


def new_index(place_map: PlaceMap) -> PlaceIndex:
    """An empty index with the D and the precision of a map."""
    return PlaceIndex(place_map.contract.descriptor_dim, precision=_precision(place_map))


def load_index(place_map: PlaceMap) -> tuple[PlaceIndex, IndexStamp]:
    """Open the index file of a map.

    Raises:
        IndexFileError: it is missing or damaged, or has another model or precision.
    """
    path = index_path(place_map.file)
    index, stamp = PlaceIndex.load(
        str(path), dim=place_map.contract.descriptor_dim, contract=bytes.fromhex(place_map.contract.identity)
    )
    if index.precision != place_map.descriptor_dtype:
        raise IndexFileError(f"{path}: holds {index.precision} descriptors, expected {place_map.descriptor_dtype}")
    return index, IndexStamp.from_bytes(stamp)


def save_index(index: PlaceIndex, place_map: PlaceMap, stamp: IndexStamp) -> None:
    """Write the index file of a map; see `PlaceIndex.save` for what it raises."""
    contract = bytes.fromhex(place_map.contract.identity)
    index.save(str(index_path(place_map.file)), contract=contract, state=stamp.to_bytes())


def reason(error: Exception, place_map: PlaceMap) -> str:
    """The error of an index file, without the file's name."""
    return f"its index {error}".replace(f"{index_path(place_map.file)}: ", "")


def method_of(index: PlaceIndex, k: int = 5) -> str:
    """The method of a search for k places, a key of `WAYS`. Raises as `PlaceIndex.explain` does."""
    anywhere = np.eye(1, index.dim, dtype=np.float32)[0]  # (D,)
    return str(index.explain(anywhere, k)["method"])


def _precision(place_map: PlaceMap) -> Literal["float16", "float32"]:
    return cast(Literal["float16", "float32"], place_map.descriptor_dtype)
