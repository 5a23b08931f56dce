"""GSV-Cities, as unpacked from its archive.

    Dataframes/<City>.csv    place_id,year,month,northdeg,city_id,lat,lon,panoid
    Images/<City>/<City>_<place id, 7 digits>_<year>_<month>_<bearing>_<lat>_<lon>_<panoid>.jpg

Source: Ali-bey et al., GSV-Cities (Neurocomputing 2022), and amaralibey/gsv-cities,
dataloaders/train/GSVCitiesDataset.py, as it stood in November 2026: at least four images a place.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sdk import DataError, UsageError
from sdk.frames.table import Table, read_table

from .hold_out import divide
from .training_set import TrainingSet, set_from_places

__all__ = ["read_gsv_cities"]

COLUMNS = ("place_id", "year", "month", "northdeg", "panoid")
Parts = tuple[int, int, int, int, str]


def read_gsv_cities(
    folder: Path,
    split: str,
    *,
    cities: tuple[str, ...] | None = None,
    least_images: int = 4,
    held_out: float = 0.2,
    seed: int = 0,
) -> TrainingSet:
    """Read cities. Each image is a query and in the database of its city.

    A place is (city, id), because ids start anew in each city. Places of a city are at least 100 m apart, so no image
    of another place is near.

    Args:
        folder: that holds Images/ and Dataframes/.
        split: "all", on which the official code trains (it validates on other sets); "train" and "val" hold out places.
        cities: names of CSV files in Dataframes/ without .csv; all of them unless given.
        least_images: places with fewer images are left out.
        held_out, seed: see `hold_out`.

    Raises:
        DataError: a folder, a column or an image is missing, or no place has enough images.
        UsageError: a city or the split is unknown.
    """
    tables = folder / "Dataframes"
    found = sorted(path.stem for path in tables.glob("*.csv"))
    chosen = list(dict.fromkeys(cities)) if cities else found
    if not chosen:
        raise DataError(f"{tables}: holds no CSV; name the folder that holds Dataframes/ with one for each city")
    if absent := [city for city in chosen if city not in found]:
        raise UsageError(f"{tables}: lacks {absent[0]}.csv, has {', '.join(found)}; correct cities")
    images: list[Path] = []
    places, regions = [], []
    missing: list[str] = []
    for number, city in enumerate(chosen):
        table = read_table(tables / f"{city}.csv", *COLUMNS)
        place = table.numbers("place_id").astype(np.int64)
        often = np.bincount(np.unique(place, return_inverse=True)[1]) >= least_images
        kept = often[np.unique(place, return_inverse=True)[1]]
        files, lost = _files_of(folder / "Images", city, table.rows(kept))
        images += files
        missing += lost
        places.append(place[kept])
        regions.append(np.full(int(kept.sum()), number, np.int32))
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(images) + len(missing)} images are missing, the first is {missing[0]}; "
            "unpack the rest of Images/, or name the cities to use"
        )
    if not images:
        raise DataError(f"{folder}: no place has {least_images} images; check the folder, or lower least_images")
    whole = set_from_places(
        f"{folder.name} {split}", images, np.concatenate(places), region=np.concatenate(regions), root=folder
    )
    return divide(whole, split, held_out, seed)


def _files_of(folder: Path, city: str, table: Table) -> tuple[list[Path], list[str]]:
    """The file of each row, and descriptions of those that are missing."""
    named = folder / city
    if not named.is_dir() and "city_id" in table and len(table):
        named = folder / table.column("city_id")[0]
    # Files are found by all parts of a name except the coordinates, whose number of digits varies.
    by_parts: dict[Parts, str] = {}
    if named.is_dir():
        for name in os.listdir(named):  # noqa: PTH208 - names are what is wanted
            texts = name.rsplit(".", 1)[0].split("_", 7)
            if len(texts) == 8 and all(text.isdigit() for text in texts[1:5]):
                by_parts[_parts((*texts[1:5], texts[7]))] = name
    files: list[Path] = []
    missing: list[str] = []
    for values in zip(*(table.column(column) for column in COLUMNS), strict=True):
        try:
            parts = _parts(values)
        except ValueError:
            raise DataError(
                f"{table.path}: has a row with {', '.join(values)}; write whole numbers in {', '.join(COLUMNS[:4])}"
            ) from None
        if parts in by_parts:
            files.append(Path(f"{named}/{by_parts[parts]}"))
        else:
            place, year, month, bearing, panorama = parts
            missing.append(f"{named}/{city}_{place:07d}_{year}_{month:02d}_{bearing:03d}_*_{panorama}.jpg")
    return files, missing


def _parts(values: Sequence[str]) -> Parts:
    place, year, month, bearing, panorama = values
    return int(place), int(year), int(month), int(bearing), panorama
