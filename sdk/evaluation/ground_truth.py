"""Frame ground truth: which stretch of a database's route each query shows.

    database/ query*/ ground_truth.csv     query_set,query,db,db_first_ok,db_last_ok[,camera][,trusted]

`db` is the query's exact counterpart. Database names sort in the order of the route, and an answer is right if its name
lies between `db_first_ok` and `db_last_ok`, inclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..frames.folder import list_images
from ..frames.table import Table, read_table

__all__ = ["FrameTruth", "read_ground_truth"]

Indices = npt.NDArray[np.int64]

TABLES = ("ground_truth.csv", "pseudo_ground_truth.csv")
COLUMNS = ("query_set", "query", "db", "db_first_ok", "db_last_ok")


@dataclass(frozen=True)
class FrameTruth:
    """The ground truth of one traverse of queries.

    Attributes:
        name: folder of the queries.
        queries: its images, without those whose row is not trusted.
        database: images of the database; the same object for every traverse of a data set.
        counterpart: int64 (Q,), the database index that shows the query's place; -1 if none does.
        first, last: int64 (Q,), the range of right database indices, inclusive; 0 and -1 if none is right.
        untrusted: number of queries left out because their row is not trusted.
        has_cameras: whether the table has a column `camera`.
    """

    name: str
    queries: Sequence[Path]
    database: Sequence[Path]
    counterpart: Indices
    first: Indices
    last: Indices
    untrusted: int = 0
    has_cameras: bool = False


def read_ground_truth(
    folder: Path,
    *,
    table: str | None = None,
    database: str | None = None,
    query_sets: Sequence[str] | None = None,
    trusted_only: bool = True,
) -> list[FrameTruth]:
    """Read a data set of traverses with a table of frame ranges.

    An image of a query folder that is in no row is a query without a true place. An image whose row has 0 in the column
    `trusted` is left out, because its true place is not known.

    Args:
        folder: holds the table and the folders that it names.
        table: name of the CSV; ground_truth.csv or pseudo_ground_truth.csv unless given.
        database: name of the database's folder; database, or else the only one whose name begins so, unless given.
        query_sets: some of the values of `query_set`; all unless given.
        trusted_only: False keeps rows that are not trusted.

    Returns:
        One for each query folder, in the order of the table.

    Raises:
        DataError: the table, a column, a folder or an image is missing, a name is there twice, or a range ends before
            it begins.
    """
    names = TABLES if table is None else (table,)
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise DataError(f"{folder}: has no {' or '.join(names)}; check the folder, or name the table")
    truth = read_table(path, *COLUMNS)
    sets, asked = np.array(truth.filled("query_set")), truth.filled("query")
    chosen = [name for name in dict.fromkeys(sets.tolist()) if query_sets is None or name in query_sets]
    if not chosen:
        raise DataError(
            f"{truth.path}: has no row of {', '.join(query_sets or ())}; choose of {', '.join(sorted(set(sets)))}"
        )
    usable = np.isin(sets, chosen)
    if trusted_only and "trusted" in truth:
        usable &= truth.flags("trusted")
    if not usable.any():
        raise DataError(f"{truth.path}: no row is trusted; correct its column trusted")
    answers = list_images(_database(folder, database))
    ranges_of_rows = np.full((3, len(truth)), -1, np.int64)
    ranges_of_rows[:, usable] = _ranges(truth.rows(usable), answers)

    found = []
    for name in chosen:
        queries = list_images(folder / name)
        number, row_of = _by_name(queries), np.full(len(queries), -1, np.int64)
        for row in np.flatnonzero(sets == name).tolist():
            query = number.get(asked[row])
            if query is None:
                raise DataError(f"{truth.where(row)}: {asked[row]!r} is not an image of {folder / name}; correct it")
            if row_of[query] >= 0:
                raise DataError(f"{truth.where(row)}: {asked[row]} has a row already; remove one")
            row_of[query] = row
        ranges = np.tile(np.array([[-1], [0], [-1]], np.int64), len(queries))  # (3, Q): counterpart, first, last
        ranges[:, row_of >= 0] = ranges_of_rows[:, row_of[row_of >= 0]]
        kept = (row_of < 0) | usable[row_of]
        files, untrusted = [queries[i] for i in np.flatnonzero(kept)], int(np.count_nonzero(~kept))
        counterpart, first, last = ranges[:, kept]
        found.append(FrameTruth(name, files, answers, counterpart, first, last, untrusted, "camera" in truth))
    return [one for one in found if one.queries]


def _database(folder: Path, name: str | None) -> Path:
    there = sorted(path for path in folder.glob("database*") if path.is_dir())
    if name is not None or folder / "database" in there or not there:
        return folder / (name or "database")
    if len(there) > 1:
        raise DataError(f"{folder}: has {len(there)} folders whose names begin with database; name the one to use")
    return there[0]


def _by_name(files: Sequence[Path]) -> dict[str, int]:
    number: dict[str, int] = {}
    for i, file in enumerate(files):
        if (first := number.setdefault(file.name, i)) != i:
            raise DataError(f"{files[first]} and {file} have one name; rename one of them")
    return number


def _ranges(truth: Table, answers: Sequence[Path]) -> Indices:
    """Counterpart, first and last of each row, int64 (3, n)."""
    number = _by_name(answers)
    found = np.empty((3, len(truth)), np.int64)
    for column, into in zip(COLUMNS[2:], found, strict=True):
        for row, name in enumerate(truth.filled(column)):
            if name not in number:
                raise DataError(f"{truth.where(row)}: {column} is {name!r}, no image of the database; correct it")
            into[row] = number[name]
    if (backward := found[2] < found[1]).any():
        raise DataError(
            f"{truth.where(int(backward.argmax()))}: the range ends before it begins; names sort in the order of the "
            "route"
        )
    return found
