"""Sets to measure recall on: queries, the database that they are searched in, and the true places of each query."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..frames.deep_vg import read_names
from ..frames.folder import ImageSource, list_images
from ..frames.open import open_source
from ..frames.places_csv import PLACES_CSV
from ..geography import Geography, Position, expand_ranges
from .ground_truth import read_ground_truth
from .recall import positives_within_frames, positives_within_m, split_rows

__all__ = ["OWN_RULE", "PlaceSet", "find_dataset", "read_frame_sets", "read_position_set"]

Indices = npt.NDArray[np.int64]

DATA_VARIABLE = "STRUCTVPR_DATA"
OWN_RULE = "the set's own"


@dataclass(frozen=True)
class PlaceSet:
    """Queries against a database, with the true places of each query under one or more protocols.

    Attributes:
        name: of the traverse of queries.
        queries: image files.
        database: image files; the same object for all sets that share it. None: each query is searched among the
            other queries.
        protocols: by what counts as right ("±1 frames", "25 m"): one int64 array of database indices per query,
            ascending, which may be empty. No protocols: true places are not known.
        untrusted: number of queries left out because the data set does not trust their ground truth.
    """

    name: str
    queries: Sequence[Path]
    database: Sequence[Path] | None = None
    protocols: Mapping[str, Sequence[Indices]] = field(default_factory=dict)
    untrusted: int = 0

    @property
    def right(self) -> str:
        """What counts as right under the first protocol; empty if true places are not known."""
        return next(iter(self.protocols), "")

    @property
    def positives(self) -> Sequence[Indices] | None:
        """The true places under the first protocol; None if they are not known."""
        return self.protocols.get(self.right)


def find_dataset(name: str) -> Path:
    """A data set's folder: the path itself, or the name of one below $STRUCTVPR_DATA.

    Raises:
        DataError: there is no such folder.
    """
    root = os.environ.get(DATA_VARIABLE)
    candidates = [Path(name)] + ([Path(root) / name, Path(root) / "sets" / name] if root else [])
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise DataError(
        f"{name}: there is no such folder{'' if root is None else f', nor below {DATA_VARIABLE}={root}'}; give the "
        f"path of a data set, or set {DATA_VARIABLE} to the folder that holds it"
    )


def read_frame_sets(folder: Path, tolerances: Sequence[int]) -> list[PlaceSet]:
    """Read a data set with a table of frame ranges, see `read_ground_truth`: one set for each traverse of queries.

    Args:
        folder: of the data set.
        tolerances: frames to either side of the counterpart, one protocol each, before the set's own rule.

    Raises:
        DataError: see `read_ground_truth`.
    """
    sets = []
    for truth in read_ground_truth(folder):
        counterparts = [None if true < 0 else true for true in truth.counterpart.tolist()]
        protocols = {f"±{t} frames": positives_within_frames(counterparts, len(truth.database), t) for t in tolerances}
        counts = truth.last - truth.first + 1
        protocols[OWN_RULE] = split_rows(expand_ranges(truth.first, counts)[1], counts)
        sets.append(PlaceSet(truth.name, truth.queries, truth.database, protocols, truth.untrusted))
    return sets


def read_position_set(database: Path, queries: Path, radius_m: float) -> PlaceSet:
    """Read two folders (deep-VG names or a places.csv) or two CSVs of places with positions.

    Raises:
        DataError: an image has no position, or the positions of the two are of different kinds.
    """
    if all(path.is_dir() and not (path / PLACES_CSV).is_file() for path in (database, queries)):
        known, asked = list_images(database), list_images(queries)
        named = read_names([*known, *asked])  # together, as each may be in one UTM zone, but not in the same
        if named is None:
            raise _without_positions(database)
        geography, positions = named.geography, named.positions
    else:
        (known, here, geography), (asked, there, other) = _located(database), _located(queries)
        if geography != other:
            raise DataError(f"{database} is {geography} and {queries} is {other}; give both positions of one kind")
        positions = np.array([*here, *there])
    positives = positives_within_m(geography, positions[len(known) :], positions[: len(known)], radius_m)
    return PlaceSet(queries.stem, asked, known, {f"{radius_m:g} m": positives})


def _located(path: Path) -> tuple[list[Path], list[Position], Geography]:
    source = open_source(path)
    if not isinstance(source, ImageSource) or source.geography is None:
        raise _without_positions(path)
    for file, info in source.files:
        if info.position is None:
            raise DataError(f"{path}: {file} has no position; add it, or remove the image")
    positions = [info.position for _, info in source.files if info.position]
    return [file for file, _ in source.files], positions, source.geography


def _without_positions(path: Path) -> DataError:
    return DataError(f"{path}: its images have no positions; add a places.csv, or rename them to @east@north@….jpg")
