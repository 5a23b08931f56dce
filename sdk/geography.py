"""Positions, and metres between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

__all__ = ["Geography", "Position", "distance_m"]

Geography = Literal["local", "wgs84"]
Position = tuple[float, float, float]

EARTH_RADIUS_M = 6_371_008.8  # mean radius R1 of the WGS-84 ellipsoid (IUGG)


def distance_m(geography: Geography, a: Sequence[float], b: Sequence[float]) -> float:
    """Metres between two positions of one map.

    Args:
        geography: "local" takes (x, y, z) in metres, "wgs84" (latitude deg, longitude deg, altitude m).
        a: one position.
        b: the other.

    Returns:
        Straight-line distance, >= 0; in WGS-84 along the sphere of mean radius (haversine, at most 0.6 % off
        the ellipsoid), with the difference in altitude.
    """
    if geography == "local":
        return math.dist(a, b)
    latitude_a, latitude_b = math.radians(a[0]), math.radians(b[0])
    half_dlat = (latitude_b - latitude_a) / 2
    half_dlon = math.radians(b[1] - a[1]) / 2
    h = math.sin(half_dlat) ** 2 + math.cos(latitude_a) * math.cos(latitude_b) * math.sin(half_dlon) ** 2
    ground = 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(h)))
    return math.hypot(ground, b[2] - a[2])
