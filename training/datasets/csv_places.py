"""Training sets from a CSV of images with their places; our renderer writes its worlds as one.

    image,x_m,y_m[,z_m][,heading_deg][,timestamp_s][,name][,traverse][,region][,split]
    image,lat_deg,lon_deg[,...]
    image,name[,...]          without positions: images of one name show one place

The column `image` may also be called `path`, and `name` may be called `place`; options take other names.
`sdk.frames.places_csv` reads the positions, as it does for maps.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sdk import DataError, UsageError
from sdk.arrays import Indices
from sdk.frames.folder import require_images
from sdk.frames.places_csv import PLACES_CSV, positions_in
from sdk.frames.table import Table, read_table
from sdk.geography import to_metres

from .hold_out import divide
from .training_set import TrainingSet, set_from_places, set_from_positions

__all__ = ["has_split_column", "read_csv_places", "read_world"]


def read_csv_places(
    folder: Path,
    split: str,
    *,
    csv: str = PLACES_CSV,
    image: str | None = None,
    place: str | None = None,
    region: str = "region",
    split_column: str = "split",
    reference: str = "reference",
    positive_radius_m: float = 10.0,
    near_radius_m: float = 25.0,
    most_turned_deg: float = 180.0,
    held_out: float = 0.2,
    seed: int = 0,
) -> TrainingSet:
    """Read a CSV of places.

    With positions, positives are the near images; without, the images of the same name. The traverse called `reference`
    is the database, and all others ask. If a region has no such traverse, its first one is the database. In a region
    with a single traverse, and in one without `reference` and positions, all images ask and answer.

    Args:
        folder: images are relative to it.
        split: a value of the split column. Without that column: "all", or "train" and "val", which hold out places.
        csv: name of the file in the folder.
        image, place: names of columns; image or path, and place or name, unless given.
        region, split_column: names of columns.
        reference: name of the traverse that is the database.
        positive_radius_m, near_radius_m: see `set_from_positions`.
        most_turned_deg: see `set_from_positions`.
        held_out, seed: see `hold_out`; not used with a split column.

    Raises:
        DataError: the file, a column or an image is missing, a value is no number, or no query has a positive.
    """
    table = read_table(folder / csv)
    if split_column in table and split != "all":
        splits = np.array(table.column(split_column))
        if not (splits == split).any():
            raise UsageError(
                f"{table.path}: has no row of split {split!r}, has {', '.join(sorted(set(splits)))}; choose of these"
            )
        table = table.rows(splits == split)
        part = "all"
    else:
        part = split
    name = f"{folder.name} {split}"
    columns = [column for column in ((image,) if image else ("image", "path")) if column in table]
    images = [folder / text for text in table.filled(columns[0] if columns else image or "image")]
    require_images(name, images)
    regions = table.groups(region)[0].astype(np.int32) if region in table else np.zeros(len(images), np.int32)
    positions_m = _positions_m(table)
    queries, database = _sides(table, regions, reference, by_first=positions_m is not None)
    if positions_m is not None:
        headings = "heading_deg" in table and most_turned_deg < 180.0
        whole = set_from_positions(
            name,
            images,
            positions_m,
            queries=queries,
            database=database,
            positive_radius_m=positive_radius_m,
            near_radius_m=near_radius_m,
            region=regions,
            heading_deg=table.numbers("heading_deg", empty=np.nan) if headings else None,
            most_turned_deg=most_turned_deg,
            root=folder,
        )
    else:
        columns = [column for column in ((place,) if place else ("place", "name")) if column in table]
        if not columns:
            raise DataError(
                f"{table.path}: has the columns {', '.join(table.header)}; add x_m,y_m or lat_deg,lon_deg, or a "
                f"column {place or 'name'} of places, or name the column that stands for it"
            )
        numbers = table.groups(columns[0])[0]
        whole = set_from_places(name, images, numbers, queries=queries, database=database, region=regions, root=folder)
    return divide(whole, part, held_out, seed)


def has_split_column(folder: Path, *, csv: str = PLACES_CSV, split_column: str = "split", **_: Any) -> bool:
    """Whether a CSV of places has a split column. Takes the options of `read_csv_places`."""
    return split_column in read_table(folder / csv)


def read_world(
    folder: Path,
    split: str,
    *,
    positive_radius_m: float = 5.0,
    near_radius_m: float = 10.0,
    most_turned_deg: float = 40.0,
) -> TrainingSet:
    """Read a world that our renderer wrote: places.csv, images/, and labels/ with the same tree as images/.

    The traverse called reference is the database of its town, and all others are queries. Headings of positives differ
    by at most 40 degrees, because streets cross. Positions are exact, so the radii are half of those for GPS. The set's
    root is images/, so that `find_label_maps(world, None, folder / "labels")` finds the exact label maps.

    Raises:
        DataError: see `read_csv_places`.
    """
    table = read_table(folder / PLACES_CSV, "image", "x_m", "y_m", "heading_deg", "traverse", "region", "split")
    if "reference" not in table.column("traverse"):
        raise DataError(f"{table.path}: has no traverse called reference, as a world must; read it as csv instead")
    made = read_csv_places(
        folder,
        split,
        positive_radius_m=positive_radius_m,
        near_radius_m=near_radius_m,
        most_turned_deg=most_turned_deg,
    )
    return replace(made, root=folder / "images")


def _positions_m(table: Table) -> npt.NDArray[np.float64] | None:
    """Metres, float64 (n, 3); None if the table has no positions."""
    found = positions_in(table)
    if found is None:
        return None
    geography, positions = found
    if (missing := np.isnan(positions).any(axis=1)).any():
        raise DataError(f"{table.where(int(missing.argmax()))}: has no position; add it, or remove the line")
    return to_metres(geography, positions)


def _sides(table: Table, regions: npt.NDArray[np.int32], reference: str, *, by_first: bool) -> tuple[Indices, Indices]:
    """Which rows ask and which answer, region by region."""
    asks, answers = np.ones(len(table), bool), np.ones(len(table), bool)
    if "traverse" in table:
        numbers, names = table.groups("traverse")
        for region in np.unique(regions):
            here = regions == region
            driven = np.unique(numbers[here])  # in order of their first row
            if reference in names and names.index(reference) in driven:
                chosen = names.index(reference)
            elif by_first:
                chosen = int(driven[0])
            else:
                continue
            if len(driven) > 1:
                answers[here] = numbers[here] == chosen
                asks[here] = ~answers[here]
    return np.flatnonzero(asks), np.flatnonzero(answers)
