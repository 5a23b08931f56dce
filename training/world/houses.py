"""Houses with their protruding parts, and the gardens between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .facades import FacadeStyle, facade, side_wall
from .light import Light
from .quads import Colour, Layer, QuadsBuilder, Span
from .section import across, from_street
from .textures import ACCENTS, hedge, shade, striped, tree

__all__ = ["lay_garden", "lay_house", "vary"]

HOUSE_DEPTH_M = 10.0


def lay_house(
    street: QuadsBuilder,
    rng: np.random.Generator,
    style: FacadeStyle,
    house: Span,
    side: float,
    line_m: float,
    *,
    plain_sides: bool = False,
) -> None:
    """Add a house with its front on the house line or up to 0.8 m behind it.

    Args:
        street: to add to.
        rng: for details outside the style.
        style: of the house.
        house: its ends along the street.
        side: 1 on the left, -1 on the right.
        line_m: distance of the house line from the middle of the street.
        plain_sides: no texture on the sides, for use where neighbours hide them.
    """
    x0, x1 = house
    front = side * (line_m + rng.uniform(0.0, 0.8))
    back, tall = front + side * HOUSE_DEPTH_M, style.height_m
    light = Light.MINUS_Y if side > 0 else Light.PLUS_Y
    left, right = from_street((x0, x1), side)
    street.begin(Layer.BUILDINGS, 0.5 * (x0 + x1), front)
    for x, near, far in ((left, back, front), (right, front, back)):
        if plain_sides:
            street.wall((x, near), (x, far), (0.0, tall), "building", shade(style.wall, 0.86))
            continue
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
        out = across(side, abs(front) - 0.15 - deep, abs(front) - 0.15)
        colour = shade(ACCENTS[rng.integers(len(ACCENTS))], 1.2)
        lit = Light.LAMP if rng.random() < 0.3 else None
        board = (low, low + rng.uniform(0.7, 2.2))
        street.box((x - 0.08, x + 0.08), out, board, "building", colour, lit)


def _lay_awning(
    street: QuadsBuilder, rng: np.random.Generator, colour: Colour, house: Span, front: float, side: float
) -> None:
    width = min(rng.uniform(3.0, 6.0), house[1] - house[0] - 0.6)
    start = rng.uniform(house[0] + 0.3, house[1] - width - 0.3)
    left, right = from_street((start, start + width), side)
    edge, high, low = front - side * 1.2, 2.9, 2.3
    cloth = striped(width, colour, "building", Light.UP)
    street.quad(
        [(left, front, high), (right, front, high), (right, edge, low), (left, edge, low)],
        "building",
        texture=cloth,
    )


def lay_garden(
    street: QuadsBuilder, rng: np.random.Generator, x0: float, x1: float, side: float, line_m: float
) -> None:
    """Add a gap between houses: a lawn and trees behind a wall, a fence or a hedge."""
    behind = line_m - 8.6
    left, right = from_street((x0, x1), side)
    light = Light.MINUS_Y if side > 0 else Light.PLUS_Y
    middle = 0.5 * (x0 + x1)
    for depth in (16.0, 13.0):
        y = side * (depth + behind)
        wide, tall = rng.uniform(5.0, 6.5), rng.uniform(6.0, 9.0)
        x = middle + rng.uniform(-1.5, 1.5)
        street.begin(Layer.BUILDINGS, x, y)
        street.billboard(x, y, wide, tall, tree(rng, wide, tall), "vegetation")
    front = side * (line_m + 0.4)
    street.begin(Layer.BUILDINGS, middle, front)
    kind = rng.random()
    if kind < 0.4:
        texture = hedge(rng, x1 - x0, 1.5, light)
        street.wall((left, front), (right, front), (0.0, 1.5), "vegetation", texture=texture)
    elif kind < 0.7:
        street.wall((left, front), (right, front), (0.0, 1.9), "wall", shade((150, 132, 112), rng.uniform(0.8, 1.1)))
    else:
        for post in np.arange(x0, x1, 0.5):
            left, right = from_street((post, post + 0.3), side)
            street.wall((left, front), (right, front), (0.0, 1.4), "fence", (112, 88, 66))


def vary(rng: np.random.Generator, style: FacadeStyle) -> FacadeStyle:
    """A neighbouring house: the same style in another colour."""
    storeys = min(max(style.storeys + int(rng.integers(-1, 2)), 2), 6)
    accent = ACCENTS[rng.integers(len(ACCENTS))] if rng.random() < 0.5 else style.accent
    shops = style.shops if rng.random() < 0.8 else not style.shops
    return replace(style, wall=shade(style.wall, rng.uniform(0.88, 1.1)), storeys=storeys, accent=accent, shops=shops)
