"""Matches that are different places, and not neighbouring frames of one place."""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence

import numpy as np

from ..answers import Match
from ..arrays import Descriptors
from ..errors import MapError
from ..geography import Geography, to_metres
from ..stopwatch import timed
from . import PlaceStore

__all__ = ["keep_apart", "search_apart"]


def search_apart(
    store: PlaceStore,
    descriptor: Descriptors,
    matches: Sequence[Match],
    k: int,
    apart_m: float,
    timings_ms: MutableMapping[str, float],
) -> list[Match]:
    """Keep the matches that lie apart. Search for more until there are k, or no more places.

    Args:
        store: the store of the matches.
        descriptor: float32 (D,), the query.
        matches: the k most similar places, best first.
        k: number of matches wanted.
        apart_m: kept matches are farther apart than this, m, >= 0.
        timings_ms: receives the milliseconds of "apart" and of further searches.

    Raises:
        MapError: a match has no position.
    """
    wanted = k
    while True:
        with timed(timings_ms, "apart"):
            kept = keep_apart(matches, store.geography, apart_m)
        if len(kept) >= k or wanted >= len(store):
            return kept
        wanted *= 4  # the best matches are often neighbouring frames
        matches = store.search(descriptor, wanted, timings_ms=timings_ms)


def keep_apart(matches: Sequence[Match], geography: Geography, apart_m: float) -> list[Match]:
    """Drop each match that lies near a better one.

    Args:
        matches: best first.
        geography: kind of their positions.
        apart_m: kept matches are farther apart than this, m, >= 0.

    Raises:
        MapError: a match has no position.
    """
    for match in matches:
        if match.place.position is None:
            raise MapError(
                f"apart_m needs positions, and {match.place.label} has none; leave apart_m out, or give every place a "
                "position"
            )
    positions = np.array([match.place.position for match in matches], np.float64).reshape(-1, 3)
    kept: list[Match] = []
    kept_points: list[list[float]] = []
    for match, point in zip(matches, to_metres(geography, positions).tolist(), strict=True):
        if all(math.dist(point, better) > apart_m for better in kept_points):
            kept.append(match)
            kept_points.append(point)
    return kept
