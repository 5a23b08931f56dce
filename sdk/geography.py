"""Positions and the metres between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .arrays import Indices
from .errors import MapError, UsageError

__all__ = [
    "Geography",
    "Position",
    "as_position",
    "distance_m",
    "expand_ranges",
    "pairs_within",
    "require_same_geography",
    "to_metres",
]

Geography = Literal["local", "wgs84"]
Position = tuple[float, float, float]

EQUATOR_M = 6_378_137.0
FLATTENING = 1.0 / 298.257223563
SQUARED_ECCENTRICITY = FLATTENING * (2.0 - FLATTENING)

MAX_CANDIDATES = 1 << 22  # pairs whose distances are in memory at once
MAX_CELLS = 1 << 19  # along an axis, so that a cell's number fits into 63 bits in three dimensions


def as_position(values: Any) -> Position:
    """Check a position and fill in its third value.

    Args:
        values: (x, y[, z]) in metres or (latitude deg, longitude deg[, altitude m]). A missing third value is 0.

    Raises:
        UsageError: a value is not a finite number, or there are not two or three of them.
    """
    listed = [values] if isinstance(values, (str, bytes)) or not isinstance(values, Iterable) else list(values)
    numbers = []
    for value in listed:
        try:
            numbers.append(float(value))
        except (TypeError, ValueError):
            numbers.append(math.nan)
        if not math.isfinite(numbers[-1]):
            raise UsageError(f"position has the value {value!r}, expected a finite number")
    if len(numbers) not in (2, 3):
        raise UsageError(
            f"position has {len(numbers)} values; pass (x, y[, z]) in metres or (latitude, longitude[, altitude])"
        )
    return numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else 0.0


def require_same_geography(given: Geography | None, declared: Geography, location: str) -> None:
    """Refuse positions of another kind than a map's. None has no positions.

    Args:
        given: kind of the positions.
        declared: kind of the map's positions.
        location: of the map, for the message.

    Raises:
        MapError: the kinds differ.
    """
    if given is not None and given != declared:
        raise MapError(
            f"the positions are {given}, expected {declared} as {location} declares; make a map of its own for them"
        )


def to_metres(geography: Geography, positions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Positions as points whose straight distances are metres.

    "local" positions stay as they are. WGS-84 positions become metres from the Earth's centre, on the WGS-84
    ellipsoid. Between two such points of equal altitude the straight distance is shorter than the way on the ground by
    1 part in a million at 30 km and 1 in 10,000 at 300 km. This holds across UTM zones, the date line and the poles.

    Args:
        geography: what the positions are.
        positions: float64 (N, 3): x, y, z in metres, or latitude deg, longitude deg, altitude m.

    Returns:
        float64 (N, 3).

    Source: NIMA TR8350.2, WGS 84: ellipsoid, and geodetic to Cartesian coordinates.
    """
    if geography == "local":
        return positions
    latitude, longitude = np.radians(positions[:, 0]), np.radians(positions[:, 1])
    altitude_m = positions[:, 2]
    normal_m = EQUATOR_M / np.sqrt(1.0 - SQUARED_ECCENTRICITY * np.sin(latitude) ** 2)
    return np.column_stack(
        [
            (normal_m + altitude_m) * np.cos(latitude) * np.cos(longitude),
            (normal_m + altitude_m) * np.cos(latitude) * np.sin(longitude),
            (normal_m * (1.0 - SQUARED_ECCENTRICITY) + altitude_m) * np.sin(latitude),
        ]
    )


def distance_m(geography: Geography, a: Sequence[float], b: Sequence[float]) -> float:
    """Metres between two positions of one map, in a straight line.

    Args:
        geography: "local" takes (x, y, z) in metres, "wgs84" (latitude deg, longitude deg, altitude m).
        a: one position.
        b: the other.

    Returns:
        Distance, >= 0. `to_metres` says how accurate it is.
    """
    one, other = to_metres(geography, np.array([a, b], np.float64))
    return math.dist(one, other)


def pairs_within(
    asked_m: npt.NDArray[np.float64], points_m: npt.NDArray[np.float64], radius_m: float
) -> Iterator[tuple[Indices, Indices, npt.NDArray[np.float64]]]:
    """All pairs no farther apart than a radius. Time grows with the number of pairs found.

    Points are sorted into cells of the radius' size, and only neighbouring cells are compared.

    Args:
        asked_m: float64 (Q, d), finite, d = 2 or 3.
        points_m: float64 (M, d), finite.
        radius_m: inclusive, >= 0.

    Yields:
        For consecutive blocks of the asked: which one asks, int64 (n,), ascending; which point is found, int64 (n,),
        ascending for each that asks; how far apart they are, float64 (n,).
    """
    if len(asked_m) == 0 or len(points_m) == 0:
        return
    low, span = points_m.min(axis=0), np.ptp(points_m, axis=0)
    # A little wider than the radius, so that rounding never puts two points that are a radius apart two cells apart.
    cell_m = np.maximum(max(radius_m, 1e-9) * (1.0 + 1e-6), span / MAX_CELLS)  # (d,)
    last = np.floor(span / cell_m).astype(np.int64)
    padded = last + 5  # two cells to either side, so that a step over the edge meets none of the points
    stride = np.concatenate([[1], np.cumprod(padded[:-1])])

    # (M, d) -> (M,)
    key = (np.floor((points_m - low) / cell_m).astype(np.int64) + 2) @ stride
    order = np.argsort(key, kind="stable")
    key = key[order]
    # (Q, d) -> (Q,)
    home = (np.clip(np.floor((asked_m - low) / cell_m), -2, last + 2).astype(np.int64) + 2) @ stride
    # Three cells in a row of the first axis are consecutive keys, so one range. The other axes give 3 or 9 of them.
    steps = np.array([0])
    for axis_stride in stride[1:]:
        steps = (steps[:, None] + np.array([-1, 0, 1]) * axis_stride).ravel()
    first = np.stack([np.searchsorted(key, home + step - 1, "left") for step in steps], axis=1)  # (Q, 3 or 9)
    end = np.stack([np.searchsorted(key, home + step + 1, "right") for step in steps], axis=1)

    candidates = np.cumsum((end - first).sum(axis=1))
    start = 0
    while start < len(asked_m):
        before = candidates[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(candidates, before + MAX_CANDIDATES, "right")))
        of_range, found = expand_ranges(first[start:stop].ravel(), (end - first)[start:stop].ravel())
        row, found = start + of_range // len(steps), order[found]
        apart_m = np.sqrt(np.square(asked_m[row] - points_m[found]).sum(axis=1))
        kept = apart_m <= radius_m
        row, found, apart_m = row[kept], found[kept], apart_m[kept]
        by_row = np.lexsort((found, row))
        yield row[by_row], found[by_row], apart_m[by_row]
        start = stop


def expand_ranges(first: Indices, count: Indices) -> tuple[Indices, Indices]:
    """Write out ranges of numbers: (range that a number is of, number), both int64 (count.sum(),)."""
    of_range = np.repeat(np.arange(len(first), dtype=np.int64), count)
    offset = np.arange(len(of_range), dtype=np.int64) - np.repeat(np.cumsum(count) - count, count)
    return of_range, first[of_range] + offset
