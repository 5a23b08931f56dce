"""The cross-section of a street, and the names of its two sides.

Metres from the middle:  0 ── lane ── lane edge ── parked cars ── kerb ── pavement ── houses
"""

from __future__ import annotations

from dataclasses import dataclass

from .quads import Colour, Span

__all__ = ["ASPHALT", "PAINT", "SLABS", "STEEL", "Section", "across", "from_street", "street_ends"]

BEFORE_M, BEYOND_M = 30.0, 190.0

ASPHALT: Colour = (98, 98, 100)
PAINT: Colour = (214, 212, 204)
SLABS: Colour = (152, 148, 142)
STEEL: Colour = (84, 88, 90)


@dataclass(frozen=True)
class Section:
    """Distances from the middle of the street, metres, the same on both sides."""

    lane_edge_m: float = 3.5
    kerb_m: float = 5.6
    house_line_m: float = 8.6


def street_ends(length_m: float) -> Span:
    """First and last x of the objects: before the first pose, and beyond the view of the last."""
    return -BEFORE_M, length_m + BEYOND_M


def across(side: float, near: float, far: float) -> Span:
    """Convert distances from the middle of the street to y, on one side."""
    return (near, far) if side > 0 else (-far, -near)


def from_street(span: Span, side: float) -> Span:
    """The ends of a span of x, the left one first, seen from the street."""
    return span if side > 0 else (span[1], span[0])
