"""Matches that lie apart from each other: different places, not neighbouring frames of one."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import numpy as np
import numpy.typing as npt

from ..answers import Match
from ..errors import MapError
from ..geography import Geography, Position, distance_m
from ..stopwatch import timed
from . import PlaceStore

__all__ = ["keep_apart", "search_apart"]


def search_apart(
    store: PlaceStore,
    descriptor: npt.NDArray[np.float32],
    matches: Sequence[Match],
    k: int,
    apart_m: float,
    timings_ms: MutableMapping[str, float],
) -> list[Match]:
    """Keep the matches that lie apart, and search further back until there are k of them, or no more places.

    Args:
        store: where the matches come from.
        descriptor: float32 (D,), that they were searched by.
        matches: the k most similar places, best first.
        k: matches wanted.
        apart_m: kept matches are farther apart than this, m, >= 0.
        timings_ms: receives the milliseconds of "apart", and those of further searches.

    Raises:
        MapError: a match has no position.
    """
    wanted = k
    while True:
        with timed(timings_ms, "apart"):
            kept = keep_apart(matches, store.geography, apart_m)
        if len(kept) >= k or wanted >= len(store):
            return kept
        wanted *= 4  # neighbouring frames crowd the front
        matches = store.search(descriptor, wanted, timings_ms=timings_ms)


def keep_apart(matches: Sequence[Match], geography: Geography, apart_m: float) -> list[Match]:
    """Drop each match that lies near a better one.

    Args:
        matches: best first.
        geography: what their positions are.
        apart_m: kept matches are farther apart than this, m, >= 0.

    Raises:
        MapError: a match has no position.
    """
    kept: list[tuple[Match, Position | Sequence[float]]] = []
    for match in matches:
        position = match.place.position
        if position is None:
            raise MapError(
                f"apart_m needs positions, and {match.place.label} has none; leave apart_m out, or give every place a "
                "position"
            )
        if all(distance_m(geography, position, better) > apart_m for _, better in kept):
            kept.append((match, position))
    return [match for match, _ in kept]
