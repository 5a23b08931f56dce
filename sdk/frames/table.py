"""CSV files, read by column."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DataError

__all__ = ["Table", "read_table"]


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
            DataError: there is no such column.
        """
        self.require(name)
        at = self.header.index(name)
        return [row[at] for row in self._rows]

    def filled(self, name: str) -> list[str]:
        """One column's text without the spaces around it. No cell may be empty.

        Raises:
            DataError: there is no such column, or a cell is empty; the message names the line.
        """
        texts = [text.strip() for text in self.column(name)]
        if "" in texts:
            raise DataError(f"{self.where(texts.index(''))}: {name} is empty; fill it in, or remove the line")
        return texts

    def where(self, row: int) -> str:
        """File and line of a row, for messages."""
        return f"{self.path}, line {self._lines[row]}"

    def require(self, *names: str) -> None:
        """Raise DataError unless all columns are there."""
        if missing := [name for name in names if name not in self.header]:
            raise DataError(
                f"{self.path}: lacks the column {', '.join(missing)}, has {', '.join(filter(None, self.header))}; add "
                "it, or name the column that stands for it"
            )

    def numbers(self, name: str, *, empty: float | None = None) -> npt.NDArray[np.float64]:
        """One column, float64 (n,).

        Args:
            name: of the column.
            empty: value of an empty cell; None if cells must not be empty.

        Raises:
            DataError: there is no such column, or a cell is not a finite number; the message names the line.
        """
        texts = self.column(name)
        numbers = np.empty(len(texts), np.float64)
        for i, text in enumerate(texts):
            is_empty = empty is not None and not text.strip()
            try:
                numbers[i] = empty if is_empty else float(text)
            except ValueError:
                numbers[i] = math.nan
            if not is_empty and not math.isfinite(numbers[i]):
                raise DataError(f"{self.where(i)}: {name} is {text!r}; write a finite number")
        return numbers

    def flags(self, name: str) -> npt.NDArray[np.bool_]:
        """One column of True and False, or 1 and 0, bool (n,).

        Raises:
            DataError: there is no such column, or a cell is something else; the message names the line.
        """
        known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
        texts = [text.strip().lower() for text in self.column(name)]
        if wrong := [i for i, text in enumerate(texts) if text not in known]:
            raise DataError(f"{self.where(wrong[0])}: {name} is {texts[wrong[0]]!r}, write True or False")
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
        DataError: it cannot be read, has no rows, a row of another length than the header, a column twice, or lacks a
            required column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            # A cell in quotes may go over several lines; the line of a row is its last.
            numbered = [(row, reader.line_num) for row in reader if row]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}); save it as UTF-8 text") from None
    if not header:
        raise DataError(f"{path}: is empty; write a header and a row for each image")
    if twice := [column for i, column in enumerate(header) if column and column in header[:i]]:
        raise DataError(f"{path}: has the column {twice[0]} more than once; rename or remove one")
    rows = [row for row, _ in numbered]
    table = Table(path, header, rows, [line for _, line in numbered])
    table.require(*required)
    if not rows:
        raise DataError(f"{path}: has no rows; add one for each image below the header")
    if ragged := [i for i, row in enumerate(rows) if len(row) != len(header)]:
        raise DataError(
            f"{table.where(ragged[0])}: has {len(rows[ragged[0]])} values, expected {len(header)}; correct the line"
        )
    return table
