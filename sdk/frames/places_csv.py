"""CSV files of places.

image,x_m,y_m[,z_m][,heading_deg][,timestamp_s][,name][,traverse][,region][,split]
image,lat_deg,lon_deg[,alt_m][,…]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..geography import Geography
from .folder import ImageSource
from .source import FrameInfo
from .table import Table, read_table

__all__ = ["PLACES_CSV", "positions_in", "read_places_csv"]

PLACES_CSV = "places.csv"
COLUMNS: dict[Geography, tuple[str, str, str]] = {
    "local": ("x_m", "y_m", "z_m"),
    "wgs84": ("lat_deg", "lon_deg", "alt_m"),
}
OTHER_COLUMNS = ("heading_deg", "timestamp_s", "name", "traverse")
SET_COLUMNS = ("region", "split")  # of a training set: what is searched apart, and the part that a row belongs to


def read_places_csv(path: Path, *, positions: bool = True) -> ImageSource:
    """Read a CSV of places. Images are relative to its folder.

    Args:
        path: the CSV.
        positions: whether to read positions and headings.

    Raises:
        DataError: a column or a value is wrong, with the line in the message; or `positions` are metres of several
            regions, which cannot be compared.
    """
    table = read_table(path)
    geography = _require_columns(table)
    images = table.filled("image")
    found = positions_in(table)
    if found is None or not positions:
        places: list[tuple[float, float, float] | None] = [None] * len(table)
    else:
        regions = {text.strip() for text in table.column("region")} if "region" in table else {""}
        if geography == "local" and len(regions) > 1:
            raise DataError(
                f"{path}: has places of {len(regions)} regions, whose metres cannot be compared; write the rows of one "
                "into a CSV beside it"
            )
        places = [None if np.isnan(x) else (x, y, z) for x, y, z in found[1].tolist()]
    headings, times = _optional(table, "heading_deg"), _optional(table, "timestamp_s")
    names, traverses = (table.column(name) if name in table else [""] * len(table) for name in ("name", "traverse"))
    rows = zip(images, names, places, headings if positions else [None] * len(table), times, traverses, strict=True)
    return ImageSource([(path.parent / row[0], FrameInfo(*row)) for row in rows], geography if positions else None)


def positions_in(table: Table) -> tuple[Geography, npt.NDArray[np.float64]] | None:
    """The positions in a table of places.

    Returns:
        What they are, and float64 (n, 3), nan in rows without a position; None if the table has no such columns.

    Raises:
        DataError: a value is not a number, is missing beside another, or is not on Earth, with the line in the message.
    """
    kinds: list[Geography] = [kind for kind, columns in COLUMNS.items() if {*columns[:2]} <= {*table.header}]
    if not kinds:
        return None
    geography = kinds[0]
    first, second, third = COLUMNS[geography]
    one, other = table.numbers(first, empty=np.nan), table.numbers(second, empty=np.nan)
    if (half := np.isnan(one) != np.isnan(other)).any():
        raise DataError(f"{table.where(int(half.argmax()))}: has one of {first} and {second}; give both or none")
    if geography == "wgs84" and (beyond := (np.abs(one) > 90.0) | (np.abs(other) > 180.0)).any():
        row = int(beyond.argmax())
        raise DataError(
            f"{table.where(row)}: latitude {one[row]:g}, longitude {other[row]:g} are not on Earth; are the columns "
            "swapped?"
        )
    height_m = table.numbers(third, empty=0.0) if third in table else np.zeros(len(table))
    return geography, np.column_stack([one, other, height_m])


def _require_columns(table: Table) -> Geography:
    fits: list[Geography] = [kind for kind, columns in COLUMNS.items() if {"image", *columns[:2]} <= {*table.header}]
    known = {"image", *OTHER_COLUMNS, *SET_COLUMNS, *(COLUMNS[fits[0]] if fits else ())}
    if len(fits) != 1 or not {*table.header} <= known:
        raise DataError(
            f"{table.path}: has the columns {list(table.header)}; rename them to image,x_m,y_m or "
            f"image,lat_deg,lon_deg, with at most z_m or alt_m, {', '.join(OTHER_COLUMNS + SET_COLUMNS)}"
        )
    return fits[0]


def _optional(table: Table, column: str) -> list[float | None]:
    if column not in table:
        return [None] * len(table)
    return [None if np.isnan(value) else value for value in table.numbers(column, empty=np.nan).tolist()]
