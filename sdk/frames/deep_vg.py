"""Positions in file names, as the deep visual geo-localization benchmark writes them.

    @UTM_east@UTM_north@UTM_zone_number@UTM_zone_letter@latitude@longitude@pano_id@tile@heading@pitch@roll@height@time@note@.jpg

Only the first two fields are required. Source: Berton et al., Deep Visual Geo-localization Benchmark (CVPR 2022),
and its datasets downloader.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..geography import Geography
from .source import FrameInfo

__all__ = ["NamedPositions", "read_names"]

EAST, NORTH, ZONE, LETTER, LATITUDE, LONGITUDE, HEADING = 1, 2, 3, 4, 5, 6, 9


@dataclass(frozen=True)
class NamedPositions:
    """What file names say about where images were taken.

    Attributes:
        geography: "local" metres (UTM) if all images are in one zone, "wgs84" if not.
        positions: float64 (N, 3), the third value 0.
        heading_deg: float64 (N,), as `FrameInfo` has it; nan if unknown.
    """

    geography: Geography
    positions: npt.NDArray[np.float64]
    heading_deg: npt.NDArray[np.float64]

    def infos(self, images: Sequence[str]) -> list[FrameInfo]:
        """The facts of each image, under the names given."""
        headings = [None if math.isnan(heading) else heading for heading in self.heading_deg.tolist()]
        return [
            FrameInfo(image, position=(x, y, z), heading_deg=heading)
            for image, (x, y, z), heading in zip(images, self.positions.tolist(), headings, strict=True)
        ]


def read_names(files: Sequence[Path]) -> NamedPositions | None:
    """Read the positions in the names of image files.

    Eastings of different zones cannot be compared, so files whose positions are to be compared are read in one call.
    The bands of one zone (its letters) count as one zone on each side of the equator.

    Args:
        files: image files. Only base names are read, since a folder may contain an @ of its own.

    Returns:
        The positions; None if no name has one.

    Raises:
        DataError: only some names have a position, a value is not a number, or there are several zones and no
            latitudes and longitudes.
    """
    fields = [file.name.split("@") if file.name.startswith("@") else [] for file in files]
    if not any(fields):
        return None
    for file, values in zip(files, fields, strict=True):
        if len(values) <= NORTH + 1:
            raise DataError(f"{file}: has no position in its name, and others have; rename it to @east@north@….jpg")
        values[-1:] = [""] * (HEADING + 2 - len(values))  # the suffix goes
    zones = {(values[ZONE].lstrip("0"), values[LETTER] >= "N"): values[ZONE] + values[LETTER] for values in fields}
    zones = {zone: name for zone, name in zones.items() if zone[0]}
    geography: Geography = "local" if len(zones) <= 1 else "wgs84"
    first, second = (EAST, NORTH) if geography == "local" else (LATITUDE, LONGITUDE)
    positions = np.array([(_number(values[first]), _number(values[second]), 0.0) for values in fields])
    if (wrong := np.isnan(positions).any(axis=1)).any():
        file = files[int(wrong.argmax())]
        if geography == "local":
            raise DataError(f"{file}: the position in its name is not two finite numbers; rename it")
        raise DataError(
            f"{file}: has no latitude and longitude in its name, and the images are in {len(zones)} UTM zones "
            f"({', '.join(sorted(zones.values()))}); rename it, or take the images of one zone"
        )
    heading_deg = np.array([_number(values[HEADING]) for values in fields])  # clockwise from north; often empty
    if geography == "local":
        heading_deg = (90.0 - heading_deg) % 360.0  # counter-clockwise from east
    return NamedPositions(geography, positions, heading_deg)


def _number(text: str) -> float:
    """A finite number, or nan."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
