"""Data sets on disk, as `structvpr eval` reads them."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import MapError
from ..frames.sources import ImageSource, list_images, open_source
from .recall import positives_within_frames, positives_within_m

__all__ = ["EvaluationSet", "find_dataset", "read_frame_sets", "read_position_set"]

GROUND_TRUTH = "ground_truth.csv"
COLUMNS = {"query_set", "query", "db", "db_first_ok", "db_last_ok"}
DATA_VARIABLE = "STRUCTVPR_DATA"


@dataclass(frozen=True)
class EvaluationSet:
    """Queries against a database, with one list of true places per protocol.

    Attributes:
        name: of the query traverse.
        queries: image files.
        database: image files; the same object for all sets that share it.
        positives: by protocol ("±1 frames", "25 m"): one int64 array of database indices per query.
    """

    name: str
    queries: Sequence[Path]
    database: Sequence[Path]
    positives: Mapping[str, Sequence[npt.NDArray[np.int64]]]


def find_dataset(name: str) -> Path:
    """A data set's folder: the path itself, or the name of one below $STRUCTVPR_DATA.

    Raises:
        MapError: there is no such folder.
    """
    root = os.environ.get(DATA_VARIABLE)
    candidates = [Path(name)] + ([Path(root) / name, Path(root) / "sets" / name] if root else [])
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise MapError(
        f"{name}: there is no such folder{'' if root is None else f', nor below {DATA_VARIABLE}={root}'}, expected a "
        f"data set; give its path, or set {DATA_VARIABLE} to the folder that holds it"
    )


def read_frame_sets(folder: Path, tolerances: Sequence[int]) -> list[EvaluationSet]:
    """Read `database/`, `query*/` and ground_truth.csv (query_set,query,db,db_first_ok,db_last_ok).

    `db` is the query's exact counterpart, and database names sort in the order of the route; an answer is right
    by the set's own rule if its name lies between `db_first_ok` and `db_last_ok`.

    Args:
        folder: of the data set.
        tolerances: frames to either side of the counterpart, one protocol each, beside the set's own.

    Raises:
        MapError: a file is missing, a column is, or a name is not in the database.
    """
    truth_path = folder / GROUND_TRUTH
    try:
        with truth_path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MapError(f"{truth_path}: cannot be read ({reason}), expected a CSV in UTF-8; add it") from None
    if not rows or not rows[0].keys() >= COLUMNS:
        raise MapError(
            f"{truth_path}: lacks rows or one of its columns, expected {','.join(sorted(COLUMNS))}; correct it"
        )
    database = list_images(folder / "database")
    number = _by_name(database)
    sets = []
    for set_name in dict.fromkeys(row["query_set"] for row in rows):
        queries = list_images(folder / set_name)
        own: list[npt.NDArray[np.int64]] = [np.array([], np.int64)] * len(queries)
        counterparts: list[int | None] = [None] * len(queries)
        position = _by_name(queries)
        for row in rows:
            if row["query_set"] != set_name:
                continue
            try:
                i = position[row["query"]]
                counterparts[i] = number[row["db"]]
                own[i] = np.arange(number[row["db_first_ok"]], number[row["db_last_ok"]] + 1)
            except KeyError as error:
                raise MapError(
                    f"{truth_path}: names {error}, expected an image of database/ or {set_name}/; correct it"
                ) from None
        positives: dict[str, Sequence[npt.NDArray[np.int64]]] = {
            f"±{t} frames": positives_within_frames(counterparts, len(database), t) for t in tolerances
        }
        positives["the set's own"] = own
        sets.append(EvaluationSet(set_name, queries, database, positives))
    return sets


def _by_name(files: Sequence[Path]) -> dict[str, int]:
    number = {path.name: i for i, path in enumerate(files)}
    if len(number) < len(files):
        names = [path.name for path in files]
        twice = next(name for name in names if names.count(name) > 1)
        raise MapError(
            f"{files[0].parent}: holds {twice} more than once, expected names that are different; rename the images"
        )
    return number


def read_position_set(database: Path, queries: Path, radius_m: float) -> EvaluationSet:
    """Read two folders (deep-VG names or a places.csv) or CSVs of places with positions.

    Raises:
        MapError: an image has no position, or the two are of different geography.
    """
    found = []
    for path in (database, queries):
        source = open_source(path)
        if not isinstance(source, ImageSource) or source.geography is None:
            raise MapError(
                f"{path}: its images have no positions, expected a places.csv or names like @east@north@.jpg; add them"
            )
        if missing := [str(file) for file, place in source.files if place.position is None]:
            raise MapError(f"{path}: {missing[0]} has no position, expected one for every image; add it")
        found.append(source)
    maps, asked = found
    if maps.geography is None or maps.geography != asked.geography:
        raise MapError(
            f"{database} is {maps.geography} and {queries} is {asked.geography}, expected positions of one kind"
        )
    positives = positives_within_m(
        maps.geography,
        [place.position or () for _, place in asked.files],
        [place.position or () for _, place in maps.files],
        radius_m,
    )
    return EvaluationSet(
        queries.stem,
        [file for file, _ in asked.files],
        [file for file, _ in maps.files],
        {f"{radius_m:g} m": positives},
    )
