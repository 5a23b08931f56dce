"""Fronts of other buildings: halls, offices, churches, blank walls."""

from __future__ import annotations

import numpy as np

from .light import Light
from .quads import Colour, Role, Texture
from .textures import ACCENTS, FACADE_PX_PER_M, Canvas, shade

__all__ = ["blank_front", "church_front", "hall_front", "office_front"]

CONCRETE: tuple[Colour, ...] = ((150, 148, 144), (172, 166, 156), (122, 124, 128), (186, 182, 176), (146, 112, 92))
GLASS: tuple[Colour, ...] = ((66, 86, 104), (84, 98, 100), (58, 72, 84))


def hall_front(rng: np.random.Generator, width_m: float, height_m: float, light: Light) -> Texture:
    """Bay of a factory: corrugated or brick, a band of windows, perhaps a gate."""
    canvas = Canvas(width_m, height_m, FACADE_PX_PER_M, "building", light)
    wall = shade(CONCRETE[rng.integers(len(CONCRETE))], rng.uniform(0.8, 1.1))
    canvas.rectangle(0.0, 0.0, width_m, height_m, wall)
    if rng.random() < 0.5:
        for x in np.arange(0.0, width_m, 0.5):
            canvas.rectangle(x, 0.0, x + 0.12, height_m, shade(wall, 0.86))
    canvas.weather(rng, 9.0)
    for edge in (0.0, width_m - 0.4):
        canvas.rectangle(edge, 0.0, edge + 0.4, height_m, shade(wall, 0.75))
    high = rng.uniform(1.0, 2.0)
    top, pitch = rng.uniform(0.6, 1.4), rng.uniform(1.0, 2.2)
    glass = shade(GLASS[rng.integers(len(GLASS))], rng.uniform(0.8, 1.2))
    for x in np.arange(0.9, width_m - 0.8 - pitch, pitch):
        canvas.rectangle(x, top, x + pitch - 0.2, top + high, glass, Light.LAMP if rng.random() < 0.15 else None)
    if rng.random() < 0.6:
        wide = rng.uniform(3.0, 4.5)
        left = rng.uniform(0.8, max(width_m - wide - 0.8, 0.9))
        gate = shade(ACCENTS[rng.integers(len(ACCENTS))], 0.8)
        canvas.rectangle(left, height_m - min(4.0, height_m - 3.0), left + wide, height_m, gate)
        for y in np.arange(height_m - 3.8, height_m, 0.5):
            canvas.rectangle(left, y, left + wide, y + 0.06, shade(gate, 0.8))
    return Texture(canvas.texels, Role.WINDOWS)


def office_front(rng: np.random.Generator, width_m: float, height_m: float, light: Light) -> Texture:
    """Front of an office: glass in bands or in a grid."""
    canvas = Canvas(width_m, height_m, FACADE_PX_PER_M // 2, "building", light)
    wall = shade(CONCRETE[rng.integers(len(CONCRETE))], rng.uniform(0.8, 1.2))
    glass = GLASS[rng.integers(len(GLASS))]
    storey, pitch, pier = rng.uniform(3.1, 3.9), rng.uniform(1.2, 3.5), rng.uniform(0.1, 0.8)
    band = rng.uniform(0.5, 1.5)
    canvas.rectangle(0.0, 0.0, width_m, height_m, wall)
    canvas.weather(rng, 5.0)
    for top in np.arange(0.6, height_m - 4.0, storey):
        for left in np.arange(0.3, width_m - pitch, pitch):
            lit = Light.LAMP if rng.random() < 0.25 else None
            colour = shade(glass, rng.uniform(0.8, 1.3))
            canvas.rectangle(left, top, left + pitch - pier, top + storey - band, colour, lit)
    lobby = Light.LAMP if rng.random() < 0.7 else None
    canvas.rectangle(0.5, height_m - 3.6, width_m - 0.5, height_m - 0.3, shade(glass, 1.1), lobby)
    for left in np.arange(0.5, width_m, 3.0):
        canvas.rectangle(left, height_m - 3.6, left + 0.4, height_m, shade(wall, 0.7))
    return Texture(canvas.texels, Role.WINDOWS)


def blank_front(rng: np.random.Generator, width_m: float, height_m: float, label: str, light: Light) -> Texture:
    """A wall with stains and sometimes a graffito."""
    canvas = Canvas(width_m, height_m, FACADE_PX_PER_M, label, light)
    wall = shade(CONCRETE[rng.integers(len(CONCRETE))], rng.uniform(0.75, 1.1))
    canvas.rectangle(0.0, 0.0, width_m, height_m, wall)
    canvas.weather(rng, 12.0)
    canvas.rectangle(0.0, 0.0, width_m, 0.15, shade(wall, 0.8))
    for x in np.arange(0.0, width_m, 4.0):
        canvas.rectangle(x, 0.0, x + 0.08, height_m, shade(wall, 0.8))
    for _ in range(rng.poisson(0.8)):
        x, wide = rng.uniform(0.2, max(width_m - 3.0, 0.3)), rng.uniform(1.0, 3.0)
        for _ in range(12):
            colour = shade(ACCENTS[rng.integers(len(ACCENTS))], rng.uniform(0.8, 1.6))
            canvas.disc(x + rng.uniform(0.0, wide), height_m - rng.uniform(0.3, 1.7), rng.uniform(0.1, 0.4), colour)
    return Texture(canvas.texels)


def church_front(rng: np.random.Generator, width_m: float, height_m: float, light: Light, wall: Colour) -> Texture:
    """Front of a church: stone, tall windows, a clock or a round window."""
    canvas = Canvas(width_m, height_m, FACADE_PX_PER_M // 2, "building", light)
    canvas.rectangle(0.0, 0.0, width_m, height_m, wall)
    canvas.weather(rng, 8.0)
    for y in np.arange(0.0, height_m, rng.uniform(4.0, 7.0)):
        canvas.rectangle(0.0, y, width_m, y + 0.3, shade(wall, 0.8))
    columns = max(1, int(width_m / rng.uniform(2.6, 4.0)))
    for column in range(columns):
        middle = (column + 0.5) * width_m / columns
        for top in np.arange(2.0, height_m - 5.0, 6.5):
            canvas.disc(middle, top + 0.6, 0.6, (52, 54, 62))
            canvas.rectangle(middle - 0.6, top + 0.6, middle + 0.6, top + 3.4, (52, 54, 62))
    canvas.disc(width_m / 2.0, min(5.5, height_m / 2.0), 0.3 * min(width_m, 5.0), (226, 220, 200))
    canvas.rectangle(width_m / 2.0 - 1.0, height_m - 3.2, width_m / 2.0 + 1.0, height_m, (70, 52, 40))
    return Texture(canvas.texels)
