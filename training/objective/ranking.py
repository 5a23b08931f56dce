"""Ranks of positive pairs in a training set, and recall."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from sdk.arrays import Floats, Indices

from ..datasets.training_set import TrainingSet

__all__ = ["first_right_ranks", "pairs_of", "ranks_of_pairs", "recall_percent"]

BLOCK = 512  # queries whose similarities are in memory at once
FEW = 32  # up to this many positives per query, counting is faster than sorting


def pairs_of(data: TrainingSet) -> tuple[Indices, Indices]:
    """All (query, positive) pairs: int64 (n,) into `data.queries`, and int64 (n,) images."""
    which = np.repeat(np.arange(len(data.queries)), [len(p) for p in data.positives])
    return which.astype(np.int64), np.concatenate(data.positives).astype(np.int64)


def ranks_of_pairs(data: TrainingSet, descriptors: Floats) -> Indices:
    """Rank of each pair's positive for its query, counted from 1, in the order of `pairs_of`.

    A positive is ranked among the database images of the query's region that show other places. Other positives do not
    count (reconstruction). Ties count against the positive, so a network with constant descriptors is always wrong.

    Args:
        data: the set.
        descriptors: float32 (len(data.images), D), unit rows.
    """
    ranks: list[Indices] = [np.empty(0, np.int64)] * len(data.queries)
    for which, answers, similarity in _similarities(data, descriptors):
        column = np.full(len(data.images), -1, np.int64)
        column[answers] = np.arange(len(answers))
        for row, i in zip(similarity, which, strict=True):
            true = row[column[data.positives[i]]].copy()
            row[column[data.near[i]]] = -np.inf
            if column[data.queries[i]] >= 0:
                row[column[data.queries[i]]] = -np.inf
            # The number of other images that are at least as similar.
            if len(true) <= FEW:
                ranks[i] = 1 + (row >= true[:, None]).sum(axis=1)
            else:
                others = np.sort(row)
                ranks[i] = 1 + len(others) - np.searchsorted(others, true, side="left")
    return np.concatenate(ranks)


def first_right_ranks(data: TrainingSet, descriptors: Floats) -> Indices:
    """Rank of each query's first right answer in its region, counted from 1: int64 (Q,).

    All of `data.near` is right. Ties count against the answer, as in `ranks_of_pairs`.
    """
    ranks = np.empty(len(data.queries), np.int64)
    for which, answers, similarity in _similarities(data, descriptors):
        column = np.full(len(data.images), -1, np.int64)
        column[answers] = np.arange(len(answers))
        for row, i in zip(similarity, which, strict=True):
            near = column[data.near[i]]
            best = row[near].max()
            row[near] = -np.inf
            if column[data.queries[i]] >= 0:
                row[column[data.queries[i]]] = -np.inf
            ranks[i] = 1 + int((row >= best).sum())
    return ranks


def recall_percent(ranks: Indices, values: Sequence[int] = (1, 5, 10, 20)) -> dict[str, float]:
    """Recall in percent, by "R@K", from `first_right_ranks`."""
    return {f"R@{k}": 100.0 * float((ranks <= k).mean()) for k in values}


def _similarities(data: TrainingSet, descriptors: Floats) -> Iterator[tuple[Indices, Indices, Floats]]:
    """Iterate over blocks of queries: the queries, their region's database images, and the cosines (b, m)."""
    region_of_query = data.region[data.queries]
    for region in np.unique(region_of_query):
        answers = data.database_of(int(region))
        database = torch.from_numpy(np.ascontiguousarray(descriptors[answers]))
        asked = np.flatnonzero(region_of_query == region)
        for first in range(0, len(asked), BLOCK):
            which = asked[first : first + BLOCK]
            queries = torch.from_numpy(np.ascontiguousarray(descriptors[data.queries[which]]))
            yield which, answers, (queries @ database.T).numpy()
