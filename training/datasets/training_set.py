"""The training view of a set of places: images, which of them ask, and which show the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sdk import DataError, UsageError
from sdk.arrays import Indices
from sdk.evaluation.recall import split_rows
from sdk.geography import expand_ranges, pairs_within

__all__ = ["TrainingSet", "set_from_pairs", "set_from_places", "set_from_positions", "summary"]

BLOCK = 1 << 16  # queries whose places are checked at once


@dataclass(frozen=True)
class TrainingSet:
    """Queries, the database that they are searched in, and which of it shows the same place.

    One image may be a query and in the database; it is never its own positive.

    Attributes:
        name: for messages, e.g. "msls train".
        images: image files.
        queries: int64 (Q,), which of `images` ask.
        database: int64 (M,), which of `images` may be answers.
        positives: per query, int64 (n,), n >= 1: images of the database that training pulls towards it.
        near: per query, int64 (m,): images of the database that show its place, or may. They include its positives, are
            never negatives, and count as right in evaluation.
        region: int32 (len(images),), such as a city. A query is searched only among images of its region.
        root: folder that holds the images; label maps have the same tree.
        positions_m: float64 (len(images), 2 or 3), for dividing a set by geography; None if not known.
        query_weight: float32 (Q,), > 0: how often a query is drawn, relative to others; None if equally often.
        unmatched: number of queries of the data set that are left out because no image shows their place. Some
            protocols count them as misses (Pitts30k), others do not (MSLS).
        untrusted: number of queries left out because the data set does not trust their ground truth.

    Raises:
        DataError: the parts contradict each other, or no query has a positive.
    """

    name: str
    images: tuple[Path, ...]
    queries: Indices
    database: Indices
    positives: tuple[Indices, ...]
    near: tuple[Indices, ...]
    region: npt.NDArray[np.int32]
    root: Path | None = None
    positions_m: npt.NDArray[np.float64] | None = None
    query_weight: npt.NDArray[np.float32] | None = None
    unmatched: int = 0
    untrusted: int = 0

    def __post_init__(self) -> None:
        if len(self.queries) == 0:
            raise DataError(
                f"{self.name}: {len(self.images)} images and no query that has a positive; add images of the same "
                "places, or widen the radius of positives"
            )
        per_image = {len(column) for column in (self.images, self.region, self.positions_m) if column is not None}
        per_query = (self.queries, self.positives, self.near, self.query_weight)
        if len(per_image) > 1 or len({len(column) for column in per_query if column is not None}) > 1:
            raise DataError(f"{self.name}: its columns have different lengths; make the set with one of the readers")
        in_database = np.zeros(len(self.images), bool)
        in_database[self.database] = True
        for first in range(0, len(self.queries), BLOCK):
            self._check_block(slice(first, first + BLOCK), in_database)

    def _check_block(self, block: slice, in_database: npt.NDArray[np.bool_]) -> None:
        queries = self.queries[block]
        near_of, near = _flatten(self.near[block])
        positive_of, positives = _flatten(self.positives[block])
        count = len(self.images)
        # One sorted column of (query, image) to look pairs up in.
        known = np.sort(near_of * count + near)
        pairs = positive_of * count + positives
        place = np.minimum(np.searchsorted(known, pairs), max(len(known) - 1, 0))
        bad = np.bincount(positive_of, minlength=len(queries)) == 0
        bad[positive_of[known[place] != pairs] if len(known) else positive_of] = True
        if bad.any():
            raise DataError(
                f"{self.name}: query {self.images[queries[bad.argmax()]]} has no positive, or one that is not near; "
                "make the set with one of the readers"
            )
        asker = queries[near_of]
        bad[near_of[(near == asker) | ~in_database[near] | (self.region[near] != self.region[asker])]] = True
        if bad.any():
            raise DataError(
                f"{self.name}: query {self.images[queries[bad.argmax()]]} counts itself, an image of another region or "
                "one that is not in the database as its place; make the set with one of the readers"
            )

    def database_of(self, region: int) -> Indices:
        """The images of the database that lie in one region, int64."""
        there: Indices = self.database[self.region[self.database] == region]
        return there


def set_from_positions(
    name: str,
    images: Sequence[Path],
    positions_m: npt.NDArray[np.float64],
    *,
    queries: Indices,
    database: Indices,
    positive_radius_m: float = 10.0,
    near_radius_m: float = 25.0,
    region: npt.NDArray[np.int32] | None = None,
    heading_deg: npt.NDArray[np.float64] | None = None,
    most_turned_deg: float = 180.0,
    root: Path | None = None,
) -> TrainingSet:
    """Make a set whose positives are what is near. Queries that have none are left out.

    Args:
        name: for messages.
        images: image files.
        positions_m: float64 (N, 2) or (N, 3), metres in one frame per region.
        queries: int64 (Q,), which images ask.
        database: int64 (M,), which images answer.
        positive_radius_m: radius of positives. MSLS: 10 m.
        near_radius_m: radius of `TrainingSet.near`. MSLS: 25 m.
        region: int32 (N,); all are in one unless given.
        heading_deg: float64 (N,), viewing directions; nan where unknown, which fits any.
        most_turned_deg: largest difference of a positive's heading from the query's.
        root: see `TrainingSet`.

    Raises:
        DataError: no query has a positive, a file is its own, or a position is not finite.
        UsageError: a radius or an angle is out of range.

    Source: Warburg et al., Mapillary Street-Level Sequences (CVPR 2020): 10 m for training's positives, 25 m for
    evaluation and for what may not be a negative.
    """
    if not 0.0 < positive_radius_m <= near_radius_m:
        raise UsageError(
            f"{name}: radii are {positive_radius_m:g} m and {near_radius_m:g} m, expected 0 < positives <= near"
        )
    if not most_turned_deg >= 0.0:  # nan too
        raise UsageError(f"{name}: most_turned_deg is {most_turned_deg:g}, expected degrees >= 0")
    if not np.isfinite(positions_m[np.concatenate([queries, database])]).all():
        raise DataError(f"{name}: a position is not a finite number; correct it")
    regions = np.zeros(len(images), np.int32) if region is None else region
    rows, found, positive = [], [], []
    for number in np.unique(regions[queries]):
        asked = np.flatnonzero(regions[queries] == number)
        answers = np.unique(database[regions[database] == number])
        for row, column, apart_m in pairs_within(positions_m[queries[asked]], positions_m[answers], near_radius_m):
            query, answer = queries[asked[row]], answers[column]
            fits = apart_m <= positive_radius_m
            if heading_deg is not None:
                turned = np.abs((heading_deg[answer] - heading_deg[query] + 180.0) % 360.0 - 180.0)
                fits &= ~(turned > most_turned_deg)  # nan is kept
            other = answer != query
            rows.append(asked[row[other]])
            found.append(answer[other])
            positive.append(fits[other])
    return set_from_pairs(
        name,
        images,
        np.concatenate([np.zeros(0, np.int64), *rows]),
        np.concatenate([np.zeros(0, np.int64), *found]),
        np.concatenate([np.zeros(0, np.bool_), *positive]),
        queries=queries,
        database=database,
        region=regions,
        root=root,
        positions_m=positions_m,
    )


def set_from_places(
    name: str,
    images: Sequence[Path],
    place: npt.NDArray[np.int64],
    *,
    queries: Indices | None = None,
    database: Indices | None = None,
    region: npt.NDArray[np.int32] | None = None,
    root: Path | None = None,
) -> TrainingSet:
    """Make a set whose positives are the images of the same named place.

    Args:
        place: int64 (N,), a number per place. Equal numbers in different regions are different places.
        queries, database: which images ask and answer; all unless given.
        name, images, region, root: see `set_from_positions`.

    Raises:
        DataError: no place has two images.
    """
    every = np.arange(len(images), dtype=np.int64)
    queries = every if queries is None else queries
    database = every if database is None else np.unique(database)
    regions = np.zeros(len(images), np.int32) if region is None else region
    # A number for each (region, place): they start anew in each city.
    both = np.unique(np.stack([regions.astype(np.int64), place], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    order = database[np.argsort(both[database], kind="stable")]
    first = np.searchsorted(both[order], both[queries], "left")
    row, found = expand_ranges(first, np.searchsorted(both[order], both[queries], "right") - first)
    found = order[found]
    other = found != queries[row]
    return set_from_pairs(
        name,
        images,
        row[other],
        found[other],
        np.ones(int(other.sum()), np.bool_),
        queries=queries,
        database=database,
        region=regions,
        root=root,
    )


def set_from_pairs(
    name: str,
    images: Sequence[Path],
    row: Indices,
    found: Indices,
    positive: npt.NDArray[np.bool_],
    *,
    queries: Indices,
    database: Indices,
    region: npt.NDArray[np.int32] | None = None,
    root: Path | None = None,
    positions_m: npt.NDArray[np.float64] | None = None,
    untrusted: int = 0,
) -> TrainingSet:
    """Make a set from a list of pairs. Queries that have no positive are left out.

    Args:
        row: int64 (n,), the query of each pair, as an index into `queries`.
        found: int64 (n,), the image of the database that shows the query's place, or may.
        positive: bool (n,), whether that image is a positive.
        name, images, queries, database, region: see `set_from_positions`.
        root, positions_m, untrusted: see `TrainingSet`.

    Raises:
        DataError: no query has a positive, or one file would be its own under two numbers.
    """
    asker = np.asarray(queries, np.int64)[row]
    number: dict[Path, int] = {}
    files = np.fromiter((number.setdefault(image, len(number)) for image in images), np.int64, len(images))
    if (twice := (files[asker] == files[found]) & (asker != found)).any():
        raise DataError(
            f"{name}: {images[asker[twice.argmax()]]} is listed twice and would be its own positive; remove one row, "
            "or name another folder"
        )
    order = np.lexsort((found, row))
    row, found, positive = row[order], found[order], positive[order]
    matched = np.bincount(row[positive], minlength=len(queries)) > 0
    near = split_rows(found, np.bincount(row, minlength=len(queries)))
    positives = split_rows(found[positive], np.bincount(row[positive], minlength=len(queries)))
    kept = np.flatnonzero(matched)
    return TrainingSet(
        name=name,
        images=tuple(images),
        queries=np.asarray(queries, np.int64)[kept],
        database=np.unique(np.asarray(database, np.int64)),
        positives=tuple(positives[i] for i in kept),
        near=tuple(near[i] for i in kept),
        region=np.zeros(len(images), np.int32) if region is None else np.asarray(region, np.int32),
        root=root,
        positions_m=positions_m,
        unmatched=int(len(queries) - len(kept)),
        untrusted=untrusted,
    )


def summary(training_set: TrainingSet) -> dict[str, str | int | float]:
    """Counts of a set, and the medians of positives and of near images per query, for printing and for JSON."""
    return {
        "name": training_set.name,
        "images": len(training_set.images),
        "queries": len(training_set.queries),
        "queries_without_positive": training_set.unmatched,
        "queries_not_trusted": training_set.untrusted,
        "database": len(training_set.database),
        "positives_per_query": float(np.median([len(positives) for positives in training_set.positives])),
        "near_per_query": float(np.median([len(near) for near in training_set.near])),
        "regions": len(np.unique(training_set.region)),
    }


def _flatten(lists: Sequence[Indices]) -> tuple[Indices, Indices]:
    """(which list, value) of all values, both int64."""
    counts = np.fromiter(map(len, lists), np.int64, len(lists))
    return np.repeat(np.arange(len(lists)), counts), np.concatenate([np.zeros(0, np.int64), *lists])
