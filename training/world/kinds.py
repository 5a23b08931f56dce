"""Kinds of streets: the order of plots, the width of the street, and what stands at its kerbs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .fronts import hall_front
from .furniture import lay_bench, lay_column, lay_crossing, lay_lamp, lay_shelter, lay_sign
from .ground import lay_ground
from .landmarks import lay_bridge, lay_end_building, lay_tower
from .light import Light
from .plots import PLOTS, Side, draw_trees
from .quads import Layer, QuadsBuilder
from .section import Section, street_ends
from .skyline import draw_skyline
from .street import Street, lay_out_terrace

__all__ = ["KINDS", "lay_out_street"]


@dataclass(frozen=True)
class Kind:
    """Parameters of a kind of street. Pairs are minimum and maximum.

    Attributes:
        plots: weight of each of `PLOTS`.
        pavement_m: width of the pavement.
        kerb_m: half the width of the carriageway with its parking bays.
        storeys: of houses.
        rows_of_trees: probability that a side has a row of trees.
    """

    plots: Mapping[str, float]
    pavement_m: tuple[float, float] = (2.6, 4.5)
    kerb_m: tuple[float, float] = (5.0, 6.4)
    storeys: tuple[int, int] = (2, 6)
    rows_of_trees: float = 0.25


# The terrace has its own layout function, so additions here do not change it.
KINDS: dict[str, Kind | None] = {
    "terrace": None,
    "avenue": Kind(
        {"block": 5.0, "office": 2.0, "opening": 1.5, "garden": 0.5, "square": 0.4, "park": 0.3},
        pavement_m=(4.0, 7.0),
        kerb_m=(6.5, 8.5),
        storeys=(3, 7),
        rows_of_trees=0.9,
    ),
    "square": Kind({"block": 4.0, "square": 2.5, "opening": 1.5, "garden": 0.7, "office": 0.5}, pavement_m=(3.0, 5.5)),
    "park": Kind({"park": 4.0, "villa": 2.0, "block": 1.5, "garden": 1.0, "opening": 0.5}, storeys=(2, 4)),
    "industrial": Kind(
        {"hall": 4.0, "blank": 2.0, "yard": 2.0, "opening": 1.0, "office": 0.6, "block": 0.4},
        storeys=(2, 4),
        rows_of_trees=0.1,
    ),
    "suburb": Kind(
        {"villa": 5.0, "garden": 1.2, "block": 0.8, "park": 0.5, "opening": 1.0, "blank": 0.4},
        kerb_m=(4.6, 5.8),
        storeys=(2, 3),
    ),
    "mixed": Kind(dict.fromkeys(PLOTS, 1.0) | {"block": 2.5}),
}


def lay_out_street(seed: int, length_m: float, kind: str) -> Street:
    """Lay out a street along the x axis. `kind` is one of `KINDS`, or "any" to draw it from the seed."""
    if kind == "any":
        names = [name for name in KINDS if name != "terrace"]
        kind = names[int(np.random.default_rng([seed, 0xA11]).integers(len(names)))]
    plan = KINDS[kind]
    return lay_out_terrace(seed, length_m) if plan is None else _lay_out(seed, length_m, kind, plan)


def _lay_out(seed: int, length_m: float, name: str, kind: Kind) -> Street:
    rng = np.random.default_rng([seed, 0x57, *name.encode()])
    kerb = rng.uniform(*kind.kerb_m)
    section = Section(kerb - 2.1, kerb, kerb + rng.uniform(*kind.pavement_m))
    street = QuadsBuilder()
    start, end = street_ends(length_m)
    if rng.random() < 0.65:
        end = length_m + rng.uniform(12.0, 90.0)
        lay_end_building(street, rng, end, section.house_line_m)
    lay_ground(street, rng, (start, end), section)
    hall_height_m = rng.uniform(5.0, 9.0)
    hall_wide = rng.uniform(8.0, 13.0)
    trees = draw_trees(rng)
    lamps: list[tuple[float, float]] = []
    for sign in (1.0, -1.0):
        hall = hall_front(rng, hall_wide, hall_height_m, Light.MINUS_Y if sign > 0 else Light.PLUS_Y)
        side = Side(street, rng, section, sign, kind.storeys, hall, hall_height_m, trees)
        _lay_plots(side, kind, start, end)
        lamps += _lay_kerb(side, kind, start, end)
        for x in np.arange(start, end, 60.0):
            if rng.random() < 0.8:
                away = section.house_line_m + rng.uniform(18.0, 60.0)
                lay_tower(street, rng, x + rng.uniform(0.0, 60.0), sign * away)
    for x in np.arange(start + rng.uniform(20.0, 120.0), end, rng.uniform(70.0, 140.0)):
        lay_crossing(street, x, section.kerb_m)
    if rng.random() < 0.35:
        lay_bridge(street, rng, rng.uniform(20.0, max(end - 10.0, 21.0)), section.house_line_m)
    return Street(street.finish(), np.array(lamps), section, draw_skyline(rng))


def _lay_plots(side: Side, kind: Kind, start: float, end: float) -> None:
    names = list(kind.plots)
    shares = np.array([kind.plots[name] for name in names])
    x = start - side.rng.uniform(0.0, 8.0)
    while x < end:
        x = PLOTS[names[side.rng.choice(len(names), p=shares / shares.sum())]](side, x)


def _lay_kerb(side: Side, kind: Kind, start: float, end: float) -> list[tuple[float, float]]:
    """Lay lamps, trees, signs, shelters and columns. Returns the lamps' x and y."""
    rng, street = side.rng, side.street
    y = side.side * (side.section.kerb_m + 0.5)
    lamps = []
    every = rng.uniform(20.0, 38.0)
    for x in np.arange(start + rng.uniform(0.0, every), end, every):
        at = float(x + rng.uniform(-1.5, 1.5))
        lay_lamp(street, at, y, side.side)
        lamps.append((at, y))
    planted = rng.random() < kind.rows_of_trees
    pitch, tall = rng.uniform(6.5, 12.0), rng.uniform(4.5, 10.0)
    x = start
    while x < end:
        x += pitch + rng.uniform(-1.0, 1.0)
        if rng.random() < 0.15:  # rows of trees begin and end
            planted = rng.random() < kind.rows_of_trees
        draw = rng.random()
        if planted and draw < 0.85:
            high = tall * rng.uniform(0.75, 1.15)
            texture, wide, painted = side.trees[rng.integers(len(side.trees))]
            street.begin(Layer.THINGS, x, y)
            street.billboard(x, y, min(wide * high / painted, 5.5), high, texture, "vegetation")
        elif draw < 0.25:
            lay_sign(street, rng, x, y)
        elif draw < 0.30:
            lay_shelter(street, rng, x, side.side, side.section.kerb_m)
        elif draw < 0.36:
            lay_column(street, rng, x, side.side * (side.section.kerb_m + 1.0))
        elif draw < 0.45:
            lay_bench(street, rng, x, side.side * (side.section.house_line_m - 0.6))
    return lamps
