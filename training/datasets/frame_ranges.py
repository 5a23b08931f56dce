"""Training sets from traverses with a table of frame ranges, which `sdk.evaluation.ground_truth` reads."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from sdk.evaluation.ground_truth import read_ground_truth
from sdk.geography import expand_ranges

from .hold_out import divide
from .training_set import TrainingSet, set_from_pairs

__all__ = ["read_frame_ranges"]

CAMERA = re.compile(r"_c(\d+)_")  # of names such as img_06111_c0_1303399012582333us_rect.jpg


def read_frame_ranges(
    folder: Path,
    split: str,
    *,
    table: str | None = None,
    database: str | None = None,
    query_sets: tuple[str, ...] | None = None,
    positive_frames: int | None = None,
    trusted_only: bool = True,
    held_out: float = 0.2,
    seed: int = 0,
) -> TrainingSet:
    """Read queries, each with the range of the database that is right for it.

    With a column `camera`, positives are images of the query's camera (`_c0_` in their names). Images of other cameras
    in the range are near.

    Args:
        folder, table, database, query_sets, trusted_only: see `sdk.evaluation.ground_truth.read_ground_truth`.
        split: "all"; "train" and "val" hold out stretches of the route.
        positive_frames: positives are at most so many frames from `db`; the whole range unless given.
        held_out, seed: see `hold_out`.

    Raises:
        DataError: see `read_ground_truth`; or no query has a positive.
    """
    traverses = read_ground_truth(
        folder, table=table, database=database, query_sets=query_sets, trusted_only=trusted_only
    )
    asked = [query for traverse in traverses for query in traverse.queries]
    answers = traverses[0].database
    counterpart, first, last = (
        np.concatenate([getattr(traverse, column) for traverse in traverses])
        for column in ("counterpart", "first", "last")
    )
    row, found = expand_ranges(first, last - first + 1)
    positive = np.ones(len(row), bool)
    if positive_frames is not None:
        positive &= np.abs(found - counterpart[row]) <= positive_frames
    if traverses[0].has_cameras:
        cameras = [CAMERA.search(file.name) for file in (*asked, *answers)]
        number = np.array([int(match[1]) if match else -1 for match in cameras])
        positive &= number[row] == number[len(asked) + found]
    whole = set_from_pairs(
        f"{folder.name} {split}",
        [*asked, *answers],
        row,
        found + len(asked),
        positive,
        queries=np.arange(len(asked)),
        database=np.arange(len(asked), len(asked) + len(answers)),
        root=folder,
        untrusted=sum(traverse.untrusted for traverse in traverses),
    )
    return divide(whole, split, held_out, seed)
