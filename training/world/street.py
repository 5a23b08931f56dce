"""The fixed objects of a synthetic street, as a function of the world's seed.

This module has the terrace, the simplest kind; `kinds` has the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .facades import draw_style
from .furniture import lay_crossing, lay_lamp, lay_sign
from .ground import lay_ground
from .houses import lay_garden, lay_house, vary
from .quads import Layer, Points, Quads, QuadsBuilder
from .section import Section, street_ends
from .skyline import Skyline
from .textures import tree

__all__ = ["Street", "lay_out_terrace"]

CROSSING_EVERY_M = 90.0
LAMP_EVERY_M = 26.0


@dataclass(frozen=True)
class Street:
    """The fixed objects of a street.

    Attributes:
        quads: of all objects.
        lamps: float64 (n, 2), x and y of the street lamps, metres.
        section: distances of lanes, kerbs and houses.
        skyline: above and between the houses; None for the plain hills of a terrace.
    """

    quads: Quads
    lamps: Points
    section: Section
    skyline: Skyline | None = None


def lay_out_terrace(seed: int, length_m: float) -> Street:
    """Lay out two rows of houses with gardens, trees, lamps and signs along the x axis."""
    rng = np.random.default_rng([seed, 0x57])
    street, section = QuadsBuilder(), Section()
    start, end = street_ends(length_m)
    lay_ground(street, rng, (start, end), section)
    lamps: list[tuple[float, float]] = []
    for side in (1.0, -1.0):
        _lay_houses(street, rng, start, end, side, section)
        lamps += _lay_furniture(street, rng, start, end, side, section)
    for x in np.arange(start + rng.uniform(20.0, CROSSING_EVERY_M), end, CROSSING_EVERY_M):
        lay_crossing(street, x, section.kerb_m)
    return Street(street.finish(), np.array(lamps), section)


def _lay_houses(
    street: QuadsBuilder, rng: np.random.Generator, start: float, end: float, side: float, section: Section
) -> None:
    x = start - rng.uniform(0.0, 8.0)
    style, left_in_block = draw_style(rng), 2
    while x < end:
        if left_in_block == 0:
            style, left_in_block = draw_style(rng), int(rng.integers(1, 5))
            if rng.random() < 0.4:
                gap = rng.uniform(5.0, 9.0)
                lay_garden(street, rng, x, x + gap, side, section.house_line_m)
                x += gap
        width = rng.uniform(8.0, 14.0)
        lay_house(street, rng, vary(rng, style), (x, x + width), side, section.house_line_m)
        x, left_in_block = x + width, left_in_block - 1


def _lay_furniture(
    street: QuadsBuilder, rng: np.random.Generator, start: float, end: float, side: float, section: Section
) -> list[tuple[float, float]]:
    """Lay lamps at regular distances, and trees and signs at random. Returns the lamps' x and y."""
    y = side * (section.kerb_m + 0.5)
    lamps = []
    for x in np.arange(start + (0.0 if side > 0 else LAMP_EVERY_M / 2), end, LAMP_EVERY_M):
        at = x + rng.uniform(-1.0, 1.0)
        lay_lamp(street, at, y, side)
        lamps.append((float(at), y))
    planted = False
    x = start
    while x < end:
        x += rng.uniform(7.0, 11.0)
        if rng.random() < 0.25:  # rows of trees begin and end
            planted = not planted
        if planted and rng.random() < 0.8:
            wide, tall = rng.uniform(3.2, 4.8), rng.uniform(5.0, 7.5)
            street.begin(Layer.THINGS, x, y)
            street.billboard(x, y, wide, tall, tree(rng, wide, tall), "vegetation")
        elif rng.random() < 0.25:
            lay_sign(street, rng, x, y)
    return lamps
