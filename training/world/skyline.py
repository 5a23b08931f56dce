"""The skyline: distant hills, roofs and towers as outlines around the horizon."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .quads import Colour, Floats

__all__ = ["BINS", "Skyline", "draw_skyline"]

BINS = 4096  # of azimuth, 360 degrees


@dataclass(frozen=True)
class Skyline:
    """Heights over the horizon by azimuth: bin i of `BINS` is at 2 pi i / BINS, counter-clockwise from +x.

    Attributes:
        hills: float32 (BINS,), tangent of the angle over the horizon.
        roofs: float32 (BINS,), the same for the town in front of the hills; 0 where there is none.
        hill: colour of the hills.
        roof: colour of the town.
    """

    hills: Floats
    roofs: Floats
    hill: Colour
    roof: Colour


def draw_skyline(rng: np.random.Generator) -> Skyline:
    """Draw a skyline: flat land or mountains, with or without a town."""
    azimuths = np.arange(BINS) * (2.0 * math.pi / BINS)
    steepness = rng.uniform(0.01, 0.09)
    hills = np.full(BINS, rng.uniform(0.03, 0.10))
    for k in (2, 3, 5, 8, 13, 21):
        hills += steepness * k**-0.7 * np.sin(k * azimuths + rng.uniform(0.0, 2.0 * math.pi))
    roofs = np.zeros(BINS)
    for _ in range(int(rng.integers(0, 60))):
        at, wide = int(rng.integers(BINS)), int(rng.integers(8, 60))
        roofs[(at + np.arange(wide)) % BINS] = rng.uniform(0.03, 0.11)
    for _ in range(int(rng.integers(0, 14))):  # chimneys, blocks of flats, spires
        at, wide, tall = int(rng.integers(BINS)), int(rng.integers(6, 34)), rng.uniform(0.1, 0.28)
        profile = np.full(wide, tall)
        if rng.random() < 0.4:
            profile *= 1.0 - np.abs(np.linspace(-1.0, 1.0, wide)) * 0.9
        where = (at + np.arange(wide)) % BINS
        roofs[where] = np.maximum(roofs[where], profile)
    green = rng.uniform(0.7, 1.2)
    return Skyline(
        np.maximum(hills, 0.01).astype(np.float32),
        roofs.astype(np.float32),
        (round(74 * green), round(92 * green), round(70 * green)),
        (118, 116, 120),
    )
