"""House fronts, by which the places of the synthetic street are recognised.

Houses of a block share a `FacadeStyle` from a small stock, so neighbours and streets look alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .light import Light
from .quads import Colour, Role, Texture
from .textures import ACCENTS, FACADE_PX_PER_M, Canvas, shade

__all__ = ["FacadeStyle", "draw_style", "facade", "side_wall"]

SHOP_HEIGHT_M = 3.6

WALLS: tuple[Colour, ...] = (
    (198, 176, 134),  # ochre
    (160, 92, 74),  # brick
    (158, 156, 152),  # concrete
    (216, 208, 192),  # cream
    (172, 182, 160),  # pale green
    (190, 148, 126),  # salmon
    (118, 82, 70),  # dark brick
    (156, 168, 182),  # pale blue
)
TRIMS: tuple[Colour, ...] = ((232, 230, 222), (92, 84, 76), (206, 198, 180))
FRAMES: tuple[Colour, ...] = ((236, 236, 232), (70, 60, 54), (110, 120, 116))
GLASS: Colour = (74, 84, 96)


@dataclass(frozen=True)
class FacadeStyle:
    """Common style of the houses of a block. Lengths in metres."""

    wall: Colour
    trim: Colour
    frame: Colour
    accent: Colour
    storeys: int
    storey_m: float
    window_width_m: float
    window_height_m: float
    window_pitch_m: float
    panes: int
    bricks: bool
    shutters: bool
    balconies: bool
    shops: bool
    roof_m: float

    @property
    def height_m(self) -> float:
        """Height of the eaves."""
        return SHOP_HEIGHT_M + (self.storeys - 1) * self.storey_m


def draw_style(rng: np.random.Generator) -> FacadeStyle:
    """Draw the style of a block from a small stock."""
    wall = int(rng.integers(len(WALLS)))
    tall = bool(rng.random() < 0.55)
    return FacadeStyle(
        wall=WALLS[wall],
        trim=TRIMS[rng.integers(len(TRIMS))],
        frame=FRAMES[rng.integers(len(FRAMES))],
        accent=ACCENTS[rng.integers(len(ACCENTS))],
        storeys=int(rng.integers(2, 6)),
        storey_m=float(rng.choice([2.8, 3.1, 3.4])),
        window_width_m=float(rng.choice([0.9, 1.2, 1.6])),
        window_height_m=2.0 if tall else 1.4,
        window_pitch_m=float(rng.choice([2.0, 2.5, 3.2])),
        panes=int(rng.integers(1, 4)),
        bricks=wall in (1, 6) or bool(rng.random() < 0.15),
        shutters=bool(rng.random() < 0.3),
        balconies=bool(rng.random() < 0.25),
        shops=bool(rng.random() < 0.5),
        roof_m=float(rng.choice([0.0, 2.2, 3.2])),
    )


def facade(rng: np.random.Generator, style: FacadeStyle, width_m: float, light: Light) -> Texture:
    """Front of a house: storeys of windows above a ground floor with shops or doors."""
    height_m = style.height_m
    canvas = Canvas(width_m, height_m, FACADE_PX_PER_M, "building", light)
    canvas.rectangle(0.0, 0.0, width_m, height_m, style.wall)
    if style.bricks:
        mortar = shade(style.wall, 1.12)
        for row in np.arange(0.15, height_m, 0.2):
            canvas.rectangle(0.0, row, width_m, row + 0.05, mortar)
    canvas.weather(rng, 7.0)
    canvas.rectangle(0.0, 0.0, width_m, 0.35, style.trim)
    columns = max(1, int((width_m - 0.6) / style.window_pitch_m))
    middles = (np.arange(columns) + 0.5) * (width_m / columns)
    for storey in range(style.storeys - 1):
        top = (storey + 0.5) * style.storey_m - 0.5 * style.window_height_m + 0.1
        if style.trim != style.wall and style.panes != 2:
            canvas.rectangle(
                0.0, (storey + 1) * style.storey_m - 0.12, width_m, (storey + 1) * style.storey_m, style.trim
            )
        for middle in middles:
            _window(canvas, rng, style, middle - 0.5 * style.window_width_m, top)
        if style.balconies and storey % 2 == 0:
            bottom = top + style.window_height_m + 0.15
            canvas.rectangle(middles[0] - 1.0, bottom - 0.9, middles[-1] + 1.0, bottom - 0.82, (60, 60, 64))
            for bar in np.arange(middles[0] - 1.0, middles[-1] + 1.0, 0.25):
                canvas.rectangle(bar, bottom - 0.9, bar + 0.05, bottom, (60, 60, 64))
            canvas.rectangle(middles[0] - 1.0, bottom, middles[-1] + 1.0, bottom + 0.15, style.trim)
    if style.shops:
        _shop_front(canvas, rng, style, width_m, height_m)
    else:
        _house_front(canvas, rng, style, middles, height_m)
    if rng.random() < 0.15:
        _mural(canvas, rng, width_m, height_m)
    return Texture(canvas.texels, Role.WINDOWS)


def _mural(canvas: Canvas, rng: np.random.Generator, width_m: float, height_m: float) -> None:
    """A poster or a painting on the wall, as a distinctive feature."""
    wide, tall = rng.uniform(2.0, 0.5 * width_m), rng.uniform(1.5, 2.6)
    left, top = (
        rng.uniform(0.3, width_m - wide - 0.3),
        rng.uniform(0.6, max(height_m - SHOP_HEIGHT_M - tall, 0.7)),
    )
    canvas.rectangle(left, top, left + wide, top + tall, shade(ACCENTS[rng.integers(len(ACCENTS))], 1.3))
    for _ in range(6):
        x, y = rng.uniform(left, left + 0.7 * wide), rng.uniform(top, top + 0.7 * tall)
        colour = shade(ACCENTS[rng.integers(len(ACCENTS))], rng.uniform(0.6, 1.6))
        canvas.rectangle(x, y, x + rng.uniform(0.1, 0.3) * wide, y + rng.uniform(0.1, 0.3) * tall, colour)


def _window(canvas: Canvas, rng: np.random.Generator, style: FacadeStyle, left: float, top: float) -> None:
    right, bottom = left + style.window_width_m, top + style.window_height_m
    canvas.rectangle(left - 0.12, top - 0.12, right + 0.12, bottom + 0.12, style.trim)
    canvas.rectangle(left - 0.2, bottom + 0.1, right + 0.2, bottom + 0.2, shade(style.trim, 0.8))
    if style.shutters and rng.random() < 0.85:
        for edge in (left - 0.55, right + 0.1):
            canvas.rectangle(edge, top, edge + 0.45, bottom, shade(style.accent, 0.9))
    canvas.rectangle(left, top, right, bottom, style.frame)
    lit = Light.LAMP if rng.random() < 0.35 else canvas.light
    glass = shade(GLASS, rng.uniform(0.7, 1.25))
    pane = (right - left) / style.panes
    for index in range(style.panes):
        canvas.rectangle(
            left + index * pane + 0.05,
            top + 0.05,
            left + (index + 1) * pane - 0.05,
            bottom - 0.05,
            glass,
            lit,
        )
    if rng.random() < 0.3:  # curtains or a blind
        drop = top + rng.uniform(0.2, 0.9) * (bottom - top)
        canvas.rectangle(
            left + 0.05, top + 0.05, right - 0.05, drop, shade((150, 146, 138), rng.uniform(0.6, 1.1)), lit
        )


def _shop_front(canvas: Canvas, rng: np.random.Generator, style: FacadeStyle, width_m: float, height_m: float) -> None:
    shops = max(1, round(width_m / 6.0))
    top = height_m - SHOP_HEIGHT_M + 0.3
    for shop in range(shops):
        left, right = shop * width_m / shops + 0.3, (shop + 1) * width_m / shops - 0.3
        accent = ACCENTS[rng.integers(len(ACCENTS))]
        canvas.rectangle(left, top, right, height_m, shade(accent, 0.75))
        board = Light.LAMP if rng.random() < 0.4 else canvas.light
        canvas.rectangle(left, top, right, top + 0.7, shade(accent, 0.6), board)
        pen = left + rng.uniform(0.3, 1.0)
        while pen < right - 0.6:  # illegible letters
            stroke = rng.uniform(0.1, 0.35)
            canvas.rectangle(pen, top + rng.uniform(0.15, 0.25), pen + stroke, top + 0.55, (226, 220, 204), board)
            pen += stroke + rng.uniform(0.08, 0.2)
        lit = Light.LAMP if rng.random() < 0.5 else canvas.light
        door = rng.uniform(left + 0.2, right - 1.3)
        canvas.rectangle(left + 0.2, top + 0.9, right - 0.2, height_m - 0.5, shade(GLASS, rng.uniform(0.8, 1.2)), lit)
        for _ in range(int(rng.integers(3, 9))):  # goods in the window
            x, tall = rng.uniform(left + 0.3, right - 0.8), rng.uniform(0.3, 1.1)
            goods = shade(ACCENTS[rng.integers(len(ACCENTS))], 0.8)
            canvas.rectangle(x, height_m - 0.5 - tall, x + rng.uniform(0.2, 0.5), height_m - 0.5, goods, lit)
        canvas.rectangle(door, top + 0.9, door + 1.1, height_m, shade(accent, 0.5))
        canvas.rectangle(door + 0.15, top + 1.05, door + 0.95, height_m - 0.5, GLASS, lit)


def _house_front(
    canvas: Canvas,
    rng: np.random.Generator,
    style: FacadeStyle,
    middles: npt.NDArray[np.floating],
    height_m: float,
) -> None:
    canvas.rectangle(0.0, height_m - 0.8, canvas.texels.shape[1] / FACADE_PX_PER_M, height_m, shade(style.wall, 0.7))
    door_at = int(rng.integers(len(middles)))
    for column, middle in enumerate(middles):
        if column == door_at:
            canvas.rectangle(middle - 0.75, height_m - 2.7, middle + 0.75, height_m, style.trim)
            canvas.rectangle(middle - 0.55, height_m - 2.5, middle + 0.55, height_m, style.accent)
            canvas.rectangle(middle - 0.4, height_m - 2.4, middle + 0.4, height_m - 1.9, GLASS, Light.LAMP)
        elif rng.random() < 0.15:
            canvas.rectangle(middle - 1.2, height_m - 2.4, middle + 1.2, height_m, shade(style.frame, 0.8))
            for line in np.arange(height_m - 2.2, height_m, 0.35):  # a garage's slats
                canvas.rectangle(middle - 1.2, line, middle + 1.2, line + 0.06, shade(style.frame, 0.6))
        else:
            _window(canvas, rng, style, middle - 0.5 * style.window_width_m, height_m - 2.7)


def side_wall(rng: np.random.Generator, style: FacadeStyle, depth_m: float, light: Light) -> Texture:
    """Windowless side of a house, visible above lower neighbours and in gaps."""
    canvas = Canvas(depth_m, style.height_m, FACADE_PX_PER_M // 2, "building", light)
    canvas.rectangle(0.0, 0.0, depth_m, style.height_m, shade(style.wall, 0.88))
    canvas.weather(rng, 9.0)
    return Texture(canvas.texels)
