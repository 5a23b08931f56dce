"""Positions on Earth as metres that can be compared anywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["wgs84_to_metres"]

EQUATOR_M = 6_378_137.0
FLATTENING = 1.0 / 298.257223563


def wgs84_to_metres(lat_deg: npt.NDArray[np.float64], lon_deg: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points of the ellipsoid's surface in metres from the Earth's centre.

    Straight distances between them are distances on the ground to a part in a million up to 30 km, across UTM zones,
    the date line and the poles.

    Args:
        lat_deg: float64 (N,), geodetic latitude.
        lon_deg: float64 (N,), longitude.

    Returns:
        float64 (N, 3).

    Source: NIMA TR8350.2, WGS 84, height 0.
    """
    lat, lon = np.radians(lat_deg), np.radians(lon_deg)
    squared_eccentricity = FLATTENING * (2.0 - FLATTENING)
    normal_m = EQUATOR_M / np.sqrt(1.0 - squared_eccentricity * np.sin(lat) ** 2)
    return np.column_stack(
        [
            normal_m * np.cos(lat) * np.cos(lon),
            normal_m * np.cos(lat) * np.sin(lon),
            normal_m * (1.0 - squared_eccentricity) * np.sin(lat),
        ]
    )
