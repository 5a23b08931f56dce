"""What goes into a map and what comes out of a query."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import MapError

__all__ = ["Geography", "Localization", "Match", "Place", "Position", "distance_m", "keep_apart"]

Geography = Literal["local", "wgs84"]
Position = tuple[float, float, float]

EARTH_RADIUS_M = 6_371_008.8  # mean radius R1 of the WGS-84 ellipsoid (IUGG)


@dataclass(frozen=True)
class Place:
    """Somewhere that can be recognised: one frame of the map, and where it was taken.

    Attributes:
        name: for people; may be empty.
        position: (x, y, z) in metres or (latitude deg, longitude deg, altitude m), as the map declares; the
            third may be left out and is then 0. None if unknown.
        heading_deg: direction of view, counter-clockwise from +x, or clockwise from north in WGS-84.
        timestamp_s: when the frame was taken, s.
        image: where the frame lies, as its source named it.
        traverse: the drive that it belongs to.
        id: given by the map; None before that.

    Raises:
        MapError: a number is not finite, or `position` has not two or three of them.
    """

    name: str = ""
    position: Position | Sequence[float] | None = None
    heading_deg: float | None = None
    timestamp_s: float | None = None
    image: str = ""
    traverse: str = ""
    id: int | None = None

    def __post_init__(self) -> None:
        for field_name in ("heading_deg", "timestamp_s"):
            value = getattr(self, field_name)
            if value is not None:
                object.__setattr__(self, field_name, self._finite(field_name, value))
        if self.position is not None:
            listed: Any = self.position
            if isinstance(listed, (str, bytes)) or not isinstance(listed, Iterable):
                listed = (listed,)
            values = tuple(self._finite("position", value) for value in listed)
            if len(values) not in (2, 3):
                raise MapError(
                    f"place {self.name!r}: position has {len(values)} values, expected (x, y[, z]) in metres or "
                    "(latitude, longitude[, altitude]); pass two or three numbers"
                )
            object.__setattr__(self, "position", values if len(values) == 3 else (*values, 0.0))

    def _finite(self, what: str, value: float) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise MapError(f"place {self.name!r}: {what} has the value {value!r}, expected a finite number; correct it")
        return number

    @property
    def label(self) -> str:
        """The name; without one the image, or the id."""
        return self.name or self.image or f"place {self.id}"


@dataclass(frozen=True)
class Match:
    """A place of the map that a frame resembles.

    Attributes:
        place: the place.
        similarity: cosine of the two descriptors, -1 to 1; larger is nearer.
    """

    place: Place
    similarity: float


@dataclass(frozen=True)
class Localization:
    """The answer to a query.

    Attributes:
        matches: best first; empty if and only if the map is.
        known: whether the frame shows a place of the map; None while the map is uncalibrated.
        probability: that the best match is right, 0 to 1; None while the map is uncalibrated.
        reason: why `known` is what it is, in a few words.
        timings_ms: milliseconds by stage (prepare, infer, normalize, search, lookup) and in total.
    """

    matches: tuple[Match, ...]
    known: bool | None = None
    probability: float | None = None
    reason: str = "uncalibrated"
    timings_ms: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def place(self) -> Place | None:
        """The best match's place; None if and only if `matches` is empty."""
        return self.matches[0].place if self.matches else None


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


def keep_apart(matches: Sequence[Match], geography: Geography, apart_m: float) -> list[Match]:
    """Leave out each match that lies near a better one.

    Args:
        matches: best first.
        geography: what their positions are.
        apart_m: two matches that are kept are farther apart than this, >= 0.

    Raises:
        MapError: a match has no position.
    """
    kept: list[tuple[Match, Position | Sequence[float]]] = []
    for match in matches:
        position = match.place.position
        if position is None:
            raise MapError(
                f"apart_m was asked for but {match.place.label} has no position, expected one for every place; "
                "leave apart_m out or give the map positions"
            )
        if all(distance_m(geography, position, better) > apart_m for _, better in kept):
            kept.append((match, position))
    return [match for match, _ in kept]
