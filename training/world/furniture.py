"""Street furniture: lamps, signs, traffic lights."""

from __future__ import annotations

import numpy as np

from .light import Light
from .quads import Layer, QuadsBuilder
from .section import PAINT, STEEL, across
from .textures import ACCENTS, shade, sign

__all__ = ["lay_bench", "lay_column", "lay_crossing", "lay_lamp", "lay_shelter", "lay_sign"]


def lay_lamp(street: QuadsBuilder, x: float, y: float, side: float) -> None:
    street.begin(Layer.THINGS, x, y)
    street.box((x - 0.07, x + 0.07), (y - 0.07, y + 0.07), (0.0, 6.0), "pole", STEEL)
    street.box((x - 0.04, x + 0.04), across(side, abs(y) - 1.3, abs(y)), (5.92, 6.0), "pole", STEEL)
    head = across(side, abs(y) - 1.5, abs(y) - 0.8)
    street.box((x - 0.15, x + 0.15), head, (5.8, 5.95), "pole", (206, 204, 196), Light.LAMP)


def lay_sign(street: QuadsBuilder, rng: np.random.Generator, x: float, y: float) -> None:
    street.begin(Layer.THINGS, x, y)
    street.box((x - 0.04, x + 0.04), (y - 0.04, y + 0.04), (0.0, 2.9), "pole", STEEL)
    front = sign(rng, Light.MINUS_X)
    street.wall((x - 0.05, y + 0.35), (x - 0.05, y - 0.35), (2.2, 2.9), "traffic sign", texture=front)


def lay_crossing(street: QuadsBuilder, x: float, kerb_m: float) -> None:
    """Zebra stripes and a pair of traffic lights."""
    street.begin(Layer.GROUND, x, 0.0)
    for y in np.arange(-kerb_m + 0.3, kerb_m - 0.3, 1.0):
        street.flat((x, x + 3.0), (y, y + 0.5), "road", PAINT)
    for side in (1.0, -1.0):
        y = side * (kerb_m + 0.3)
        street.begin(Layer.THINGS, x - 0.5, y)
        street.box((x - 0.56, x - 0.44), (y - 0.06, y + 0.06), (0.0, 3.2), "pole", STEEL)
        street.box((x - 0.65, x - 0.4), (y - 0.16, y + 0.16), (2.2, 3.2), "traffic light", (34, 36, 36))
        for bottom, colour in ((2.88, (200, 48, 40)), (2.58, (90, 74, 28)), (2.28, (24, 70, 44))):
            left, right = (x - 0.66, y + 0.1), (x - 0.66, y - 0.1)
            lit = Light.LAMP if bottom > 2.8 else None  # always red
            street.wall(left, right, (bottom, bottom + 0.2), "traffic light", colour, light=lit)


def lay_shelter(street: QuadsBuilder, rng: np.random.Generator, x: float, side: float, kerb_m: float) -> None:
    """A bus shelter: a roof, a glass back, a poster at the end."""
    near, far = kerb_m + 0.6, kerb_m + 1.9
    street.begin(Layer.THINGS, x + 1.6, side * far)
    ys = across(side, near, far)
    colour = shade(ACCENTS[rng.integers(len(ACCENTS))], 0.7)
    for post in (x, x + 3.2):
        street.box((post - 0.05, post + 0.05), across(side, far - 0.1, far), (0.0, 2.4), "building", STEEL)
    street.wall((x, ys[1]), (x, ys[0]), (0.3, 2.2), "building", shade(colour, 1.6), light=Light.LAMP)
    street.box((x - 0.2, x + 3.4), ys, (2.4, 2.55), "building", colour)


def lay_column(street: QuadsBuilder, rng: np.random.Generator, x: float, y: float) -> None:
    """An advertising column or a kiosk."""
    street.begin(Layer.THINGS, x, y)
    half, tall = rng.uniform(0.35, 0.55), rng.uniform(2.4, 3.6)
    body = shade(ACCENTS[rng.integers(len(ACCENTS))], rng.uniform(0.8, 1.5))
    street.box((x - half, x + half), (y - half, y + half), (0.0, tall), "building", body)
    reach = half + 0.12
    street.box((x - reach, x + reach), (y - reach, y + reach), (tall, tall + 0.3), "building", STEEL)


def lay_bench(street: QuadsBuilder, rng: np.random.Generator, x: float, y: float) -> None:
    """A bench or a planted tub."""
    street.begin(Layer.THINGS, x, y)
    if rng.random() < 0.5:
        street.box((x, x + 1.8), (y - 0.25, y + 0.25), (0.35, 0.5), "fence", (112, 84, 60))
        return
    half, tall = rng.uniform(0.4, 0.8), rng.uniform(0.5, 0.8)
    street.box((x - half, x + half), (y - half, y + half), (0.0, tall), "wall", (150, 142, 132))
    street.box((x - half, x + half), (y - half, y + half), (tall, tall + 0.6), "vegetation", (84, 108, 60), Light.SOFT)
