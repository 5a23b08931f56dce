"""What stands in the synthetic street and stays there, as a function of the world's seed.

Another kind of place, a square or a crossing of streets, is another function like `lay_out_street`.

Cross-section, metres from the middle:  0 ── lane ── 3.5 ── parked cars ── 5.6 ── pavement ── 8.6 ── houses
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .facades import FacadeStyle, draw_style, facade, side_wall
from .light import Light
from .quads import Colour, Layer, Quads, QuadsBuilder, Span
from .textures import ACCENTS, hedge, shade, sign, striped, tree

__all__ = ["ASPHALT", "HOUSE_LINE_M", "KERB_M", "PARKING_EVERY_M", "lay_out_street", "street_ends"]

LANE_EDGE_M = 3.5
KERB_M = 5.6
KERB_HEIGHT_M = 0.12
HOUSE_LINE_M = 8.6
HOUSE_DEPTH_M = 10.0
BEFORE_M, BEYOND_M = 30.0, 190.0
STRIP_M = 20.0
CROSSING_EVERY_M = 90.0
LAMP_EVERY_M = 26.0
PARKING_EVERY_M = 6.2

ASPHALT: Colour = (98, 98, 100)
PAINT: Colour = (214, 212, 204)
SLABS: Colour = (152, 148, 142)
STEEL: Colour = (84, 88, 90)


def lay_out_street(seed: int, length_m: float) -> Quads:
    """Ground, houses, trees, lamps and signs of one street along the x axis."""
    rng = np.random.default_rng([seed, 0x57])
    street = QuadsBuilder()
    start, end = street_ends(length_m)
    _lay_ground(street, rng, start, end)
    for side in (1.0, -1.0):
        _lay_houses(street, rng, start, end, side)
        _lay_furniture(street, rng, start, end, side)
    for x in np.arange(start + rng.uniform(20.0, CROSSING_EVERY_M), end, CROSSING_EVERY_M):
        _lay_crossing(street, x)
    return street.finish()


def street_ends(length_m: float) -> Span:
    """First and last x of what is drawn: before the first pose and out of sight of the last."""
    return -BEFORE_M, length_m + BEYOND_M


def _across(side: float, near: float, far: float) -> Span:
    """From distances to the middle of the street to y, on one side of it."""
    return (near, far) if side > 0 else (-far, -near)


def _from_street(span: Span, side: float) -> Span:
    """The ends of a span of x, left one first for somebody who stands in the street."""
    return span if side > 0 else (span[1], span[0])


def _lay_ground(street: QuadsBuilder, rng: np.random.Generator, start: float, end: float) -> None:
    for x in np.arange(start, end, STRIP_M):
        strip = (x, x + STRIP_M)
        street.flat(strip, (-KERB_M, KERB_M), "road", shade(ASPHALT, rng.uniform(0.93, 1.07)))
        for side in (1.0, -1.0):
            pavement = _across(side, KERB_M, HOUSE_LINE_M + 2.0)
            street.flat(strip, pavement, "sidewalk", shade(SLABS, rng.uniform(0.94, 1.06)))
            left, right = _from_street(strip, side)
            kerb = side * KERB_M
            street.wall((left, kerb), (right, kerb), (0.0, KERB_HEIGHT_M), "sidewalk", shade(SLABS, 0.8))
            street.flat(strip, _across(side, LANE_EDGE_M - 0.06, LANE_EDGE_M + 0.06), "road", PAINT)
    for x in np.arange(start, end, 9.0):
        street.flat((x, x + 3.0), (-0.07, 0.07), "road", PAINT)
    for side in (1.0, -1.0):
        for x in np.arange(start, end, PARKING_EVERY_M):
            street.flat((x - 0.05, x + 0.05), _across(side, LANE_EDGE_M, KERB_M), "road", PAINT)
        for x in np.arange(start, end, 1.5):  # joints between slabs
            street.flat((x, x + 0.05), _across(side, KERB_M, HOUSE_LINE_M), "sidewalk", shade(SLABS, 0.82))
    for _ in range(round((end - start) / 6.0)):  # trenches that were filled, manholes
        x, y = rng.uniform(start, end), rng.uniform(-KERB_M + 1.0, KERB_M - 1.0)
        long, wide = (rng.uniform(1.0, 7.0), rng.uniform(0.5, 1.2)) if rng.random() < 0.6 else (0.7, 0.7)
        street.flat((x, x + long), (y - wide / 2, y + wide / 2), "road", shade(ASPHALT, rng.uniform(0.65, 0.9)))


def _lay_houses(street: QuadsBuilder, rng: np.random.Generator, start: float, end: float, side: float) -> None:
    x = start - rng.uniform(0.0, 8.0)
    style, left_in_block = draw_style(rng), 2
    while x < end:
        if left_in_block == 0:
            style, left_in_block = draw_style(rng), int(rng.integers(1, 5))
            if rng.random() < 0.4:
                gap = rng.uniform(5.0, 9.0)
                _lay_garden(street, rng, x, x + gap, side)
                x += gap
        width = rng.uniform(8.0, 14.0)
        _lay_house(street, rng, _vary(rng, style), x, x + width, side)
        x, left_in_block = x + width, left_in_block - 1


def _vary(rng: np.random.Generator, style: FacadeStyle) -> FacadeStyle:
    """A neighbour: the same builder, another coat of paint."""
    storeys = min(max(style.storeys + int(rng.integers(-1, 2)), 2), 6)
    accent = ACCENTS[rng.integers(len(ACCENTS))] if rng.random() < 0.5 else style.accent
    shops = style.shops if rng.random() < 0.8 else not style.shops
    return replace(style, wall=shade(style.wall, rng.uniform(0.88, 1.1)), storeys=storeys, accent=accent, shops=shops)


def _lay_house(
    street: QuadsBuilder, rng: np.random.Generator, style: FacadeStyle, x0: float, x1: float, side: float
) -> None:
    front = side * (HOUSE_LINE_M + rng.uniform(0.0, 0.8))
    back, tall = front + side * HOUSE_DEPTH_M, style.height_m
    light = Light.MINUS_Y if side > 0 else Light.PLUS_Y
    left, right = _from_street((x0, x1), side)
    street.begin(Layer.BUILDINGS, 0.5 * (x0 + x1), front)
    for x, near, far in ((left, back, front), (right, front, back)):
        facing = Light.MINUS_X if x == x0 else Light.PLUS_X
        wall = side_wall(rng, style, HOUSE_DEPTH_M, facing)
        street.wall((x, near), (x, far), (0.0, tall), "building", texture=wall)
    if style.roof_m > 0.0:
        ridge = 0.5 * (front + back)
        top = tall + style.roof_m
        roof = [(left, ridge, top), (right, ridge, top), (right, front, tall), (left, front, tall)]
        street.quad(roof, "building", shade((128, 80, 66), rng.uniform(0.7, 1.1)), light=Light.UP)
    texture = facade(rng, style, x1 - x0, light)
    street.wall((left, front), (right, front), (0.0, tall), "building", texture=texture)
    if style.shops and rng.random() < 0.5:
        _lay_awning(street, rng, style.accent, (x0, x1), front, side)
    if style.shops and rng.random() < 0.6:
        x, deep, low = rng.uniform(x0 + 0.5, x1 - 0.5), rng.uniform(0.6, 1.2), rng.uniform(2.9, 3.3)
        out = _across(side, abs(front) - 0.15 - deep, abs(front) - 0.15)
        colour = shade(ACCENTS[rng.integers(len(ACCENTS))], 1.2)
        lit = Light.LAMP if rng.random() < 0.3 else None
        board = (low, low + rng.uniform(0.7, 2.2))
        street.box((x - 0.08, x + 0.08), out, board, "building", colour, lit)


def _lay_awning(
    street: QuadsBuilder, rng: np.random.Generator, colour: Colour, house: Span, front: float, side: float
) -> None:
    width = min(rng.uniform(3.0, 6.0), house[1] - house[0] - 0.6)
    start = rng.uniform(house[0] + 0.3, house[1] - width - 0.3)
    left, right = _from_street((start, start + width), side)
    edge, high, low = front - side * 1.2, 2.9, 2.3
    cloth = striped(width, colour, "building", Light.UP)
    street.quad(
        [(left, front, high), (right, front, high), (right, edge, low), (left, edge, low)],
        "building",
        texture=cloth,
    )


def _lay_garden(street: QuadsBuilder, rng: np.random.Generator, x0: float, x1: float, side: float) -> None:
    """A gap between houses: a lawn and trees behind a wall, a fence or a hedge."""
    left, right = _from_street((x0, x1), side)
    light = Light.MINUS_Y if side > 0 else Light.PLUS_Y
    middle = 0.5 * (x0 + x1)
    for depth in (16.0, 13.0):
        y = side * depth
        wide, tall = rng.uniform(5.0, 6.5), rng.uniform(6.0, 9.0)
        x = middle + rng.uniform(-1.5, 1.5)
        street.begin(Layer.BUILDINGS, x, y)
        street.billboard(x, y, wide, tall, tree(rng, wide, tall), "vegetation")
    front = side * (HOUSE_LINE_M + 0.4)
    street.begin(Layer.BUILDINGS, middle, front)
    kind = rng.random()
    if kind < 0.4:
        texture = hedge(rng, x1 - x0, 1.5, light)
        street.wall((left, front), (right, front), (0.0, 1.5), "vegetation", texture=texture)
    elif kind < 0.7:
        street.wall((left, front), (right, front), (0.0, 1.9), "wall", shade((150, 132, 112), rng.uniform(0.8, 1.1)))
    else:
        for post in np.arange(x0, x1, 0.5):
            left, right = _from_street((post, post + 0.3), side)
            street.wall((left, front), (right, front), (0.0, 1.4), "fence", (112, 88, 66))


def _lay_furniture(street: QuadsBuilder, rng: np.random.Generator, start: float, end: float, side: float) -> None:
    """Lamps at regular distances; trees and signs where the town thought of it."""
    y = side * (KERB_M + 0.5)
    for x in np.arange(start + (0.0 if side > 0 else LAMP_EVERY_M / 2), end, LAMP_EVERY_M):
        _lay_lamp(street, x + rng.uniform(-1.0, 1.0), y, side)
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
            _lay_sign(street, rng, x, y)


def _lay_lamp(street: QuadsBuilder, x: float, y: float, side: float) -> None:
    street.begin(Layer.THINGS, x, y)
    street.box((x - 0.07, x + 0.07), (y - 0.07, y + 0.07), (0.0, 6.0), "pole", STEEL)
    street.box((x - 0.04, x + 0.04), _across(side, abs(y) - 1.3, abs(y)), (5.92, 6.0), "pole", STEEL)
    head = _across(side, abs(y) - 1.5, abs(y) - 0.8)
    street.box((x - 0.15, x + 0.15), head, (5.8, 5.95), "pole", (206, 204, 196), Light.LAMP)


def _lay_sign(street: QuadsBuilder, rng: np.random.Generator, x: float, y: float) -> None:
    street.begin(Layer.THINGS, x, y)
    street.box((x - 0.04, x + 0.04), (y - 0.04, y + 0.04), (0.0, 2.9), "pole", STEEL)
    front = sign(rng, Light.MINUS_X)
    street.wall((x - 0.05, y + 0.35), (x - 0.05, y - 0.35), (2.2, 2.9), "traffic sign", texture=front)


def _lay_crossing(street: QuadsBuilder, x: float) -> None:
    """Zebra stripes and a pair of traffic lights."""
    street.begin(Layer.GROUND, x, 0.0)
    for y in np.arange(-KERB_M + 0.3, KERB_M - 0.3, 1.0):
        street.flat((x, x + 3.0), (y, y + 0.5), "road", PAINT)
    for side in (1.0, -1.0):
        y = side * (KERB_M + 0.3)
        street.begin(Layer.THINGS, x - 0.5, y)
        street.box((x - 0.56, x - 0.44), (y - 0.06, y + 0.06), (0.0, 3.2), "pole", STEEL)
        street.box((x - 0.65, x - 0.4), (y - 0.16, y + 0.16), (2.2, 3.2), "traffic light", (34, 36, 36))
        for bottom, colour in ((2.88, (200, 48, 40)), (2.58, (90, 74, 28)), (2.28, (24, 70, 44))):
            left, right = (x - 0.66, y + 0.1), (x - 0.66, y - 0.1)
            lit = Light.LAMP if bottom > 2.8 else None  # always red: nobody waits for it
            street.wall(left, right, (bottom, bottom + 0.2), "traffic light", colour, light=lit)
