"""Plots: what stands on one side of a street, from the pavement to the back.

Each function lays one plot from `x` on and returns its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .facades import FacadeStyle, draw_style
from .fronts import blank_front, office_front
from .houses import lay_garden, lay_house, vary
from .landmarks import lay_monument, lay_tower
from .light import Light
from .quads import Layer, QuadsBuilder, Texture
from .section import ASPHALT, SLABS, Section, across, from_street
from .textures import conifer, hedge, shade, tree

__all__ = ["PLOTS", "Side", "draw_trees"]

TREES = 10  # textures per street
LAWN = (112, 126, 84)


@dataclass
class Side:
    """One side of a street, during layout.

    Attributes:
        street: to add to.
        rng: of this side.
        section: of the street.
        side: 1 on the left, -1 on the right.
        storeys: minimum and maximum of its houses.
        hall: texture that all halls of the street share, so that they look alike.
        trees: the few tree textures of the street, with width and height in metres.
    """

    street: QuadsBuilder
    rng: np.random.Generator
    section: Section
    side: float
    storeys: tuple[int, int]
    hall: Texture
    hall_height_m: float
    trees: list[tuple[Texture, float, float]]

    @property
    def line_m(self) -> float:
        return self.section.house_line_m

    @property
    def light(self) -> Light:
        return Light.MINUS_Y if self.side > 0 else Light.PLUS_Y

    def style(self) -> FacadeStyle:
        """Draw the style of a block, within `storeys`."""
        low, high = self.storeys
        return replace(draw_style(self.rng), storeys=int(self.rng.integers(low, high + 1)))

    def ground(self, x0: float, x1: float, deep_m: float, label: str, colour: tuple[int, int, int]) -> None:
        """Add open ground behind the pavement."""
        self.street.begin(Layer.GROUND, x0, 0.0)
        self.street.flat((x0, x1), across(self.side, self.line_m, self.line_m + deep_m), label, colour)

    def front(self, x0: float, x1: float, line_m: float, tall: float, label: str, texture: Texture | None) -> None:
        """Add an upright texture along the street."""
        left, right = from_street((x0, x1), self.side)
        y = self.side * line_m
        self.street.wall((left, y), (right, y), (0.0, tall), label, (150, 146, 140), texture=texture)


def draw_trees(rng: np.random.Generator) -> list[tuple[Texture, float, float]]:
    """Draw the trees of a street: texture, width and height in metres of each."""
    conifers, trees = rng.uniform(0.0, 0.5), []
    for tall in rng.uniform(4.0, 9.0, TREES):
        wide = tall * rng.uniform(0.4, 0.75)
        if rng.random() < conifers:
            wide *= 0.7
            trees.append((conifer(rng, wide, tall), wide, tall))
        else:
            trees.append((tree(rng, wide, tall), wide, tall))
    return trees


def _lay_block(side: Side, x: float) -> float:
    """One to four houses of one style."""
    rng, style = side.rng, side.style()
    for index in range(int(rng.integers(1, 5))):
        width = rng.uniform(7.0, 15.0)
        neighbour = replace(vary(rng, style), roof_m=style.roof_m)
        lay_house(side.street, rng, neighbour, (x, x + width), side.side, side.line_m, plain_sides=index > 0)
        x += width
    return x


def _lay_villa(side: Side, x: float) -> float:
    """A detached house behind a hedge, a fence or a wall."""
    rng = side.rng
    wide, before, after, back = (
        rng.uniform(8.0, 13.0),
        rng.uniform(1.5, 5.0),
        rng.uniform(1.5, 6.0),
        rng.uniform(2.5, 8),
    )
    style = replace(side.style(), storeys=int(rng.integers(1, 4)), shops=False, roof_m=float(rng.uniform(1.5, 4.5)))
    end = x + before + wide + after
    side.ground(x, end, back + 14.0, "terrain", shade(LAWN, rng.uniform(0.85, 1.15)))
    house = (x + before, x + before + wide)
    lay_house(side.street, rng, style, house, side.side, side.line_m + back)
    for _ in range(rng.poisson(1.4)):
        _lay_tree(side, rng.uniform(x, end), side.line_m + rng.uniform(1.5, back + 1.0), rng.uniform(3.0, 9.0))
    _lay_boundary(side, x, end)
    return end


def _lay_boundary(side: Side, x0: float, x1: float) -> None:
    rng, line, y = side.rng, side.line_m + 0.3, side.side * (side.line_m + 0.3)
    side.street.begin(Layer.BUILDINGS, 0.5 * (x0 + x1), y)
    kind, tall = rng.random(), rng.uniform(0.8, 2.0)
    if kind < 0.45:
        side.front(x0, x1, line, tall, "vegetation", hedge(rng, x1 - x0, tall, side.light))
    elif kind < 0.7:
        side.front(x0, x1, line, tall, "wall", blank_front(rng, x1 - x0, tall, "wall", side.light))
    elif kind < 0.9:
        side.street.begin(Layer.BUILDINGS, 0.5 * (x0 + x1), y)
        pitch = rng.uniform(0.35, 0.8)
        colour = shade((120, 110, 100), rng.uniform(0.5, 1.5))
        for post in np.arange(x0, x1, pitch):
            left, right = from_street((post, post + 0.55 * pitch), side.side)
            side.street.wall((left, y), (right, y), (0.0, tall), "fence", colour)


def _lay_tree(side: Side, x: float, away_m: float, tall: float) -> None:
    texture, wide, high = side.trees[side.rng.integers(len(side.trees))]
    y = side.side * away_m
    side.street.begin(Layer.BUILDINGS, x, y)
    side.street.billboard(x, y, wide * tall / high, tall, texture, "vegetation")


def _lay_garden(side: Side, x: float) -> float:
    gap = side.rng.uniform(5.0, 9.0)
    side.ground(x, x + gap, 12.0, "terrain", LAWN)
    lay_garden(side.street, side.rng, x, x + gap, side.side, side.line_m)
    return x + gap


def _lay_park(side: Side, x: float) -> float:
    """Lawn, trees, perhaps a monument."""
    rng = side.rng
    end = x + rng.uniform(16.0, 40.0)
    side.ground(x, end, 45.0, "terrain", shade(LAWN, rng.uniform(0.85, 1.15)))
    path = rng.uniform(4.0, 12.0)
    side.street.flat(
        (x, end), across(side.side, side.line_m + path, side.line_m + path + 2.0), "sidewalk", (172, 160, 132)
    )
    for _ in range(int((end - x) / 5.0)):
        _lay_tree(side, rng.uniform(x, end), side.line_m + rng.uniform(2.0, 32.0), rng.uniform(5.0, 14.0))
    if rng.random() < 0.35:
        lay_monument(side.street, rng, 0.5 * (x + end), side.side * (side.line_m + rng.uniform(4.0, 12.0)))
    if rng.random() < 0.6:
        _lay_boundary(side, x, end)
    return end


def _lay_hall(side: Side, x: float) -> float:
    """Identical bays of a factory."""
    rng, tall = side.rng, side.hall_height_m
    wide = side.hall.levels[0].shape[1] / 20.0
    saw = rng.random() < 0.5
    for _ in range(int(rng.integers(2, 5))):
        y0, y1 = side.side * side.line_m, side.side * (side.line_m + 14.0)
        side.street.begin(Layer.BUILDINGS, x + 0.5 * wide, y0)
        side.street.box((x, x + wide), (min(y0, y1), max(y0, y1)), (0.0, tall), "building", (140, 134, 128))
        side.front(x, x + wide, side.line_m, tall, "building", side.hall)
        if saw:
            left, right = from_street((x, x + wide), side.side)
            gable = [(left, y0, tall + 2.4), (right, y0, tall), (right, y0, tall), (left, y0, tall)]
            side.street.quad(gable, "building", (128, 122, 118))
            glass = [(x, max(y0, y1), tall + 2.4), (x, min(y0, y1), tall + 2.4), (x, min(y0, y1), tall)]
            side.street.quad([*glass, (x, max(y0, y1), tall)], "building", (104, 120, 130))
        x += wide
    return x


def _lay_blank(side: Side, x: float) -> float:
    """A long wall, with open ground and perhaps a tree behind it."""
    rng = side.rng
    end, tall = x + rng.uniform(8.0, 26.0), rng.uniform(2.0, 5.5)
    side.ground(x, end, 30.0, "terrain", (132, 124, 108))
    if rng.random() < 0.4:
        _lay_tree(side, rng.uniform(x, end), side.line_m + rng.uniform(3.0, 9.0), rng.uniform(5.0, 11.0))
    while x < end:
        piece = min(end - x, 9.0)
        side.street.begin(Layer.BUILDINGS, x + 0.5 * piece, side.side * side.line_m)
        texture = blank_front(rng, max(piece, 0.5), tall, "wall", side.light)
        side.front(x, x + piece, side.line_m + 0.2, tall, "wall", texture)
        x += piece
    return end


def _lay_yard(side: Side, x: float) -> float:
    """A fence with tanks, containers and vans behind it."""
    rng = side.rng
    end = x + rng.uniform(12.0, 28.0)
    side.ground(x, end, 30.0, "road", shade(ASPHALT, rng.uniform(0.9, 1.3)))
    for _ in range(int(rng.integers(1, 5))):
        at, away = rng.uniform(x + 2.0, end - 3.0), side.line_m + rng.uniform(5.0, 20.0)
        y, wide, tall = side.side * away, rng.uniform(1.2, 3.0), rng.uniform(2.4, 8.0)
        side.street.begin(Layer.BUILDINGS, at, y)
        colour = shade(((160, 70, 50), (60, 90, 130), (190, 190, 186), (90, 120, 90))[rng.integers(4)], 1.0)
        side.street.box((at - wide, at + wide), (y - 1.3, y + 1.3), (0.0, tall), "building", colour)
    y = side.side * (side.line_m + 0.3)
    side.street.begin(Layer.BUILDINGS, 0.5 * (x + end), y)
    for post in np.arange(x, end, 1.2):
        left, right = from_street((post, post + 0.1), side.side)
        side.street.wall((left, y), (right, y), (0.0, 2.2), "fence", (120, 124, 122))
    for z in (0.4, 1.0, 1.6, 2.1):
        left, right = from_street((x, end), side.side)
        side.street.wall((left, y), (right, y), (z, z + 0.07), "fence", (120, 124, 122))
    return end


def _lay_square(side: Side, x: float) -> float:
    """A square: houses further back, and a tower or a monument on the open ground."""
    rng = side.rng
    wide, deep = rng.uniform(18.0, 38.0), rng.uniform(14.0, 30.0)
    end, style = x + wide, side.style()
    side.ground(x, end, deep + 1.0, "sidewalk", shade(SLABS, rng.uniform(0.8, 1.1)))
    at = x
    while at < end:
        width = min(rng.uniform(8.0, 14.0), end - at)
        if width > 7.0:
            house = (at, at + width)
            lay_house(side.street, rng, vary(rng, style), house, side.side, side.line_m + deep, plain_sides=True)
        at += width
    middle, away = x + rng.uniform(0.35, 0.65) * wide, side.line_m + rng.uniform(4.0, 0.6 * deep)
    if rng.random() < 0.3:
        lay_tower(side.street, rng, middle, side.side * (away + 3.0))
    else:
        lay_monument(side.street, rng, middle, side.side * away)
    for _ in range(rng.poisson(2.0)):
        _lay_tree(side, rng.uniform(x, end), side.line_m + rng.uniform(1.0, deep - 2.0), rng.uniform(4.0, 8.0))
    return end


def _lay_office(side: Side, x: float) -> float:
    """One large office block."""
    rng = side.rng
    wide, tall, back = rng.uniform(12.0, 26.0), rng.uniform(11.0, 32.0), rng.uniform(0.0, 4.0)
    y0, y1 = side.side * (side.line_m + back), side.side * (side.line_m + back + 14.0)
    side.ground(x, x + wide, back + 1.0, "sidewalk", SLABS)
    bays = 2
    for bay in range(bays):
        left, right = x + bay * wide / bays, x + (bay + 1) * wide / bays
        side.street.begin(Layer.BUILDINGS, 0.5 * (left + right), y0)
        side.street.box((left, right), (min(y0, y1), max(y0, y1)), (0.0, tall), "building", (138, 136, 134))
        texture = office_front(rng, right - left, tall, side.light)
        side.front(left, right, side.line_m + back, tall, "building", texture)
        if bay == 0:
            flank = office_front(rng, 14.0, tall, Light.MINUS_X)
            side.street.wall((x, max(y0, y1)), (x, min(y0, y1)), (0.0, tall), "building", texture=flank)
    return x + wide


def _lay_opening(side: Side, x: float) -> float:
    """The visible part of a side street."""
    rng = side.rng
    wide, deep = rng.uniform(7.0, 13.0), rng.uniform(25.0, 60.0)
    end = x + wide
    side.street.begin(Layer.GROUND, x, 0.0)
    away = across(side.side, side.section.kerb_m, side.line_m + deep)
    side.street.flat((x, end), away, "road", shade(ASPHALT, rng.uniform(0.93, 1.07)))
    for edge in ((x, x + 1.8), (end - 1.8, end)):
        pavement = across(side.side, side.line_m, side.line_m + deep)
        side.street.flat(edge, pavement, "sidewalk", shade(SLABS, rng.uniform(0.94, 1.06)))
    style = side.style()
    y = side.side * (side.line_m + deep)
    side.street.begin(Layer.BUILDINGS, 0.5 * (x + end), y)
    side.front(x - 3.0, end + 3.0, side.line_m + deep, style.height_m, "building", None)
    return end


PLOTS: dict[str, Callable[[Side, float], float]] = {
    "block": _lay_block,
    "villa": _lay_villa,
    "garden": _lay_garden,
    "park": _lay_park,
    "hall": _lay_hall,
    "blank": _lay_blank,
    "yard": _lay_yard,
    "square": _lay_square,
    "office": _lay_office,
    "opening": _lay_opening,
}
