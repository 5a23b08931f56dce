"""Recall at K by exact search.

Publications differ in what counts as right, and so does the recall of one model:

    protocol                     a database image is right if              a query without one
    VPR-methods-evaluation,      it lies within 25 m (UTM, zone ignored)   counts as a miss
      deep-VG, Pitts30k
    MSLS (mapillary_sls)         it lies within 25 m                       is dropped
    Nordland, Patch-NetVLAD      its frame is within 7 of 27,592           has one always
    Nordland, GSV-Cities         its frame is within 1 (2,760 queries)     has one always
    VPR_Tutorial                 the data set's matrix says so             is dropped

So `recall_at_k` computes either share, and a printed figure must say which one it is.

Sources: gmberton/VPR-methods-evaluation, mapillary/mapillary_sls, QVPR/Patch-NetVLAD, amaralibey/gsv-cities,
stschubert/VPR_Tutorial, as they stood in November 2026.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import PlaceIndex
from ..geography import Geography, pairs_within, to_metres

__all__ = ["positives_within_frames", "positives_within_m", "rank", "recall_at_k", "split_rows"]

Indices = npt.NDArray[np.int64]


def rank(queries: npt.NDArray[np.float32], database: npt.NDArray[np.float32], k: int) -> Indices:
    """The k database descriptors nearest to each query, by exact search.

    Args:
        queries: float32 (num_queries, D), unit length.
        database: float32 (n, D), unit length.
        k: number of answers, >= 1.

    Returns:
        int64 (num_queries, min(k, n)): database indices, most similar first, ties by index.

    Raises:
        ValueError: shapes or values that `PlaceIndex` refuses.
    """
    index = PlaceIndex(database.shape[1], precision="float32")  # float16 would add its rounding to the figures
    index.add(np.arange(len(database), dtype=np.int64), database)
    return index.search(queries, k, exact=True)[0]


def recall_at_k(
    ranked: npt.NDArray[Any], positives: Sequence[npt.NDArray[Any]], k: int, *, count_unmatched: bool = False
) -> float:
    """Share of queries that have a true place among their first k answers.

    Args:
        ranked: int64 (num_queries, n), database indices, most similar first, n >= k.
        positives: one int64 array per query. May be empty.
        k: number of answers looked at, >= 1.
        count_unmatched: whether a query without positives counts as a miss; False leaves it out.

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
    queries: npt.ArrayLike,
    database: npt.ArrayLike,
    radius_m: float,
) -> list[Indices]:
    """The database positions within a radius of each query's.

    Args:
        geography: what the positions are, see `distance_m`.
        queries: positions of the queries, float64 (Q, 3).
        database: positions of the database, float64 (M, 3).
        radius_m: inclusive, >= 0. Distances are those of `distance_m`: straight lines, with the altitude.

    Returns:
        One int64 array of database indices per query, ascending.
    """
    asked_m, points_m = (
        to_metres(geography, np.asarray(positions, np.float64).reshape(-1, 3)) for positions in (queries, database)
    )
    pairs = [pair[:2] for pair in pairs_within(asked_m, points_m, radius_m)]
    row, found = np.concatenate([np.zeros((2, 0), np.int64), *pairs], axis=1)
    return split_rows(found, np.bincount(row, minlength=len(asked_m)))


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


def split_rows(values: Indices, counts: npt.NDArray[np.int64]) -> list[Indices]:
    """Cut one array of values into one array for each row.

    Args:
        values: int64 (counts.sum(),), row after row.
        counts: int64 (rows,), values of each row.
    """
    ends = np.cumsum(counts).tolist()
    return [values[first:end] for first, end in zip([0, *ends], ends, strict=False)]
