"""Hard-negative mining: choose training tuples of a query, a positive and the hardest negatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sdk import DataError
from sdk.arrays import Floats, Indices

from ..datasets.training_set import TrainingSet

__all__ = ["Tuples", "mine", "queries_in_turn"]


@dataclass(frozen=True)
class Tuples:
    """Tuples in training order.

    Attributes:
        query: int64 (n,), into `TrainingSet.queries`.
        positive: int64 (n,), images.
        negatives: int64 (n, J), images.
    """

    query: Indices
    positive: Indices
    negatives: Indices


def queries_in_turn(num_queries: int, start: int, count: int, seed: int, weight: Floats | None = None) -> Indices:
    """Queries `start` to `start + count` of an endless random sequence. Each turn has every query once.

    Args:
        num_queries: > 0.
        start, count: which part of the sequence.
        seed: of the sequence.
        weight: float32 (num_queries,), > 0: draw each turn with replacement in these proportions, see
            `TrainingSet.query_weight`.

    Returns:
        int64 (count,).
    """
    turns = range(start // num_queries, (start + count - 1) // num_queries + 1)
    rows = []
    for turn in turns:
        rng = np.random.default_rng([seed, 0x7175, turn])
        if weight is None:
            rows.append(rng.permutation(num_queries))
        else:
            rows.append(rng.choice(num_queries, num_queries, p=weight / weight.sum(dtype=np.float64)))
    first = start - turns.start * num_queries
    return np.concatenate(rows)[first : first + count].astype(np.int64)


def mine(
    data: TrainingSet,
    queries: Indices,
    describe: Callable[[Indices], Floats],
    *,
    negatives: int,
    pool: int,
    positive: str,
    seed: list[int],
) -> Tuples:
    """Find each query's positive and hardest negatives under the current network.

    Candidates are random images of the query's region that show other places. The hardest are the most similar to the
    query. Negatives outside the margin are kept: they give no gradient, but every run has the same number of passes.

    Args:
        data: the set.
        queries: int64 (n,), into `data.queries`.
        describe: gives the unit descriptors of images.
        negatives: J, per tuple.
        pool: candidate images per region.
        positive: "nearest" or "random".
        seed: of the random draws.

    Raises:
        DataError: a region has too few images of other places.
    """
    rng = np.random.default_rng(seed)
    regions = np.unique(data.region[data.queries[queries]])
    pools = {}
    for region in regions:
        answers = data.database_of(int(region))
        pools[int(region)] = rng.choice(answers, min(pool, len(answers)), replace=False)
    wanted = [data.queries[queries], *pools.values(), *(data.positives[i] for i in queries)]
    images = np.unique(np.concatenate(wanted))
    descriptors = describe(images)
    row = np.full(len(data.images), -1, np.int64)
    row[images] = np.arange(len(images))
    chosen = np.empty(len(queries), np.int64)
    hardest = np.empty((len(queries), negatives), np.int64)
    for place, i in enumerate(queries):
        image = data.queries[i]
        asked = descriptors[row[image]]
        true = data.positives[i]
        if positive == "random":
            chosen[place] = rng.choice(true)
        else:
            chosen[place] = true[np.argmax(descriptors[row[true]] @ asked)]
        others = pools[int(data.region[image])]
        others = others[~np.isin(others, data.near[i]) & (others != image)]
        if len(others) < negatives:
            raise DataError(
                f"{data.name}: query {data.images[image]} has {len(others)} images of other places in its region, "
                f"expected at least {negatives}; lower `negatives`, raise `cache_pool`, or add images"
            )
        similarity = descriptors[row[others]] @ asked
        hardest[place] = others[np.argpartition(-similarity, negatives - 1)[:negatives]]
    return Tuples(queries, chosen, hardest)
