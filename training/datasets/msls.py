"""Mapillary Street-Level Sequences, as unpacked from its archives.

    train_val/<city>/{query,database}/{postprocessed.csv,raw.csv,seq_info.csv,subtask_index.csv,images/<key>.jpg}

Source: Warburg et al. (CVPR 2020) and mapillary/mapillary_sls, mapillary_sls/datasets/msls.py and evaluate.py, as they
stood in November 2026: cities, radii, what is left out, and how queries are weighted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sdk import DataError, UsageError
from sdk.frames.folder import require_images
from sdk.frames.table import Table, read_table

from .training_set import TrainingSet, set_from_positions

__all__ = ["CITIES", "HIDDEN_CITIES", "read_msls"]

CITIES = {
    "train": (
        "amman", "amsterdam", "austin", "bangkok", "berlin", "boston", "budapest", "goa", "helsinki", "london",
        "manila", "melbourne", "moscow", "nairobi", "ottawa", "paris", "phoenix", "saopaulo", "tokyo", "toronto",
        "trondheim", "zurich",
    ),
    "val": ("cph", "sf"),
}  # fmt: skip
HIDDEN_CITIES = ("athens", "bengaluru", "buenosaires", "kampala", "miami", "stockholm")
SUBTASKS = ("all", "s2w", "w2s", "o2n", "n2o", "d2n", "n2d")
CITY_APART_M = 1e8  # between cities that are searched together; more than any easting


@dataclass(frozen=True)
class _Side:
    """One city's queries, or its database."""

    images: list[Path]
    positions_m: npt.NDArray[np.float64]
    heading_deg: npt.NDArray[np.float64]
    night: npt.NDArray[np.bool_]
    sideways: npt.NDArray[np.bool_]


def read_msls(
    folder: Path,
    split: str,
    *,
    cities: tuple[str, ...] | None = None,
    subtask: str = "all",
    positive_radius_m: float | None = None,
    near_radius_m: float = 25.0,
    most_turned_deg: float = 180.0,
    panoramas: bool = False,
    by_city: bool = True,
) -> TrainingSet:
    """Read the training or validation cities.

    Positions are the eastings and northings of `postprocessed.csv`. It does not name their UTM zone, so images of
    different cities are never compared. Training draws queries at night and sideways views more often, by the official
    weights: 1 + Q / night queries, and + Q / sideways ones.

    Args:
        folder: that holds train_val/, or train_val/ itself.
        split: "train" (22 cities) or "val" (cph and sf: 740 queries and 18,871 images of the database).
        cities: some of the split's cities; all of them unless given.
        subtask: of "val": all, s2w, w2s, o2n, n2o, d2n or n2d, a column of subtask_index.csv.
        positive_radius_m: 10 m in "train" and 25 m in "val" unless given.
        near_radius_m: see `set_from_positions`.
        most_turned_deg: largest difference of compass angles of positives. Publications name 40 degrees, but the
            official code has no such test.
        panoramas: whether to keep panoramas, which the official code leaves out.
        by_city: whether each city's database is searched separately, as in Patch-NetVLAD, or all of them together, as
            in GSV-Cities and others.

    Raises:
        DataError: a city, a file, a column or an image is missing.
        UsageError: the split, a city, the subtask or a radius is not one of the data set's.
    """
    if split not in CITIES:
        raise UsageError(
            f"msls: split is {split!r}, expected train or val; the labels of {', '.join(HIDDEN_CITIES)} are hidden on "
            "the challenge's server"
        )
    if subtask not in SUBTASKS or (subtask != "all" and split == "train"):
        raise UsageError(f"msls {split}: subtask is {subtask!r}, expected {' '.join(SUBTASKS)} in val")
    root = folder if folder.name == "train_val" or not (folder / "train_val").is_dir() else folder / "train_val"
    chosen = tuple(dict.fromkeys(cities)) if cities else CITIES[split]
    if wrong := [city for city in chosen if city not in CITIES[split]]:
        raise UsageError(f"msls {split}: {wrong[0]} is none of its cities, {', '.join(CITIES[split])}; correct cities")
    if absent := [city for city in chosen if not (root / city).is_dir()]:
        raise DataError(
            f"{root}: lacks {len(absent)} of {len(chosen)} cities, the first is {absent[0]}; unpack metadata.zip "
            "there, or name the cities to use"
        )
    asked = [_read_side(root / city / "query", split, subtask, panoramas) for city in chosen]
    answers = [_read_side(root / city / "database", split, subtask, panoramas) for city in chosen]
    sides = [*asked, *answers]
    images = [image for side in sides for image in side.images]
    require_images(f"msls {split}", images)

    sizes = [len(side.images) for side in sides]
    city = np.repeat(np.tile(np.arange(len(chosen)), 2), sizes).astype(np.int32)
    # The third axis keeps cities apart that are searched together: (N, 2) -> (N, 3)
    positions_m = np.column_stack([np.concatenate([side.positions_m for side in sides]), city * CITY_APART_M])
    count = sum(sizes[: len(chosen)])
    if positive_radius_m is None:
        positive_radius_m = min(10.0 if split == "train" else 25.0, near_radius_m)
    made = set_from_positions(
        f"msls {split}",
        images,
        positions_m,
        queries=np.arange(count),
        database=np.arange(count, len(images)),
        positive_radius_m=positive_radius_m,
        near_radius_m=near_radius_m,
        region=city if by_city else np.zeros(len(images), np.int32),
        heading_deg=None if most_turned_deg >= 180.0 else np.concatenate([side.heading_deg for side in sides]),
        most_turned_deg=most_turned_deg,
        root=folder,
    )
    if split != "train":
        return made
    weight = np.ones(len(made.queries), np.float32)
    for flags in ([side.night for side in asked], [side.sideways for side in asked]):
        rare = np.concatenate(flags)[made.queries]  # queries are the first of the images
        if rare.any():
            weight[rare] += len(rare) / rare.sum()
    return replace(made, query_weight=weight)


def _read_side(folder: Path, split: str, subtask: str, panoramas: bool) -> _Side:
    table = read_table(folder / "postprocessed.csv", "key", "easting", "northing", "night", "view_direction")
    keys = table.column("key")
    raw = _in_order_of(keys, read_table(folder / "raw.csv", "key", "pano"))
    kept = np.ones(len(keys), bool) if panoramas else ~raw.flags("pano")
    if split == "val":
        kept &= _in_order_of(keys, read_table(folder / "subtask_index.csv", "key", subtask)).flags(subtask)
    table, raw = table.rows(kept), raw.rows(kept)
    heading_deg = raw.numbers("ca", empty=np.nan) if "ca" in raw else np.full(len(raw), np.nan)
    images = f"{folder}/images/"
    return _Side(
        [Path(f"{images}{key}.jpg") for key in table.column("key")],
        np.column_stack([table.numbers("easting"), table.numbers("northing")]),
        heading_deg,
        table.flags("night"),
        np.array([text == "Sideways" for text in table.column("view_direction")], bool),
    )


def _in_order_of(keys: Sequence[str], table: Table) -> Table:
    """The table's rows in the order of some keys."""
    own = table.column("key")
    if own == keys:
        return table
    row = {key: i for i, key in enumerate(own)}
    if missing := [key for key in keys if key not in row]:
        raise DataError(
            f"{table.path}: lacks {len(missing)} keys of postprocessed.csv, the first is {missing[0]}; unpack "
            "metadata.zip again"
        )
    return table.take([row[key] for key in keys])
