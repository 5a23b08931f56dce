"""The types of an answer: places, matches, and the localization that holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import MapError, UsageError
from .frames.source import FrameInfo
from .geography import Position, as_position

__all__ = ["Localization", "Match", "Place"]


@dataclass(frozen=True)
class Place:
    """A place of the map: one frame, and where it was taken.

    Attributes:
        name: for people; may be empty.
        position: (x, y, z) in metres or (latitude deg, longitude deg, altitude m), as the map declares. The third
            number may be left out and is then 0. None if unknown.
        heading_deg: direction of view, counter-clockwise from +x, or clockwise from north in WGS-84.
        timestamp_s: when the frame was taken, s.
        image: the frame's file, as its source named it.
        traverse: the drive that the frame belongs to.
        id: assigned by the map; None before that.

    Raises:
        MapError: a number is not finite, or `position` does not have two or three of them.
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
            try:
                object.__setattr__(self, "position", as_position(self.position))
            except UsageError as error:
                raise MapError(f"place {self.name!r}: {error}") from None

    def _finite(self, what: str, value: float) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise MapError(f"place {self.name!r}: {what} has the value {value!r}, expected a finite number")
        return number

    @classmethod
    def from_frame(cls, info: FrameInfo) -> Place:
        """The place that a frame shows, before the map has given it an id."""
        return cls(info.name, info.position, info.heading_deg, info.timestamp_s, info.image, info.traverse)

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
        timings_ms: milliseconds by stage (prepare, infer, normalize, search, lookup, and "apart" with `apart_m`) and
            in total.
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

    def to_record(self) -> dict[str, Any]:
        """Plain values for JSON: similarities rounded to 1e-6, milliseconds to 1e-4."""
        return {
            "known": self.known,
            "probability": self.probability,
            "reason": self.reason,
            "matches": [
                {
                    "id": match.place.id,
                    "name": match.place.label,
                    "similarity": round(match.similarity, 6),
                    "position": match.place.position,
                    "heading_deg": match.place.heading_deg,
                }
                for match in self.matches
            ],
            "timings_ms": {stage: round(ms, 4) for stage, ms in self.timings_ms.items()},
        }
