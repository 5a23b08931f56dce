"""What comes and goes between two drives through the same street: parked cars and people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .light import Light
from .quads import Colour, Layer, Quads, QuadsBuilder, Texture
from .street import ASPHALT, HOUSE_LINE_M, KERB_M, PARKING_EVERY_M, street_ends
from .textures import ACCENTS, THING_PX_PER_M, Canvas, shade

__all__ = ["lay_out_traffic"]

PARKED_SHARE = 0.4  # of the parking bays
PEOPLE_EVERY_M = 14.0  # on either pavement, on average

CAR_COLOURS: tuple[Colour, ...] = (
    (214, 214, 214),
    (52, 54, 58),
    (128, 132, 136),
    (150, 40, 38),
    (44, 70, 116),
    (232, 230, 224),
    (84, 96, 82),
)


@dataclass(frozen=True)
class CarShape:
    """Side view of a car that drives to the right: (x, z) of the line from tail to nose, metres.

    Attributes:
        outline: upper line; the points before and after the roof are the glass.
        roof: indices of the first and the last point of the roof.
    """

    length_m: float
    width_m: float
    height_m: float
    outline: tuple[tuple[float, float], ...]
    roof: tuple[int, int]


CAR_SHAPES = (
    CarShape(4.5, 1.8, 1.46, ((0.0, 0.9), (0.7, 0.98), (1.25, 1.46), (2.6, 1.44), (3.3, 0.96), (4.4, 0.76)), (2, 3)),
    CarShape(3.9, 1.74, 1.5, ((0.0, 0.85), (0.1, 0.98), (0.5, 1.5), (2.3, 1.5), (3.0, 0.98), (3.85, 0.78)), (2, 3)),
    CarShape(5.1, 1.95, 2.1, ((0.0, 1.0), (0.05, 1.1), (0.15, 2.1), (3.6, 2.1), (4.3, 1.12), (5.05, 0.9)), (2, 3)),
)


def lay_out_traffic(seed: int, traverse_seed: int, length_m: float) -> Quads:
    """Parked cars and people: other ones on every traverse."""
    rng = np.random.default_rng([seed, traverse_seed, 0x7A])
    traffic = QuadsBuilder()
    start, end = street_ends(length_m)
    for side in (1.0, -1.0):
        for x in np.arange(start, end, PARKING_EVERY_M):
            if rng.random() < PARKED_SHARE:
                _park_car(traffic, rng, x + rng.uniform(0.0, 1.0), side * rng.uniform(4.4, 4.5), side)
        for x in rng.uniform(start, end, round((end - start) / PEOPLE_EVERY_M)):
            y = side * rng.uniform(KERB_M + 0.4, HOUSE_LINE_M - 0.6)
            tall = rng.uniform(1.55, 1.9)
            traffic.begin(Layer.THINGS, x, y)
            traffic.billboard(x, y, tall * 0.8 / 1.8, tall, _person(rng), "person")
    return traffic.finish()


def _park_car(traffic: QuadsBuilder, rng: np.random.Generator, x: float, y: float, side: float) -> None:
    """At the kerb; on the left it has come from the other direction."""
    shape = CAR_SHAPES[rng.choice(len(CAR_SHAPES), p=[0.45, 0.4, 0.15])]
    colour = CAR_COLOURS[rng.integers(len(CAR_COLOURS))]
    ahead = side < 0
    half = 0.5 * shape.width_m
    traffic.begin(Layer.GROUND, x, y)
    shadow = ((x - 0.1, x + shape.length_m + 0.1), (y - half, y + half))
    traffic.flat(*shadow, "road", shade(ASPHALT, 0.4))
    traffic.begin(Layer.THINGS, x + 0.5 * shape.length_m, y)

    def along(distance: float) -> float:
        """From the tail to the world's x."""
        return x + distance if ahead else x + shape.length_m - distance

    left, right = (half, -half) if ahead else (-half, half)  # of the car, to the world's y
    first, last = shape.roof
    for index, (x0, z0), (x1, z1) in zip(range(len(shape.outline)), shape.outline, shape.outline[1:], strict=False):
        glass = index in (first - 1, last)
        strip = [
            (along(x1), y + left, z1),
            (along(x1), y + right, z1),
            (along(x0), y + right, z0),
            (along(x0), y + left, z0),
        ]
        traffic.quad(strip, "car", (48, 54, 62) if glass else shade(colour, 1.05))
    tail, nose = shape.outline[0], shape.outline[-1]
    ends = (
        (along(tail[0]), left, right, tail[1], (150, 30, 28)),
        (along(nose[0]), right, left, nose[1], (220, 220, 210)),
    )
    for at, one, other, tall, lamp in ends:
        traffic.wall((at, y + one), (at, y + other), (0.25, tall), "car", shade(colour, 0.9))
        traffic.wall((at, y + one), (at, y + other), (0.2, 0.4), "car", (40, 40, 42))
        for edge in (one, other):
            lamp_ends = sorted((edge * 0.95, edge * 0.6), reverse=one > other)
            low, high = (at, y + lamp_ends[0]), (at, y + lamp_ends[1])
            traffic.wall(low, high, (tall - 0.25, tall - 0.1), "car", lamp)
    for sign in (1.0, -1.0):
        light = Light.PLUS_Y if sign > 0 else Light.MINUS_Y
        start, end = (x + shape.length_m, x) if sign > 0 else (x, x + shape.length_m)
        edge = y + sign * half
        texture = _car_side(shape, colour, light, drives_right=ahead == (sign < 0))
        traffic.wall((start, edge), (end, edge), (0.0, shape.height_m), "car", texture=texture)


def _car_side(shape: CarShape, colour: Colour, light: Light, *, drives_right: bool) -> Texture:
    """Doors, windows and wheels, with the outline cut out."""
    canvas = Canvas(shape.length_m, shape.height_m, THING_PX_PER_M, "car", light)
    tall = shape.height_m
    body = [(x, tall - z) for x, z in shape.outline]
    canvas.polygon([(0.0, tall - 0.25), *body, (shape.length_m, tall - 0.25)], colour)
    first, last = shape.roof
    (x0, z0), (x1, z1), (x2, z2), (x3, z3) = (shape.outline[i] for i in (first - 1, first, last, last + 1))
    sill = max(z0, z3) + 0.04
    canvas.polygon(
        [
            (x0 + 0.25, tall - sill),
            (x1 + 0.12, tall - z1 + 0.1),
            (x2 - 0.08, tall - z2 + 0.1),
            (x3 - 0.22, tall - sill),
        ],
        (44, 50, 58),
    )
    pillar = 0.5 * (x1 + x2)
    canvas.rectangle(pillar - 0.05, tall - z1, pillar + 0.05, tall - sill, shade(colour, 0.9))
    canvas.rectangle(pillar - 0.01, tall - sill, pillar + 0.02, tall - 0.3, shade(colour, 0.6))
    canvas.rectangle(0.1, tall - 0.36, shape.length_m - 0.1, tall - 0.25, shade(colour, 0.45))
    for hub in (0.19 * shape.length_m, 0.81 * shape.length_m):
        canvas.disc(hub, tall - 0.32, 0.32, (28, 28, 30))
        canvas.disc(hub, tall - 0.32, 0.17, (132, 134, 138))
    texels = canvas.texels if drives_right else canvas.texels[:, ::-1]
    return Texture(np.ascontiguousarray(texels))


def _person(rng: np.random.Generator) -> Texture:
    """A pedestrian, 0.8 m x 1.8 m, in the middle of a step or not."""
    canvas = Canvas(0.8, 1.8, THING_PX_PER_M, "person", Light.SOFT)
    coat, trousers = (
        shade(ACCENTS[rng.integers(len(ACCENTS))], rng.uniform(0.5, 1.3)),
        shade((70, 72, 88), rng.uniform(0.4, 1.3)),
    )
    skin, step = shade((206, 160, 132), rng.uniform(0.5, 1.0)), rng.uniform(0.02, 0.2)
    for foot in (0.4 - step, 0.4 + step):
        canvas.polygon([(0.32, 0.9), (0.48, 0.9), (foot + 0.09, 1.8), (foot - 0.07, 1.8)], trousers)
    canvas.polygon([(0.22, 0.36), (0.58, 0.36), (0.56, 1.0), (0.24, 1.0)], coat)
    for side in (0.19, 0.61):
        canvas.polygon(
            [(side - 0.06, 0.38), (side + 0.06, 0.38), (side + 0.05, 0.98), (side - 0.05, 0.98)],
            shade(coat, 0.8),
        )
    canvas.disc(0.4, 0.2, 0.115, skin)
    canvas.polygon(
        [(0.28, 0.2), (0.3, 0.07), (0.5, 0.07), (0.52, 0.2), (0.4, 0.13)],
        shade((70, 50, 36), rng.uniform(0.5, 2.0)),
    )
    return Texture(canvas.texels)
