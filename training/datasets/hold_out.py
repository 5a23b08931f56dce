"""Dividing a set by holding out places for validation, and joining several sets into one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sdk import DataError, UsageError
from sdk.arrays import Indices

from .training_set import TrainingSet

__all__ = ["divide", "hold_out", "join_sets"]

DIVISIONS = ("all", "train", "val")


def divide(training_set: TrainingSet, split: str, held_out: float, seed: int) -> TrainingSet:
    """One part of a data set that has no split of its own: "all", or one of the two that `hold_out` makes.

    Raises:
        UsageError: `split` is another one, or an option is out of range.
        DataError: the set cannot be divided.
    """
    if split not in DIVISIONS:
        raise UsageError(f"{training_set.name}: split is {split!r}, expected one of {', '.join(DIVISIONS)}")
    if split == "all":
        return training_set
    return hold_out(training_set, held_out, seed)[DIVISIONS.index(split) - 1]


def hold_out(training_set: TrainingSet, share: float = 0.2, seed: int = 0) -> tuple[TrainingSet, TrainingSet]:
    """Divide a set so that no place of the second part is seen in the first.

    Queries that share near images, directly or through others, form a group. If there are several groups, such as
    named places or towns, whole groups are held out. A group larger than the share, such as a road, is cut into
    stretches of ground (or of the database's order, if positions are not known). Few long stretches are held out rather
    than many short ones, because every cut costs the queries beside it.

    Args:
        training_set: the set to divide.
        share: approximate share of the queries to hold out, in (0, 1).
        seed: of the choice among groups and stretches, >= 0.

    Returns:
        The set to train with and the set to validate with. The first lacks all images near a held-out query, and the
        queries that need them. The second keeps the whole database, whose images of training distract there.

    Raises:
        UsageError: `share` or `seed` is out of range.
        DataError: one part would be without queries.
    """
    if not 0.0 < share < 1.0:
        raise UsageError(f"{training_set.name}: share is {share:g}, expected more than 0 and less than 1")
    if seed < 0:
        raise UsageError(f"{training_set.name}: seed is {seed}, expected 0 or more")
    queries, count = training_set.queries, len(training_set.queries)
    near_of = np.repeat(np.arange(count), [len(near) for near in training_set.near])
    near = np.concatenate(training_set.near)
    group = _components(len(training_set.images), queries[near_of], near)[queries]
    block = _cut(group, _coordinates(training_set), share * count)

    sizes = np.bincount(block)
    drawn = np.random.default_rng(seed).permutation(len(sizes))
    beyond = np.cumsum(sizes[drawn]) - sizes[drawn] / 2 > share * count  # nearer to the share without this one
    val = np.isin(block, drawn[: max(1, int(np.count_nonzero(~beyond)))])

    held = np.zeros(len(training_set.images), bool)
    held[queries[val]] = True
    held[near[val[near_of]]] = True
    touched = np.bincount(near_of[held[near]], minlength=count) > 0
    train = ~val & ~touched & ~held[queries]
    if not train.any() or not val.any():
        raise DataError(
            f"{training_set.name}: cannot be divided, because its {count} queries show only {len(sizes)} separate "
            "places or stretches; add places, or give a validation set of its own"
        )
    everything = np.ones(len(training_set.images), bool)
    return (
        _restrict(training_set, f"{training_set.name} (train)", train, ~held),
        _restrict(training_set, f"{training_set.name} (held out)", val, everything),
    )


def join_sets(sets: Sequence[TrainingSet]) -> TrainingSet:
    """Join sets to train with. Images follow set by set, and regions stay apart.

    Find the label maps of each set before joining, and join them in the same order. Each query keeps its weight; a set
    without weights gets 1. Positions are dropped, because each set has its own coordinate frame.

    Raises:
        UsageError: there is none.
    """
    if not sets:
        raise UsageError("no data set was named; name at least one")
    if len(sets) == 1:
        return sets[0]
    first = np.cumsum([0, *(len(one.images) for one in sets)])
    regions: list[npt.NDArray[np.int32]] = []
    for one in sets:
        next_region = 1 + max((int(region.max()) for region in regions), default=-1)
        regions.append((np.unique(one.region, return_inverse=True)[1] + next_region).astype(np.int32))
    weighted = any(one.query_weight is not None for one in sets)
    return TrainingSet(
        name=" + ".join(one.name for one in sets),
        images=tuple(image for one in sets for image in one.images),
        queries=np.concatenate([one.queries + start for one, start in zip(sets, first, strict=False)]),
        database=np.concatenate([one.database + start for one, start in zip(sets, first, strict=False)]),
        positives=tuple(some + start for one, start in zip(sets, first, strict=False) for some in one.positives),
        near=tuple(some + start for one, start in zip(sets, first, strict=False) for some in one.near),
        region=np.concatenate(regions),
        query_weight=np.concatenate([_weights(one) for one in sets]) if weighted else None,
        unmatched=sum(one.unmatched for one in sets),
        untrusted=sum(one.untrusted for one in sets),
    )


def _weights(training_set: TrainingSet) -> npt.NDArray[np.float32]:
    if training_set.query_weight is None:
        return np.ones(len(training_set.queries), np.float32)
    return training_set.query_weight


def _components(count: int, one: Indices, other: Indices) -> Indices:
    """For each node the smallest node that it is linked with, directly or through others, int64 (count,)."""
    label = np.arange(count, dtype=np.int64)
    while True:
        low, high = np.minimum(label[one], label[other]), np.maximum(label[one], label[other])
        if np.array_equal(low, high):
            return label
        np.minimum.at(label, high, low)  # labels are nodes too: hang the higher tree on the lower
        while not np.array_equal(label[label], label):
            label = label[label]


def _coordinates(training_set: TrainingSet) -> npt.NDArray[np.float64]:
    """Coordinates of queries, float64 (Q, d): on the ground if known, else in the order of the database."""
    if training_set.positions_m is not None:
        return training_set.positions_m[training_set.queries]
    return np.array([[near.mean()] for near in training_set.near])


def _cut(group: Indices, coordinates: npt.NDArray[np.float64], wanted: float) -> Indices:
    """Number the groups from 0. A group of more than `wanted` queries is cut across its longest side."""
    block = np.empty(len(group), np.int64)
    order = np.argsort(group, kind="stable")
    number = 0
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        parts = [members]
        if len(members) > max(1.0, wanted):
            axis = np.ptp(coordinates[members], axis=0).argmax()
            along = members[np.argsort(coordinates[members, axis], kind="stable")]
            parts = np.array_split(along, min(len(members), max(2, round(len(members) / wanted))))
        for part in parts:
            block[part] = number
            number += 1
    return block


def _restrict(
    training_set: TrainingSet, name: str, rows: npt.NDArray[np.bool_], answers: npt.NDArray[np.bool_]
) -> TrainingSet:
    """Keep some of the queries, the images that may be answers, and no other image."""
    kept = np.flatnonzero(rows)
    database = training_set.database[answers[training_set.database]]
    used = np.zeros(len(training_set.images), bool)
    used[database] = used[training_set.queries[kept]] = True
    number = np.cumsum(used) - 1
    positions_m, weight = training_set.positions_m, training_set.query_weight
    return TrainingSet(
        name=name,
        images=tuple(training_set.images[i] for i in np.flatnonzero(used)),
        queries=number[training_set.queries[kept]],
        database=number[database],
        positives=tuple(number[training_set.positives[i]] for i in kept),
        near=tuple(number[training_set.near[i]] for i in kept),
        region=training_set.region[used],
        root=training_set.root,
        positions_m=None if positions_m is None else positions_m[used],
        query_weight=None if weight is None else weight[kept],
    )
