"""Measuring the recall of a network on sets of places."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .._core import PlaceIndex
from ..describer import Describer
from ..errors import FrameError, UsageError
from ..frames.image_file import read_image
from .recall import recall_at_k
from .sets import PlaceSet

__all__ = ["ProtocolRecall", "SetRecall", "measure_recall"]

Progress = Callable[[str, int, int], object]
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ProtocolRecall:
    """Recall under one protocol.

    Attributes:
        right: what counts as right, such as "25 m".
        queries: number of queries.
        matched: number of queries that have a true place.
        recall_all: by "R@K": recall in [0, 1], where a query without a true place is a miss.
        recall_matched: the same over the matched queries alone; None if there are none.
    """

    right: str
    queries: int
    matched: int
    recall_all: Mapping[str, float]
    recall_matched: Mapping[str, float | None]


@dataclass(frozen=True)
class SetRecall:
    """Recall of a network on one set, and what a query costs.

    Attributes:
        queries: name of the set.
        database: number of images of the database.
        untrusted: see `PlaceSet`.
        protocols: one for each protocol of the set.
        describe_ms: median time to describe a decoded query.
        search_ms: median time of an exact search.
    """

    queries: str
    database: int
    untrusted: int
    protocols: Sequence[ProtocolRecall]
    describe_ms: float
    search_ms: float


def measure_recall(
    describer: Describer, sets: Sequence[PlaceSet], ks: Sequence[int], progress: Progress | None = None
) -> list[SetRecall]:
    """Describe queries and database, search exactly, and count.

    Args:
        describer: of the network.
        sets: with a database each; one that several sets share is described once.
        ks: the K of R@K, >= 1. Those above the size of a database are left out.
        progress: called with (what, done, total).

    Raises:
        FrameError: an image cannot be read or described; the message names it.
        UsageError: every K is above the size of a database.
    """
    described: dict[int, Rows] = {}
    results = []
    for one in sets:
        files = one.database or ()
        if not any(k <= len(files) for k in ks):
            raise UsageError(f"no K of {list(ks)} is at most {len(files)}, the database's size; ask for a smaller K")
        if id(files) not in described:
            described[id(files)], _ = _describe(describer, files, "database", progress)
        queries, describe_ms = _describe(describer, one.queries, one.name, progress)
        results.append(_recall(one, described[id(files)], queries, describe_ms, sorted(ks)))
    return results


def _describe(
    describer: Describer, files: Sequence[Path], what: str, progress: Progress | None
) -> tuple[Rows, list[float]]:
    """Descriptors of image files, float32 (n, D), and milliseconds of each without the decoding."""
    rows, times_ms = [], []
    for done, path in enumerate(files, start=1):
        frame = read_image(path)
        started = time.perf_counter()
        try:
            rows.append(describer.describe(frame).descriptor)
        except FrameError as error:
            raise FrameError(f"{path}: {error}") from None
        times_ms.append((time.perf_counter() - started) * 1e3)
        if progress is not None:
            progress(what, done, len(files))
    return np.stack(rows), times_ms


def _recall(one: PlaceSet, database: Rows, queries: Rows, describe_ms: Sequence[float], ks: Sequence[int]) -> SetRecall:
    index = PlaceIndex(database.shape[1], precision="float32")  # float16 would add its rounding to the figures
    index.add(np.arange(len(database)), database)
    ranked, search_ms = [], []
    for row in queries:  # one by one, as a robot asks
        started = time.perf_counter()
        ranked.append(index.search(row, max(ks), exact=True)[0])
        search_ms.append((time.perf_counter() - started) * 1e3)
    answers = np.stack(ranked)
    counted = [k for k in ks if k <= len(database)]
    protocols = []
    for right, positives in one.protocols.items():
        matched = sum(len(true) > 0 for true in positives)
        protocols.append(
            ProtocolRecall(
                right,
                len(positives),
                matched,
                {f"R@{k}": recall_at_k(answers, positives, k, count_unmatched=True) for k in counted},
                # None instead of nan, which JSON does not have
                {f"R@{k}": recall_at_k(answers, positives, k) if matched else None for k in counted},
            )
        )
    times_ms = (statistics.median(describe_ms), statistics.median(search_ms))
    return SetRecall(one.name, len(database), one.untrusted, protocols, *times_ms)
