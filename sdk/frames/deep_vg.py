"""Positions in file names, as the deep visual geo-localization benchmark writes them.

    @UTM_east@UTM_north@UTM_zone_number@UTM_zone_letter@latitude@longitude@pano_id@tile@heading@pitch@roll@height@time@note@.jpg

Only the first two fields are required. Source: Berton et al., Deep Visual Geo-localization Benchmark (CVPR 2022),
and its datasets downloader.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..answers import Place
from ..errors import MapError
from ..geography import Geography

__all__ = ["places_from_names"]

EAST, NORTH, ZONE, LETTER, LATITUDE, LONGITUDE, HEADING = 1, 2, 3, 4, 5, 6, 9


def places_from_names(folder: Path, files: list[Path]) -> tuple[list[Place], Geography | None]:
    """What the names of image files say of their places.

    Args:
        folder: names in the result are relative to it.
        files: image files below it.

    Returns:
        One place a file, and what their positions are: "local" metres (UTM, when all are in one zone), "wgs84"
        (when they are in several, whose eastings cannot be compared), or None if no name has a position.

    Raises:
        MapError: some names have a position and others have not, one is not a number, or there are several
            zones and no latitudes.
    """
    # The base name alone: a folder above may contain an @ of its own.
    fields = [file.name.split("@") if file.name.startswith("@") else [] for file in files]
    names = [str(file.relative_to(folder)) for file in files]
    if not any(fields):
        return [Place(image=name) for name in names], None
    for name, values in zip(names, fields, strict=True):
        if len(values) <= NORTH + 1:
            raise MapError(
                f"{folder}: {name} has no position in its name while others have, expected @east@north@ in all or none"
            )
    zones = {(values[ZONE], values[LETTER]) for values in fields if len(values) > LETTER + 1}
    geography: Geography = "local" if len(zones) <= 1 else "wgs84"
    first, second = (EAST, NORTH) if geography == "local" else (LATITUDE, LONGITUDE)
    places = []
    for name, values in zip(names, fields, strict=True):
        try:
            position = (float(values[first]), float(values[second]), 0.0)
        except (ValueError, IndexError):
            found = f"UTM zones {sorted(zones)} and no latitude" if geography == "wgs84" else "no number"
            raise MapError(
                f"{folder}: {name} has {found} in its name, expected @east@north@ in metres, all in one zone, or "
                "latitude and longitude too"
            ) from None
        heading = None
        with contextlib.suppress(ValueError, IndexError):  # the field is often empty
            heading = float(values[HEADING])  # clockwise from north, as Street View has it
            if geography == "local":
                heading = (90 - heading) % 360  # counter-clockwise from east: see Place
        try:
            places.append(Place(position=position, heading_deg=heading, image=name))
        except MapError as error:
            raise MapError(f"{folder}: {name}: {error}; rename the file") from None
    return places, geography
