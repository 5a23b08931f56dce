"""Recall at K, by exact search, under protocols that are stated.

What counts as right differs between publications, and so do the numbers of one model:

    protocol                     a database image is right if              a query without one
    VPR-methods-evaluation,      it lies within 25 m (UTM, zone ignored)   counts as a miss
      deep-VG, Pitts30k
    MSLS (mapillary_sls)         it lies within 25 m                       is dropped
    Nordland, Patch-NetVLAD      its frame is within 7 of 27,592           has one always
    Nordland, GSV-Cities         its frame is within 1 (2,760 queries)     has one always
    VPR_Tutorial                 the data set's matrix says so             is dropped

So this module returns both shares, and whoever prints one says which.

Sources: gmberton/VPR-methods-evaluation, mapillary/mapillary_sls, QVPR/Patch-NetVLAD, amaralibey/gsv-cities,
stschubert/VPR_Tutorial, as they stood in November 2026.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import PlaceIndex
from ..geography import Geography, distance_m

__all__ = ["positives_within_frames", "positives_within_m", "rank", "recall_at_k"]

Indices = npt.NDArray[np.int64]


def rank(queries: npt.NDArray[np.float32], database: npt.NDArray[np.float32], k: int) -> Indices:
    """The k database descriptors nearest to each query, by exact search.

    Args:
        queries: float32 (num_queries, D), unit length.
        database: float32 (n, D), unit length.
        k: answers wanted, >= 1.

    Returns:
        int64 (num_queries, min(k, n)): database indices, most similar first, ties by index.

    Raises:
        ValueError: shapes or values that `PlaceIndex` refuses.
    """
    index = PlaceIndex(database.shape[1], precision="float32")  # recall of the network's figures, not of rounded ones
    index.add(np.arange(len(database), dtype=np.int64), database)
    return index.search(queries, k, exact=True)[0]


def recall_at_k(
    ranked: npt.NDArray[Any], positives: Sequence[npt.NDArray[Any]], k: int, *, count_unmatched: bool = False
) -> float:
    """Share of queries that have a true place among their first k answers.

    Args:
        ranked: int64 (num_queries, n), database indices, most similar first, n >= k.
        positives: one int64 array per query. May be empty.
        k: answers looked at, >= 1.
        count_unmatched: count a query without positives as a miss, instead of leaving it out.

    Returns:
        Recall in [0, 1]; nan if no query is left to count.

    Raises:
        ValueError: `ranked` has fewer than k columns, or not one row per entry of `positives`.

    Source: Arandjelovic et al., NetVLAD (CVPR 2016), evaluation methodology.
    """
    if ranked.ndim != 2 or not 1 <= k <= ranked.shape[1] or len(ranked) != len(positives):
        raise ValueError(
            f"ranked has shape {ranked.shape}, expected ({len(positives)}, n) with n >= k = {k} >= 1; search for more"
        )
    hits = [np.isin(answers[:k], true).any() for answers, true in zip(ranked, positives, strict=True)]
    counted = [hit for hit, true in zip(hits, positives, strict=True) if count_unmatched or len(true)]
    return float(np.mean(counted)) if counted else float("nan")


def positives_within_m(
    geography: Geography,
    queries: Sequence[Sequence[float]],
    database: Sequence[Sequence[float]],
    radius_m: float,
) -> list[Indices]:
    """The database positions within a radius of each query's.

    Args:
        geography: what the positions are, see `Place`.
        queries: positions asked about.
        database: positions of the map.
        radius_m: inclusive, in metres.

    Returns:
        One int64 array of database indices per query, ascending.
    """
    if geography == "local":
        points = np.asarray(database, dtype=np.float64).reshape(-1, 3)
        return [
            np.flatnonzero(np.linalg.norm(points - np.asarray(query, dtype=np.float64), axis=1) <= radius_m)
            for query in queries
        ]
    return [
        np.array([i for i, place in enumerate(database) if distance_m(geography, query, place) <= radius_m], np.int64)
        for query in queries
    ]


def positives_within_frames(counterparts: Sequence[int | None], num_database: int, tolerance: int) -> list[Indices]:
    """The database frames within a number of frames of each query's exact counterpart.

    Args:
        counterparts: the database index that shows the query's place, None if none does.
        num_database: frames in the database, which are in the order of the route.
        tolerance: frames to either side, inclusive, >= 0.

    Returns:
        One int64 array of database indices per query, ascending.
    """
    return [
        np.arange(max(0, true - tolerance), min(num_database, true + tolerance + 1), dtype=np.int64)
        if true is not None
        else np.array([], np.int64)
        for true in counterparts
    ]
