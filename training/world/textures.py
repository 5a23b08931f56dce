"""Draw textures for quads, and small pictures: trees, signs, cloth.

Coordinates are metres, to the right and down from the upper left corner.
"""

from __future__ import annotations

import cv2
import numpy as np

from .light import Light
from .quads import VOID, Bytes, Colour, Role, Texture, surface

__all__ = [
    "ACCENTS",
    "FACADE_PX_PER_M",
    "THING_PX_PER_M",
    "Canvas",
    "conifer",
    "hedge",
    "shade",
    "sign",
    "striped",
    "tree",
]

FACADE_PX_PER_M = 20
THING_PX_PER_M = 40
ACCENTS: tuple[Colour, ...] = (
    (164, 44, 40),
    (38, 84, 136),
    (40, 104, 66),
    (206, 150, 40),
    (98, 58, 108),
    (52, 52, 56),
    (196, 96, 44),
)
LEAVES: tuple[Colour, ...] = ((62, 92, 44), (78, 108, 52), (50, 82, 48), (92, 112, 56))


class Canvas:
    """Draws rectangles on a texture."""

    def __init__(self, width_m: float, height_m: float, px_per_m: int, label: str, light: Light):
        self.px_per_m, self.label, self.light = px_per_m, label, light
        self.texels: Bytes = np.zeros((round(height_m * px_per_m), round(width_m * px_per_m), 4), np.uint8)
        self.texels[..., 3] = VOID

    def rectangle(
        self,
        left_m: float,
        top_m: float,
        right_m: float,
        bottom_m: float,
        colour: Colour,
        light: Light | None = None,
    ) -> None:
        scale = self.px_per_m
        first = (round(left_m * scale), round(top_m * scale))
        last = (max(round(right_m * scale) - 1, first[0]), max(round(bottom_m * scale) - 1, first[1]))
        cv2.rectangle(self.texels, first, last, self.ink(colour, light), cv2.FILLED)

    def polygon(self, points_m: list[tuple[float, float]], colour: Colour) -> None:
        points = np.rint(np.array(points_m) * self.px_per_m).astype(np.int32)
        cv2.fillPoly(self.texels, [points], self.ink(colour))

    def disc(self, x_m: float, y_m: float, radius_m: float, colour: Colour) -> None:
        scale = self.px_per_m
        cv2.circle(
            self.texels,
            (round(x_m * scale), round(y_m * scale)),
            round(radius_m * scale),
            self.ink(colour),
            cv2.FILLED,
        )

    def ink(self, colour: Colour, light: Light | None = None) -> tuple[int, int, int, int]:
        return (*colour, surface(self.label, self.light if light is None else light))

    def weather(self, rng: np.random.Generator, spread: float) -> None:
        """Add stains and wear: blotches that are a little darker or lighter."""
        rows, columns = self.texels.shape[:2]
        blotches = rng.normal(0.0, spread, (rows // 24 + 2, columns // 24 + 2)).astype(np.float32)
        wear = cv2.resize(blotches, (columns, rows), interpolation=cv2.INTER_CUBIC)
        wear += rng.normal(0.0, spread / 3.0, (rows, columns)).astype(np.float32)
        colours = self.texels[..., :3] + wear[..., np.newaxis]
        self.texels[..., :3] = np.clip(colours, 0, 255).astype(np.uint8)


def shade(colour: Colour, factor: float) -> Colour:
    """Make a colour darker or lighter."""
    red, green, blue = (min(max(round(channel * factor), 0), 255) for channel in colour)
    return (red, green, blue)


def tree(rng: np.random.Generator, width_m: float, height_m: float) -> Texture:
    """A tree: trunk and crown, with gaps between the leaves."""
    canvas = Canvas(width_m, height_m, THING_PX_PER_M, "vegetation", Light.SOFT)
    middle, crown = width_m / 2.0, 0.38 * height_m
    canvas.rectangle(middle - 0.14, crown, middle + 0.14, height_m, (84, 68, 54))
    leaf = LEAVES[rng.integers(len(LEAVES))]
    spots = rng.normal(0.0, 0.24, (500, 2))
    # Dark leaves first and low, light leaves last and high: the sun is above.
    for x, y in spots[np.argsort(-spots[:, 1] + rng.normal(0.0, 0.12, len(spots)))]:
        if x * x + y * y < 0.2:
            tone = shade(leaf, 0.95 - 0.9 * y + rng.normal(0.0, 0.1))
            canvas.disc(middle + x * width_m, crown + y * crown * 1.9, rng.uniform(0.08, 0.3), tone)
    return Texture(canvas.texels, Role.DECIDUOUS)


def conifer(rng: np.random.Generator, width_m: float, height_m: float) -> Texture:
    """An evergreen: a fir or a cypress."""
    canvas = Canvas(width_m, height_m, THING_PX_PER_M, "vegetation", Light.SOFT)
    middle = width_m / 2.0
    canvas.rectangle(middle - 0.12, 0.8 * height_m, middle + 0.12, height_m, (70, 56, 46))
    leaf = shade((46, 74, 50), rng.uniform(0.8, 1.2))
    tiers = int(rng.integers(5, 9))
    for tier in range(tiers, 0, -1):
        low = 0.92 * height_m * tier / tiers
        half = 0.5 * width_m * (tier / tiers) ** 0.8
        top = max(low - 1.9 * height_m / tiers, 0.0)
        skirt = [(middle + half * u, low - (0.12 if i % 2 else 0.0)) for i, u in enumerate(np.linspace(1.0, -1.0, 9))]
        canvas.polygon([(middle, top), *skirt], shade(leaf, 1.25 - 0.5 * tier / tiers))
    return Texture(canvas.texels, Role.EVERGREEN)


def hedge(rng: np.random.Generator, width_m: float, height_m: float, light: Light) -> Texture:
    """A clipped hedge."""
    canvas = Canvas(width_m, height_m, FACADE_PX_PER_M, "vegetation", light)
    canvas.rectangle(0.0, 0.0, width_m, height_m, LEAVES[rng.integers(len(LEAVES))])
    canvas.weather(rng, 26.0)
    return Texture(canvas.texels, Role.EVERGREEN)


def striped(width_m: float, colour: Colour, label: str, light: Light) -> Texture:
    """Cloth of an awning, one metre deep."""
    canvas = Canvas(width_m, 1.0, FACADE_PX_PER_M // 2, label, light)
    for index, left in enumerate(np.arange(0.0, width_m, 0.4)):
        canvas.rectangle(left, 0.0, min(left + 0.4, width_m), 1.0, colour if index % 2 else (222, 216, 204))
    return Texture(canvas.texels)


def sign(rng: np.random.Generator, light: Light) -> Texture:
    """A traffic sign, 0.7 m wide: round, triangular or square."""
    canvas = Canvas(0.7, 0.7, 2 * THING_PX_PER_M, "traffic sign", light)
    kind = int(rng.integers(4))
    if kind == 0:
        canvas.disc(0.35, 0.35, 0.34, (196, 36, 36))
        canvas.disc(0.35, 0.35, 0.24, (240, 240, 236))
        canvas.rectangle(0.24, 0.26, 0.46, 0.44, (30, 30, 30))
    elif kind == 1:
        canvas.disc(0.35, 0.35, 0.34, (36, 84, 170))
        canvas.polygon(
            [(0.35, 0.12), (0.52, 0.34), (0.4, 0.34), (0.4, 0.58), (0.3, 0.58), (0.3, 0.34), (0.18, 0.34)],
            (240, 240, 236),
        )
    elif kind == 2:
        canvas.polygon([(0.35, 0.02), (0.69, 0.64), (0.01, 0.64)], (196, 36, 36))
        canvas.polygon([(0.35, 0.18), (0.56, 0.56), (0.14, 0.56)], (240, 240, 236))
    else:
        canvas.rectangle(0.05, 0.05, 0.65, 0.65, (36, 84, 170))
        canvas.rectangle(0.22, 0.15, 0.3, 0.55, (240, 240, 236))
        canvas.disc(0.36, 0.27, 0.12, (240, 240, 236))
    return Texture(canvas.texels)
