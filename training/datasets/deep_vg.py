"""Sets in the layout of the deep visual geo-localization benchmark: Pittsburgh 30k and 250k, Tokyo 24/7, SF-XL, others.

    images/{train,val,test}/{database,queries}/@UTM_east@UTM_north@…@.jpg, see `sdk.frames.deep_vg`

Source: Berton et al., Deep Visual Geo-localization Benchmark (CVPR 2022), and gmberton/VPR-datasets-downloader, as it
stood in November 2026: positives in training 10 m, in evaluation 25 m.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sdk import DataError, UsageError
from sdk.frames.deep_vg import read_names
from sdk.frames.folder import list_images
from sdk.geography import to_metres

from .training_set import TrainingSet, set_from_positions

__all__ = ["read_deep_vg"]

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

    Positions are UTM metres if all images are in one zone, and latitudes and longitudes if not.

    Args:
        folder: that holds images/, or the splits themselves.
        split: "train", "val" or "test".
        database, queries: folders of the split, such as queries_night. If they are the same, all images ask and answer.
        positive_radius_m: 10 m in "train" and 25 m in the others unless given.
        near_radius_m: see `set_from_positions`.
        most_turned_deg: see `set_from_positions`. Pittsburgh's names have no headings.

    Raises:
        DataError: a folder is missing or empty, or a name has no position.
        UsageError: the split, a radius or an angle is out of range.
    """
    if split not in SPLITS:
        raise UsageError(f"{folder}: split is {split!r}, expected one of {', '.join(SPLITS)}")
    root = folder / "images" if (folder / "images").is_dir() else folder
    asked = list_images(root / split / queries)
    answers = asked if queries == database else list_images(root / split / database)
    images = asked if queries == database else [*asked, *answers]
    named = read_names(images)
    if named is None:
        raise DataError(f"{images[0]}: has no position in its name; rename it to @UTM_east@UTM_north@….jpg")
    if positive_radius_m is None:
        positive_radius_m = min(10.0 if split == "train" else 25.0, near_radius_m)
    return set_from_positions(
        f"{folder.name} {split}",
        images,
        to_metres(named.geography, named.positions),
        queries=np.arange(len(asked)),
        database=np.arange(len(images) - len(answers), len(images)),
        positive_radius_m=positive_radius_m,
        near_radius_m=near_radius_m,
        heading_deg=named.heading_deg if most_turned_deg < 180.0 else None,
        most_turned_deg=most_turned_deg,
        root=folder,
    )
