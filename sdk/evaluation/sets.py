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
from ..geography import Geography, expand_ranges
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
        counts = truth.last - truth.first + 1
        own = split_rows(expand_ranges(truth.first, counts)[1], counts)
        protocols: dict[str, Sequence[Indices]] = {
            f"±{t} frames": positives_within_frames(counterparts, len(truth.database), t) for t in tolerances
        }
        protocols[OWN_RULE] = own
        sets.append(PlaceSet(truth.name, truth.queries, truth.database, protocols, truth.untrusted))
    return sets


def read_position_set(database: Path, queries: Path, radius_m: float) -> PlaceSet:
    """Read two folders (deep-VG names or a places.csv) or two CSVs of places with positions.

    Raises:
        DataError: an image has no position, or the positions of the two are of different kinds.
    """
    known, asked, geography = _named(database, queries) or _listed(database, queries)
    positives = positives_within_m(
        geography, [position for _, position in asked], [position for _, position in known], radius_m
    )
    return PlaceSet(
        queries.stem, [file for file, _ in asked], [file for file, _ in known], {f"{radius_m:g} m": positives}
    )


Located = list[tuple[Path, Sequence[float]]]


def _named(database: Path, queries: Path) -> tuple[Located, Located, Geography] | None:
    """Two folders with positions in their names, read together: both may be in one UTM zone each, but not the same."""
    if not all(path.is_dir() and not (path / PLACES_CSV).is_file() for path in (database, queries)):
        return None
    known, asked = list_images(database), list_images(queries)
    named = [read_names(files) for files in (known, asked)]
    both = read_names([*known, *asked]) if all(named) else None
    if both is None:
        return None
    located: Located = list(zip([*known, *asked], both.positions.tolist(), strict=True))
    return located[: len(known)], located[len(known) :], both.geography


def _listed(database: Path, queries: Path) -> tuple[Located, Located, Geography]:
    found: list[Located] = []
    kinds: list[Geography] = []
    for path in (database, queries):
        source = open_source(path)
        if not isinstance(source, ImageSource) or source.geography is None:
            raise DataError(
                f"{path}: its images have no positions; add a places.csv, or rename them to @east@north@….jpg"
            )
        located: Located = []
        for file, info in source.files:
            if info.position is None:
                raise DataError(f"{path}: {file} has no position; add it, or remove the image")
            located.append((file, info.position))
        found.append(located)
        kinds.append(source.geography)
    if kinds[0] != kinds[1]:
        raise DataError(f"{database} is {kinds[0]} and {queries} is {kinds[1]}; give both positions of one kind")
    return found[0], found[1], kinds[0]
