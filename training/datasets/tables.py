"""CSV files by column, as data sets come with them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sdk import MapError

__all__ = ["Table", "is_number", "read_table"]


class Table:
    """The columns of a CSV file as text, all of one length."""

    def __init__(
        self, path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], lines: Sequence[int] | None = None
    ) -> None:
        self.path = path
        self.header = tuple(header)
        self._rows = rows
        self._lines: Sequence[int] = range(2, len(rows) + 2) if lines is None else lines

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, column: str) -> bool:
        return column in self.header

    def column(self, name: str) -> list[str]:
        """One column's text.

        Raises:
            MapError: there is no such column.
        """
        self.require(name)
        at = self.header.index(name)
        return [row[at] for row in self._rows]

    def filled(self, name: str) -> list[str]:
        """One column's text, of which there must be some in every cell.

        Raises:
            MapError: there is no such column, or a cell is empty; the message names the line.
        """
        texts = self.column(name)
        if empty := [i for i, text in enumerate(texts) if not text.strip()]:
            raise MapError(f"{self.where(empty[0])}: {name} is empty, expected a name; correct the line")
        return texts

    def where(self, row: int) -> str:
        """File and line of a row, for messages."""
        return f"{self.path}, line {self._lines[row]}"

    def require(self, *names: str) -> None:
        """Raise MapError unless all columns are there."""
        if missing := [name for name in names if name not in self.header]:
            raise MapError(
                f"{self.path}: lacks the column {', '.join(missing)}, has {', '.join(filter(None, self.header))}; add "
                "it, or name the column that stands for it"
            )

    def numbers(self, name: str, *, empty: float | None = None) -> npt.NDArray[np.float64]:
        """One column, float64 (n,).

        Args:
            name: of the column.
            empty: what a cell without text stands for; None: it is wrong.

        Raises:
            MapError: there is no such column, or a cell is no number; the message names the line.
        """
        texts = self.column(name)
        if empty is not None:
            texts = [text if text.strip() else repr(empty) for text in texts]
        try:
            return np.array([float(text) for text in texts], np.float64)
        except ValueError:
            row = next(i for i, text in enumerate(texts) if not is_number(text))
            raise MapError(f"{self.where(row)}: {name} is {texts[row]!r}, expected a number; correct it") from None

    def flags(self, name: str) -> npt.NDArray[np.bool_]:
        """One column of True and False, or 1 and 0, bool (n,).

        Raises:
            MapError: there is no such column, or a cell is something else; the message names the line.
        """
        known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
        texts = [text.strip().lower() for text in self.column(name)]
        if wrong := [i for i, text in enumerate(texts) if text not in known]:
            raise MapError(f"{self.where(wrong[0])}: {name} is {texts[wrong[0]]!r}, expected True or False; correct it")
        return np.array([known[text] for text in texts], np.bool_)

    def groups(self, name: str) -> tuple[npt.NDArray[np.int64], list[str]]:
        """One column of names: a number per row, int64 (n,), and the names in order of their first row."""
        number: dict[str, int] = {}
        numbers = np.array([number.setdefault(text, len(number)) for text in self.column(name)], np.int64)
        return numbers, list(number)

    def rows(self, kept: npt.NDArray[np.bool_]) -> Table:
        """The same columns with the rows that are kept, bool (n,)."""
        return self.take(np.flatnonzero(kept).tolist())

    def take(self, rows: Sequence[int]) -> Table:
        """The same columns with some rows, in that order."""
        return Table(self.path, self.header, [self._rows[i] for i in rows], [self._lines[i] for i in rows])


def read_table(path: Path, *required: str) -> Table:
    """Read a CSV in UTF-8 with a header.

    Raises:
        MapError: it cannot be read, has no rows, one of another length than the header, a column twice, or lacks a
            required one.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            # A cell in quotes may go over several lines: a row is where it ends.
            numbered = [(row, reader.line_num) for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:  # ValueError: no UTF-8, or a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise MapError(f"{path}: cannot be read ({reason}), expected a CSV in UTF-8; check the folder") from None
    if twice := [column for i, column in enumerate(header) if column and column in header[:i]]:
        raise MapError(f"{path}: has the column {twice[0]} more than once, expected it once; rename one")
    rows = [row for row, _ in numbered]
    table = Table(path, header, rows, [line for _, line in numbered])
    table.require(*required)
    if not rows:
        raise MapError(f"{path}: has no rows, expected one an image below its header; add them")
    if ragged := [i for i, row in enumerate(rows) if len(row) != len(header)]:
        raise MapError(
            f"{table.where(ragged[0])}: has {len(rows[ragged[0]])} values, expected {len(header)}; correct the line"
        )
    return table


def is_number(text: str) -> bool:
    """Whether a text is a number, as float takes it."""
    try:
        float(text)
    except ValueError:
        return False
    return True
