"""Landmarks: towers, chimneys and cranes behind the houses, monuments, and what spans the street."""

from __future__ import annotations

import math

import numpy as np

from .facades import WALLS
from .fronts import CONCRETE, blank_front, church_front, office_front
from .light import Light
from .quads import Colour, Layer, QuadsBuilder, Span
from .section import STEEL
from .textures import shade

__all__ = ["lay_bridge", "lay_end_building", "lay_monument", "lay_tower"]

ROOFS: tuple[Colour, ...] = ((92, 116, 104), (120, 74, 60), (70, 74, 82))


def lay_tower(street: QuadsBuilder, rng: np.random.Generator, x: float, y: float) -> None:
    """A tall building behind the houses or on a square: church, block of flats, chimney, tank, mast."""
    street.begin(Layer.BUILDINGS, x, y)
    kind = int(rng.integers(5))
    if kind == 0:
        _lay_church(street, rng, x, y)
    elif kind == 1:
        wide, deep, tall = rng.uniform(9.0, 22.0), rng.uniform(9.0, 14.0), rng.uniform(22.0, 48.0)
        _lay_block(street, rng, (x, x + wide), (y - deep / 2, y + deep / 2), tall)
    elif kind == 2:
        wide, tall = rng.uniform(1.2, 2.2), rng.uniform(24.0, 46.0)
        brick = shade((150, 90, 74), rng.uniform(0.8, 1.1))
        street.box((x - wide, x + wide), (y - wide, y + wide), (0.0, 0.6 * tall), "building", brick)
        narrow = 0.7 * wide
        street.box((x - narrow, x + narrow), (y - narrow, y + narrow), (0.6 * tall, tall), "building", brick)
        street.box((x - narrow, x + narrow), (y - narrow, y + narrow), (tall, tall + 1.2), "building", (214, 208, 200))
    elif kind == 3:
        leg, tall, wide = 0.4, rng.uniform(16.0, 26.0), rng.uniform(3.0, 5.0)
        colour = shade(CONCRETE[rng.integers(len(CONCRETE))], 1.1)
        for dx in (-0.8 * wide, 0.8 * wide):
            for dy in (-0.8 * wide, 0.8 * wide):
                legs = ((x + dx - leg, x + dx + leg), (y + dy - leg, y + dy + leg))
                street.box(*legs, (0.0, tall), "building", shade(STEEL, 1.2))
        street.box((x - wide, x + wide), (y - wide, y + wide), (tall, tall + 1.3 * wide), "building", colour)
        _lay_spire(street, (x - wide, x + wide), (y - wide, y + wide), (tall + 1.3 * wide, tall + 2.0 * wide), colour)
    else:
        tall, wide = rng.uniform(24.0, 40.0), 0.35
        colour = (206, 160, 52) if rng.random() < 0.5 else (176, 60, 52)
        street.box((x - wide, x + wide), (y - wide, y + wide), (0.0, tall), "building", colour)
        arm = rng.uniform(10.0, 24.0) * rng.choice((-1.0, 1.0))
        ys = (min(y - 0.35 * arm, y + arm), max(y - 0.35 * arm, y + arm))
        street.box((x - 0.3, x + 0.3), ys, (tall - 1.2, tall - 0.3), "building", colour)


def lay_monument(street: QuadsBuilder, rng: np.random.Generator, x: float, y: float) -> None:
    """A column, a rider, a fountain or a pavilion on open ground."""
    street.begin(Layer.BUILDINGS, x, y)
    stone = shade((176, 170, 158), rng.uniform(0.75, 1.1))
    kind, wide = int(rng.integers(4)), rng.uniform(1.2, 2.2)
    _lay_cube(street, x, y, wide * 1.5, (0.0, 0.5), shade(stone, 0.9))
    if kind == 0:
        tall = rng.uniform(7.0, 16.0)
        _lay_cube(street, x, y, wide, (0.5, 2.6), stone)
        _lay_cube(street, x, y, 0.45 * wide, (2.6, tall), stone)
        _lay_spire(
            street,
            (x - 0.45 * wide, x + 0.45 * wide),
            (y - 0.45 * wide, y + 0.45 * wide),
            (tall, tall + 1.6),
            stone,
        )
    elif kind == 1:
        bronze = (74, 92, 80)
        tall = rng.uniform(2.0, 3.5)
        _lay_cube(street, x, y, wide, (0.5, tall), stone)
        street.box((x - 0.5, x + 0.5), (y - 1.4, y + 1.2), (tall + 1.1, tall + 2.0), "building", bronze)
        for dy in (-1.2, 1.0):
            street.box((x - 0.4, x + 0.4), (y + dy - 0.15, y + dy + 0.15), (tall, tall + 1.1), "building", bronze)
        street.box((x - 0.3, x + 0.3), (y - 0.3, y + 0.4), (tall + 2.0, tall + 3.3), "building", bronze)
    elif kind == 2:
        _lay_cube(street, x, y, 2.2 * wide, (0.0, 0.8), stone)
        _lay_cube(street, x, y, 0.3 * wide, (0.8, 2.6), stone)
        _lay_cube(street, x, y, wide, (2.6, 2.9), stone)
        _lay_cube(street, x, y, 0.25, (2.9, rng.uniform(4.0, 7.0)), (206, 216, 224))
    else:
        tall = rng.uniform(3.0, 4.2)
        for dx in (-wide, wide):
            for dy in (-wide, wide):
                _lay_cube(street, x + dx, y + dy, 0.2, (0.5, tall), stone)
        roof = ROOFS[rng.integers(len(ROOFS))]
        reach = 1.4 * wide
        _lay_spire(street, (x - reach, x + reach), (y - reach, y + reach), (tall, tall + 2.0), roof)


def lay_bridge(street: QuadsBuilder, rng: np.random.Generator, x: float, house_line_m: float) -> None:
    """A footbridge or a railway across the street."""
    low, tall, deep = rng.uniform(4.8, 6.5), rng.uniform(0.9, 2.4), rng.uniform(2.5, 8.0)
    colour = shade(CONCRETE[rng.integers(len(CONCRETE))], rng.uniform(0.6, 1.0))
    half = house_line_m + 6.0
    street.begin(Layer.THINGS, x + 0.5 * deep, 0.0)
    # Visible from below; a box has no underside.
    under = [(x, half, low), (x + deep, half, low), (x + deep, -half, low), (x, -half, low)]
    street.quad(under, "building", shade(colour, 0.45), light=Light.MINUS_X)
    for side in (1.0, -1.0):
        y = side * (house_line_m - 0.8)
        street.box((x, x + deep), (min(y - 0.4, y + 0.4), max(y - 0.4, y + 0.4)), (0.0, low), "building", colour)
    street.wall((x, half), (x, -half), (low, low + tall), "building", colour)
    for y in np.arange(-half, half, 2.5):
        street.wall((x - 0.02, y + 0.15), (x - 0.02, y), (low, low + tall), "building", shade(colour, 0.7))


def lay_end_building(street: QuadsBuilder, rng: np.random.Generator, x: float, half_m: float) -> None:
    """A house, an office or a church that closes the view at a junction."""
    street.begin(Layer.BUILDINGS, x, 0.0)
    shift = rng.uniform(-6.0, 6.0)
    if rng.random() < 0.35:
        _lay_church(street, rng, x + 4.0, shift)
        street.begin(Layer.BUILDINGS, x + 12.0, 0.0)
    tall = rng.uniform(7.0, 24.0)
    half = half_m + 25.0
    front = office_front if rng.random() < 0.6 else None
    for y in np.arange(-half, half, 16.0):
        high = tall + rng.uniform(-3.0, 3.0)
        texture = (
            blank_front(rng, 16.0, high, "building", Light.MINUS_X)
            if front is None
            else front(rng, 16.0, high, Light.MINUS_X)
        )
        street.begin(Layer.BUILDINGS, x + 12.0, y + 8.0)
        street.wall((x + 12.0, y + 16.0), (x + 12.0, y), (0.0, high), "building", texture=texture)


def _lay_church(street: QuadsBuilder, rng: np.random.Generator, x: float, y: float) -> None:
    wall = shade(WALLS[rng.integers(len(WALLS))], rng.uniform(0.8, 1.05))
    roof = ROOFS[rng.integers(len(ROOFS))]
    half, tall, spire = rng.uniform(2.4, 4.0), rng.uniform(18.0, 32.0), rng.uniform(4.0, 18.0)
    nave, eaves = rng.uniform(9.0, 16.0), rng.uniform(8.0, 12.0)
    towards = -math.copysign(1.0, y) if abs(y) > 8.0 else 0.0
    light = Light.MINUS_Y if y > 0 else Light.PLUS_Y
    _lay_block(street, rng, (x + half, x + half + 1.6 * nave), (y - 0.5 * nave, y + 0.5 * nave), eaves, wall)
    ends = ((x + half, y), (x + half + 1.6 * nave, y))
    for sign in (1.0, -1.0):
        edge = y + sign * 0.5 * nave
        left, right = (ends[1][0], ends[0][0]) if sign > 0 else (ends[0][0], ends[1][0])
        slope = [
            (left, y, eaves + 0.5 * nave),
            (right, y, eaves + 0.5 * nave),
            (right, edge, eaves),
            (left, edge, eaves),
        ]
        street.quad(slope, "building", roof, light=Light.UP)
    gable = ((x + half - 0.01), eaves)
    street.quad(
        [
            (gable[0], y, eaves + 0.5 * nave),
            (gable[0], y - 0.5 * nave, eaves),
            (gable[0], y - 0.5 * nave, eaves),
            (gable[0], y + 0.5 * nave, eaves),
        ],
        "building",
        wall,
    )
    xs, ys = (x - half, x + half), (y - half, y + half)
    street.box(xs, ys, (0.0, tall), "building", wall)
    front = church_front(rng, 2.0 * half, tall, Light.MINUS_X, wall)
    street.wall((xs[0], ys[1]), (xs[0], ys[0]), (0.0, tall), "building", texture=front)
    if towards != 0.0:
        edge = ys[1] if towards > 0 else ys[0]
        left, right = (xs[1], xs[0]) if towards > 0 else (xs[0], xs[1])
        side = church_front(rng, 2.0 * half, tall, light, wall)
        street.wall((left, edge), (right, edge), (0.0, tall), "building", texture=side)
    _lay_spire(street, xs, ys, (tall, tall + spire), roof)


def _lay_block(
    street: QuadsBuilder, rng: np.random.Generator, xs: Span, ys: Span, tall: float, wall: Colour | None = None
) -> None:
    """Four walls and a flat roof. Walls that face the street have windows unless a colour is given."""
    if wall is not None:
        street.box(xs, ys, (0.0, tall), "building", wall)
        return
    street.box(xs, ys, (0.0, tall), "building", CONCRETE[rng.integers(len(CONCRETE))])
    front = office_front(rng, ys[1] - ys[0], tall, Light.MINUS_X)
    street.wall((xs[0], ys[1]), (xs[0], ys[0]), (0.0, tall), "building", texture=front)
    if ys[0] > 0.0:
        side = office_front(rng, xs[1] - xs[0], tall, Light.MINUS_Y)
        street.wall((xs[0], ys[0]), (xs[1], ys[0]), (0.0, tall), "building", texture=side)
    else:
        side = office_front(rng, xs[1] - xs[0], tall, Light.PLUS_Y)
        street.wall((xs[1], ys[1]), (xs[0], ys[1]), (0.0, tall), "building", texture=side)


def _lay_cube(street: QuadsBuilder, x: float, y: float, half: float, zs: Span, colour: Colour) -> None:
    street.box((x - half, x + half), (y - half, y + half), zs, "building", colour)


def _lay_spire(street: QuadsBuilder, xs: Span, ys: Span, zs: Span, colour: Colour) -> None:
    """Four triangles that meet in a point, as quads with two equal corners."""
    (x0, x1), (y0, y1), (low, top) = xs, ys, zs
    apex = (0.5 * (x0 + x1), 0.5 * (y0 + y1), top)
    corners = {"-x": ((x0, y0), (x0, y1)), "+x": ((x1, y1), (x1, y0)), "-y": ((x1, y0), (x0, y0))}
    corners["+y"] = ((x0, y1), (x1, y1))
    shades = {"-x": 1.0, "+x": 0.9, "-y": 0.85, "+y": 0.95}
    for name, (right, left) in corners.items():
        street.quad([apex, (*right, low), (*right, low), (*left, low)], "building", shade(colour, shades[name]))
