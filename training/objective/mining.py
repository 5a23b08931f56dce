"""Which tuples to train on next: a query, a positive, and the negatives that are hardest now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sdk import MapError

from ..datasets.training_set import Indices, TrainingSet

__all__ = ["Tuples", "mine", "queries_in_turn"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tuples:
    """Tuples in the order in which they are trained.

    Attributes:
        query: int64 (n,), into `TrainingSet.queries`.
        positive: int64 (n,), images.
        negatives: int64 (n, J), images.
    """

    query: Indices
    positive: Indices
    negatives: Indices


def queries_in_turn(
    num_queries: int, start: int, count: int, seed: int, weight: npt.NDArray[np.float32] | None = None
) -> Indices:
    """Queries `start` to `start + count` of an endless drawing: every query once, then every one again.

    Args:
        num_queries: > 0.
        start, count: which of the endless row.
        seed: of the drawing.
        weight: float32 (num_queries,), > 0: how often each is drawn relative to others, with replacement; see
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
    """Find each query's positive and hardest negatives as the network sees them now.

    Negatives are sought among random images of the query's region that do not show its place: the hardest are those
    most similar to the query. They need not violate the margin; one that does not costs an image pass and gives no
    gradient, so that the budget of every run is the same.

    Args:
        data: the set.
        queries: int64 (n,), into `data.queries`.
        describe: images to unit descriptors.
        negatives: of each tuple, J.
        pool: images of each region among which they are sought.
        positive: "nearest" or "random".
        seed: of what is random here.

    Raises:
        MapError: a region has too few images that show another place than a query's.
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
            raise MapError(
                f"{data.name}: query {data.images[image]} has {len(others)} images of other places in its region, "
                f"expected at least {negatives}; lower `negatives`, raise `cache_pool`, or add images"
            )
        similarity = descriptors[row[others]] @ asked
        hardest[place] = others[np.argpartition(-similarity, negatives - 1)[:negatives]]
    return Tuples(queries, chosen, hardest)
