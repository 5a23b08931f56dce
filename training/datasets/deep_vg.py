"""Sets in the layout of the deep visual geo-localization benchmark: Pittsburgh 30k and 250k, Tokyo 24/7, SF-XL, others.

    images/{train,val,test}/{database,queries}/@UTM_east@UTM_north@zone@letter@latitude@longitude@pano@tile@heading@...@.jpg

Source: Berton et al., Deep Visual Geo-localization Benchmark (CVPR 2022), and gmberton/VPR-datasets-downloader, as it
stood in November 2026: positives in training 10 m, in evaluation 25 m.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sdk import MapError

from .geography import wgs84_to_metres
from .image_files import list_image_files
from .tables import is_number
from .training_set import TrainingSet, set_from_positions

__all__ = ["read_deep_vg"]

EAST, NORTH, ZONE, LETTER, LATITUDE, LONGITUDE, HEADING = 1, 2, 3, 4, 5, 6, 9
SPLITS = ("train", "val", "test")


def read_deep_vg(
    folder: Path,
    split: str,
    *,
    database: str = "database",
    queries: str = "queries",
    positive_radius_m: float | None = None,
    near_radius_m: float = 25.0,
    most_turned_deg: float = 180.0,
) -> TrainingSet:
    """Read one split.

    Positions are UTM while all images are in one zone. Eastings of different zones cannot be compared: then latitudes
    and longitudes are, which must be in the names too.

    Args:
        folder: that holds images/, or the splits themselves.
        split: "train", "val" or "test".
        database, queries: folders of the split, such as queries_night; the same for both: all images ask and answer.
        positive_radius_m: 10 m in "train" and 25 m in the others unless given.
        near_radius_m: 25 m, of what is no negative and right in evaluation.
        most_turned_deg: positives' headings differ by no more, where the names have them (Pittsburgh's have not).

    Raises:
        MapError: a folder is missing or empty, or a name has no position.
    """
    if split not in SPLITS:
        raise MapError(f"{folder}: split is {split!r}, expected one of {', '.join(SPLITS)}; choose one")
    root = folder / "images" if (folder / "images").is_dir() else folder
    asked = list_image_files(root / split / queries)
    answers = asked if queries == database else list_image_files(root / split / database)
    images = asked if queries == database else [*asked, *answers]
    fields = [_fields(file) for file in images]
    if positive_radius_m is None:
        positive_radius_m = min(10.0 if split == "train" else 25.0, near_radius_m)
    return set_from_positions(
        f"{folder.name} {split}",
        images,
        _positions_m(images, fields),
        queries=np.arange(len(asked)),
        database=np.arange(len(images) - len(answers), len(images)),
        positive_radius_m=positive_radius_m,
        near_radius_m=near_radius_m,
        heading_deg=_headings_deg(fields) if most_turned_deg < 180.0 else None,
        most_turned_deg=most_turned_deg,
        root=folder,
    )


def _fields(file: Path) -> list[str]:
    fields = file.name.split("@")  # of the base name alone: a folder above may contain an @ of its own
    if not file.name.startswith("@") or len(fields) <= NORTH + 1:
        raise MapError(f"{file}: has no position in its name, expected @UTM_east@UTM_north@...@.jpg; rename it")
    return [*fields[:-1], *[""] * (HEADING + 2 - len(fields))]


def _positions_m(images: Sequence[Path], fields: Sequence[list[str]]) -> npt.NDArray[np.float64]:
    zones = {(values[ZONE].lstrip("0"), values[LETTER] >= "N") for values in fields}  # letters from N on are north
    first, second = (EAST, NORTH) if len(zones) == 1 else (LATITUDE, LONGITUDE)
    try:
        pairs = np.array([(float(values[first]), float(values[second])) for values in fields])
    except ValueError:
        wrong = next(
            image
            for image, values in zip(images, fields, strict=True)
            if not (is_number(values[first]) and is_number(values[second]))
        )
        found = "no numbers" if len(zones) == 1 else f"images in {len(zones)} UTM zones and no latitude and longitude"
        raise MapError(
            f"{wrong}: {found} in its name, expected @UTM_east@UTM_north@ in metres, and latitude and longitude "
            "too where zones differ; rename it"
        ) from None
    return pairs if len(zones) == 1 else wgs84_to_metres(pairs[:, 0], pairs[:, 1])


def _headings_deg(fields: Sequence[list[str]]) -> npt.NDArray[np.float64]:
    return np.array([float(values[HEADING]) if is_number(values[HEADING]) else np.nan for values in fields])
