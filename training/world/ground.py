"""The ground: asphalt, paint, kerbs, slabs."""

from __future__ import annotations

import numpy as np

from .quads import Layer, QuadsBuilder, Span
from .section import ASPHALT, PAINT, SLABS, Section, across, from_street
from .textures import shade

__all__ = ["PARKING_EVERY_M", "lay_ground"]

STRIP_M = 20.0
KERB_HEIGHT_M = 0.12
PARKING_EVERY_M = 6.2


def lay_ground(street: QuadsBuilder, rng: np.random.Generator, span: Span, section: Section) -> None:
    """Lay the carriageway with markings, the parking bays and the pavements."""
    start, end = span
    street.begin(Layer.GROUND, 0.0, 0.0)
    kerb_m, edge_m = section.kerb_m, section.lane_edge_m
    for x in np.arange(start, end, STRIP_M):
        strip = (x, x + STRIP_M)
        street.flat(strip, (-kerb_m, kerb_m), "road", shade(ASPHALT, rng.uniform(0.93, 1.07)))
        for side in (1.0, -1.0):
            pavement = across(side, kerb_m, section.house_line_m + 2.0)
            street.flat(strip, pavement, "sidewalk", shade(SLABS, rng.uniform(0.94, 1.06)))
            left, right = from_street(strip, side)
            kerb = side * kerb_m
            street.wall((left, kerb), (right, kerb), (0.0, KERB_HEIGHT_M), "sidewalk", shade(SLABS, 0.8))
            street.flat(strip, across(side, edge_m - 0.06, edge_m + 0.06), "road", PAINT)
    for x in np.arange(start, end, 9.0):
        street.flat((x, x + 3.0), (-0.07, 0.07), "road", PAINT)
    for side in (1.0, -1.0):
        for x in np.arange(start, end, PARKING_EVERY_M):
            street.flat((x - 0.05, x + 0.05), across(side, edge_m, kerb_m), "road", PAINT)
        for x in np.arange(start, end, 1.5):  # joints between slabs
            street.flat((x, x + 0.05), across(side, kerb_m, section.house_line_m), "sidewalk", shade(SLABS, 0.82))
    for _ in range(round((end - start) / 6.0)):  # filled trenches, manholes
        x, y = rng.uniform(start, end), rng.uniform(-kerb_m + 1.0, kerb_m - 1.0)
        long, wide = (rng.uniform(1.0, 7.0), rng.uniform(0.5, 1.2)) if rng.random() < 0.6 else (0.7, 0.7)
        street.flat((x, x + long), (y - wide / 2, y + wide / 2), "road", shade(ASPHALT, rng.uniform(0.65, 0.9)))
