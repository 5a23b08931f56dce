"""Cars, vans, lorries and buses: boxes with a painted side and a cut-out outline."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from .light import Light
from .quads import Colour, Layer, QuadsBuilder, Texture
from .section import ASPHALT
from .textures import THING_PX_PER_M, Canvas, shade

__all__ = ["BUS", "CAR_COLOURS", "CAR_SHAPES", "LORRY", "Shape", "lay_vehicle"]

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
class Shape:
    """Side view of a vehicle that drives to the right.

    Attributes:
        outline: (x, z) of the upper line from tail to nose, metres. The glass is before and after the roof.
        roof: indices of its first and last point.
    """

    length_m: float
    width_m: float
    height_m: float
    outline: tuple[tuple[float, float], ...]
    roof: tuple[int, int]


CAR_SHAPES = (
    Shape(4.5, 1.8, 1.46, ((0.0, 0.9), (0.7, 0.98), (1.25, 1.46), (2.6, 1.44), (3.3, 0.96), (4.4, 0.76)), (2, 3)),
    Shape(3.9, 1.74, 1.5, ((0.0, 0.85), (0.1, 0.98), (0.5, 1.5), (2.3, 1.5), (3.0, 0.98), (3.85, 0.78)), (2, 3)),
    Shape(5.1, 1.95, 2.1, ((0.0, 1.0), (0.05, 1.1), (0.15, 2.1), (3.6, 2.1), (4.3, 1.12), (5.05, 0.9)), (2, 3)),
)
LORRY = Shape(
    7.4,
    2.4,
    3.3,
    ((0.0, 3.2), (0.1, 3.3), (5.2, 3.3), (5.3, 2.6), (5.5, 2.7), (6.9, 2.6), (7.3, 1.5), (7.35, 0.9)),
    (4, 5),
)
BUS = Shape(11.2, 2.5, 3.1, ((0.0, 1.3), (0.05, 1.4), (0.1, 3.1), (11.0, 3.1), (11.12, 1.3), (11.15, 1.1)), (2, 3))


def lay_vehicle(
    traffic: QuadsBuilder,
    shape: Shape,
    colour: Colour,
    x: float,
    y: float,
    *,
    ahead: bool,
    label: str = "car",
    lamps_on: bool = False,
) -> None:
    """Add a vehicle.

    Args:
        traffic: to add to.
        shape: of the vehicle.
        colour: of its body.
        x: of its rear end, or of its front end if it is oncoming.
        y: of its centre.
        ahead: it drives along +x.
        label: of `LABELS`.
        lamps_on: its lamps are on after dark.
    """
    half = 0.5 * shape.width_m
    traffic.begin(Layer.GROUND, x, y)
    shadow = ((x - 0.1, x + shape.length_m + 0.1), (y - half, y + half))
    traffic.flat(*shadow, "road", shade(ASPHALT, 0.4))
    traffic.begin(Layer.THINGS, x + 0.5 * shape.length_m, y)

    def along(distance: float) -> float:
        """Distance from the tail to world x."""
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
        traffic.quad(strip, label, (48, 54, 62) if glass else shade(colour, 1.05))
    tail, nose = shape.outline[0], shape.outline[-1]
    ends = (
        (along(tail[0]), left, right, tail[1], (150, 30, 28)),
        (along(nose[0]), right, left, nose[1], (220, 220, 210)),
    )
    for at, one, other, tall, lamp in ends:
        traffic.wall((at, y + one), (at, y + other), (0.25, tall), label, shade(colour, 0.9))
        traffic.wall((at, y + one), (at, y + other), (0.2, 0.4), label, (40, 40, 42))
        for edge in (one, other):
            lamp_ends = sorted((edge * 0.95, edge * 0.6), reverse=one > other)
            low, high = (at, y + lamp_ends[0]), (at, y + lamp_ends[1])
            traffic.wall(low, high, (tall - 0.25, tall - 0.1), label, lamp, light=Light.LAMP if lamps_on else None)
    for sign in (1.0, -1.0):
        light = Light.PLUS_Y if sign > 0 else Light.MINUS_Y
        start, end = (x + shape.length_m, x) if sign > 0 else (x, x + shape.length_m)
        edge = y + sign * half
        texture = _side(shape, colour, light, label, drives_right=ahead == (sign < 0))
        traffic.wall((start, edge), (end, edge), (0.0, shape.height_m), label, texture=texture)


@functools.lru_cache(maxsize=256)
def _side(shape: Shape, colour: Colour, light: Light, label: str, *, drives_right: bool) -> Texture:
    """Side texture with doors, windows and wheels, cut out along the outline."""
    canvas = Canvas(shape.length_m, shape.height_m, THING_PX_PER_M, label, light)
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
