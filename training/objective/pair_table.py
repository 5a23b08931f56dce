"""Pair table: ranks, group and distillation weight of every pair, computed between the two stages."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sdk import DataError
from sdk.arrays import Floats, Indices
from sdk.atomic_file import replace_when_done

from ..datasets.training_set import TrainingSet
from ..recipe import Recipe
from .ranking import pairs_of, ranks_of_pairs
from .weighting import Group, group_shares, pair_weights, partition, selected

__all__ = ["PairTable", "make_pair_table", "write_pair_table"]

COLUMNS = ("query", "positive", "teacher_rank", "student_rank", "group", "phi")


@dataclass(frozen=True)
class PairTable:
    """All (query, positive) pairs of a set, in the order of `pairs_of`.

    Attributes:
        query: int64 (n,), into `TrainingSet.queries`.
        positive: int64 (n,), images.
        teacher_rank: int64 (n,), x.
        student_rank: int64 (n,), y.
        group: int8 (n,), values of `Group`.
        phi: float32 (n,), weight of the pair's distillation.
    """

    query: Indices
    positive: Indices
    teacher_rank: Indices
    student_rank: Indices
    group: npt.NDArray[np.int8]
    phi: Floats

    def phi_of(self, query: Indices, positive: Indices) -> Floats:
        """Weights of given pairs, float32 (n,); 0 for a pair that is not in the table."""
        order, keys = self._sorted_keys
        wanted = query * (1 + self.positive.max()) + positive
        at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return np.where(keys[at] == wanted, self.phi[order[at]], 0.0).astype(np.float32)

    @functools.cached_property
    def _sorted_keys(self) -> tuple[Indices, Indices]:
        # Cached: every step needs it, and a large set has millions of pairs.
        keys = self.query * (1 + self.positive.max()) + self.positive
        order = np.argsort(keys)
        return order, keys[order]

    @property
    def shares(self) -> dict[str, float]:
        """Percent of the pairs, by group."""
        return group_shares(self.group)


def make_pair_table(
    data: TrainingSet, teacher: Floats, student: Floats, recipe: Recipe, confidence: Floats | None = None
) -> PairTable:
    """Rank every pair under both branches and compute its weight.

    Args:
        data: the set.
        teacher, student: float32 (N, D), unit descriptors of all images under the two branches of stage 1.
        recipe: threshold, selection and form of the weights.
        confidence: float32 (N,), of each image's label map, [0, 1]. With `recipe.confidence_weight`, the confidences of
            both images multiply the weight of a pair.

    Raises:
        DataError: the recipe needs `confidence`, which is None.
    """
    which, positive = pairs_of(data)
    x, y = ranks_of_pairs(data, teacher), ranks_of_pairs(data, student)
    chosen = selected(x, y, recipe.rank_threshold, recipe.pairs)
    phi = chosen.astype(np.float32)
    if recipe.weight_form != "flat":
        phi *= pair_weights(
            x, y, recipe.rank_threshold, form=recipe.weight_form, tau=recipe.weight_tau, most=recipe.most_rank
        )
    if recipe.confidence_weight:
        if confidence is None:
            raise DataError(
                f"{data.name}: its label maps have no confidence, but confidence_weight needs it; make them with "
                "`structvpr train labels` and a network that gives logits"
            )
        phi = phi * confidence[data.queries[which]] * confidence[positive]
    return PairTable(which, positive, x, y, partition(x, y, recipe.rank_threshold), phi.astype(np.float32))


def write_pair_table(path: Path, table: PairTable, data: TrainingSet) -> None:
    """Write the table as CSV with the paths of the images. An existing file is replaced atomically."""
    with replace_when_done(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for i in range(len(table.query)):
            query, positive = data.images[data.queries[table.query[i]]], data.images[table.positive[i]]
            group = Group(int(table.group[i])).name
            ranks = (int(table.teacher_rank[i]), int(table.student_rank[i]))
            writer.writerow((query, positive, *ranks, group, f"{table.phi[i]:.9g}"))
