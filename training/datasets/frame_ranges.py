"""Two traverses with a table of which frames of the one show what the other saw.

    database/ query*/ ground_truth.csv     query_set,query,db,db_first_ok,db_last_ok[,camera][,trusted]

The layout that `structvpr eval` reads: names of the database sort in the order of the route, and an answer is right if
its name lies between `db_first_ok` and `db_last_ok`, inclusive.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from sdk import MapError

from .hold_out import divide
from .image_files import list_image_files, require_images
from .neighbours import expand_ranges
from .tables import Table, read_table
from .training_set import Indices, TrainingSet, set_from_pairs

__all__ = ["read_frame_ranges"]

TABLES = ("ground_truth.csv", "pseudo_ground_truth.csv")
COLUMNS = ("query_set", "query", "db", "db_first_ok", "db_last_ok")
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
    """Read queries with the range of the database that is right for each.

    Args:
        folder: that holds the table and the folders that it names.
        split: "all"; "train" and "val" hold out stretches of the route.
        table: name of the CSV; ground_truth.csv or pseudo_ground_truth.csv unless given.
        database: name of the database's folder; the one whose name begins with database unless given.
        query_sets: some of the values of `query_set`, which are folders; all unless given.
        positive_frames: positives are those of the range at most so many frames from `db`; all of it unless given.
        trusted_only: leave out rows whose column `trusted`, if there is one, is 0.
        held_out: share of the queries that "train" lacks and "val" has.
        seed: of the choice of these.

    With a column `camera`, positives are images of the query's camera (`_c0_` in their names); the other cameras' are
    near.

    Raises:
        MapError: the table, a column, a folder or an image is missing, or a range ends before it begins.
    """
    truth = _read_truth(folder, table)
    if trusted_only and "trusted" in truth:
        truth = truth.rows(truth.flags("trusted"))
    if query_sets is not None:
        truth = truth.rows(np.isin(np.array(truth.column("query_set")), query_sets))
    name = f"{folder.name} {split}"
    if len(truth) == 0:
        left_of = query_sets or "those to be trusted"
        raise MapError(f"{truth.path}: no row is left of {left_of}, expected some; correct it")
    asked = [folder / parts / query for parts, query in zip(*map(truth.filled, COLUMNS[:2]), strict=True)]
    require_images(name, asked)
    answers = list_image_files(_database(folder, database))
    by_name: dict[str, Path] = {}
    for file in answers:
        if (other := by_name.setdefault(file.name, file)) != file:
            raise MapError(f"{other} and {file} have one name, expected each once in the database; rename one")
    counterpart, first, last = (_numbers(truth, column, answers) for column in COLUMNS[2:])
    if (backward := last < first).any():
        raise MapError(
            f"{truth.path}: the range of {asked[backward.argmax()].name} ends before it begins, expected names in the "
            "order of the route; correct it"
        )
    row, found = expand_ranges(first, last - first + 1)
    positive = np.ones(len(row), bool)
    if positive_frames is not None:
        positive &= np.abs(found - counterpart[row]) <= positive_frames
    if "camera" in truth:
        cameras = [CAMERA.search(file.name) for file in (*asked, *answers)]
        number = np.array([int(match[1]) if match else -1 for match in cameras])
        positive &= number[row] == number[len(asked) + found]
    whole = set_from_pairs(
        name,
        [*asked, *answers],
        row,
        found + len(asked),
        positive,
        queries=np.arange(len(asked)),
        database=np.arange(len(asked), len(asked) + len(answers)),
        root=folder,
    )
    return divide(whole, split, held_out, seed)


def _read_truth(folder: Path, name: str | None) -> Table:
    names = TABLES if name is None else (name,)
    there = [name for name in names if (folder / name).is_file()]
    if not there:
        raise MapError(f"{folder}: has no {' or '.join(names)}, expected one; check the folder, or name the table")
    return read_table(folder / there[0], *COLUMNS)


def _database(folder: Path, name: str | None) -> Path:
    if name is not None:
        return folder / name
    there = sorted(path for path in folder.glob("database*") if path.is_dir())
    if len(there) != 1:
        raise MapError(
            f"{folder}: has {len(there)} folders whose names begin with database, expected one; name the one to use"
        )
    return there[0]


def _numbers(truth: Table, column: str, answers: list[Path]) -> Indices:
    number = {file.name: i for i, file in enumerate(answers)}
    try:
        return np.array([number[name] for name in truth.column(column)], np.int64)
    except KeyError as error:
        raise MapError(
            f"{truth.path}: {column} names {error}, expected an image of {answers[0].parent}; correct it"
        ) from None
