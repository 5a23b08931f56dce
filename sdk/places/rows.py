"""Places and descriptors as rows of the map's table `places`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._core import l2_normalize
from ..answers import Place
from ..arrays import Descriptors
from ..errors import MapError
from .state import Pair

__all__ = ["COLUMNS", "DescriptorFormat", "place_from", "to_columns"]

COLUMNS = "name, p0, p1, p2, heading_deg, timestamp_s, image, traverse"


class DescriptorFormat:
    """Descriptor blobs of one map: consecutive little-endian values of its dtype."""

    def __init__(self, path: Path, dim: int, dtype: str) -> None:
        """Take the map's path for messages, its D, and "float16" or "float32"."""
        self._path = path
        self._dim = dim
        self._dtype = np.dtype(dtype).newbyteorder("<")

    def encode(self, descriptors: Descriptors) -> list[bytes]:
        """Encode float32 (n, D) or (D,) descriptors of unit length.

        Raises:
            MapError: the shape or dtype differs, or a length is not 1.
        """
        rows = np.atleast_2d(np.asarray(descriptors))
        if rows.ndim != 2 or rows.shape[1] != self._dim or rows.dtype != np.float32:
            raise MapError(f"descriptors are {rows.dtype} {rows.shape}, expected float32 (n, {self._dim})")
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
        bad = np.flatnonzero(~(np.abs(lengths - 1) < 1e-3))
        if len(bad):
            raise MapError(f"descriptor {bad[0]} has length {lengths[bad[0]]:.4g}, expected 1; normalise it")
        return [row.tobytes() for row in rows.astype(self._dtype)]

    def decode(self, pairs: Sequence[Pair]) -> Descriptors:
        """Decode blobs: float32 (n, D), normalised again after the rounding.

        Raises:
            MapError: a descriptor has the wrong length, or is zero or not finite.
        """
        expected = self._dim * self._dtype.itemsize
        for place_id, blob in pairs:
            if not isinstance(blob, bytes) or len(blob) != expected:
                size = len(blob) if isinstance(blob, bytes) else 0
                raise MapError(
                    f"{self._path}: the descriptor of place {place_id} has {size} bytes, expected {expected}; "
                    "restore the map from a copy"
                )
        stored = np.frombuffer(b"".join(blob for _, blob in pairs), self._dtype)
        rows = stored.reshape(len(pairs), self._dim).astype(np.float32)  # (n, D)
        if len(rows) == 0:
            return rows
        try:
            return l2_normalize(rows)
        except ValueError as error:
            first, last = pairs[0][0], pairs[-1][0]
            raise MapError(
                f"{self._path}: a descriptor of places {first} to {last} is damaged ({error}); restore the map "
                "from a copy"
            ) from None


def to_columns(place: Place) -> tuple[Any, ...]:
    """The values of COLUMNS.

    Raises:
        MapError: a text of the place is not Unicode, such as a file name in another encoding.
    """
    for what in ("name", "image", "traverse"):
        value = getattr(place, what)
        try:
            value.encode()
        except (AttributeError, UnicodeEncodeError):
            raise MapError(f"place {place.name!r}: its {what} is {value!r}, expected Unicode text") from None
    position = place.position or (None, None, None)
    return (place.name, *position, place.heading_deg, place.timestamp_s, place.image, place.traverse)


def place_from(row: tuple[Any, ...]) -> Place:
    """The place of a row (id, *COLUMNS)."""
    place_id, name, p0, p1, p2, heading_deg, timestamp_s, image, traverse = row
    position = None if p0 is None or p1 is None else (p0, p1, p2 or 0.0)
    return Place(name, position, heading_deg, timestamp_s, image, traverse, place_id)
