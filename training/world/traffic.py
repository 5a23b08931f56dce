"""Traffic that changes between two drives: parked cars, people and moving vehicles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .ground import PARKING_EVERY_M
from .light import Light
from .quads import LABELS, Layer, Quads, QuadsBuilder, Texture, surface
from .section import Section, street_ends
from .textures import ACCENTS, THING_PX_PER_M, Canvas, shade
from .vehicles import BUS, CAR_COLOURS, CAR_SHAPES, LORRY, lay_vehicle

__all__ = ["Moving", "lay_out_moving", "lay_out_traffic"]

PARKED_SHARE = 0.4  # of the parking bays
PEOPLE_EVERY_M = 14.0  # on each pavement, on average
CAMERA_M_PER_S = 8.0  # time of moving objects: the camera reaches x metres after x / 8 seconds


def lay_out_traffic(seed: int, traverse_seed: int, length_m: float, section: Section) -> Quads:
    """Lay out parked cars and people, which differ between traverses."""
    rng = np.random.default_rng([seed, traverse_seed, 0x7A])
    traffic = QuadsBuilder()
    start, end = street_ends(length_m)
    plain = Section()
    for side in (1.0, -1.0):
        for x in np.arange(start, end, PARKING_EVERY_M):
            if rng.random() < PARKED_SHARE:
                at = x + rng.uniform(0.0, 1.0)
                y = side * (rng.uniform(4.4, 4.5) + (section.kerb_m - plain.kerb_m))
                _park_car(traffic, rng, at, y, side)
        for x in rng.uniform(start, end, round((end - start) / PEOPLE_EVERY_M)):
            y = side * rng.uniform(section.kerb_m + 0.4, section.house_line_m - 0.6)
            tall = rng.uniform(1.55, 1.9)
            traffic.begin(Layer.THINGS, x, y)
            traffic.billboard(x, y, tall * 0.8 / 1.8, tall, _person(rng), "person")
    return traffic.finish()


@dataclass(frozen=True)
class Moving:
    """Moving vehicles, at time 0, when the camera is at x = 0.

    Attributes:
        quads: of all vehicles.
        owners: int64 (n,), the vehicle of each quad.
        speeds: float64 (vehicles,), along x, m/s, negative towards the camera.
        xs: float64 (vehicles, 2), first and last x of each at time 0, metres.
        ys: float64 (vehicles,), of their centres, metres.
    """

    quads: Quads
    owners: npt.NDArray[np.int64]
    speeds: npt.NDArray[np.float64]
    xs: npt.NDArray[np.float64]
    ys: npt.NDArray[np.float64]

    def seen_from(self, x_m: float, y_m: float) -> Quads:
        """Their quads when the camera is at `x_m`, without vehicles that would touch it."""
        shift = self.speeds * (x_m / CAMERA_M_PER_S)
        ends = self.xs + shift[:, np.newaxis] - x_m
        beside = np.where(self.speeds > 0.0, 3.2, 2.4)  # more room for vehicles in our direction
        touches = (ends[:, 0] < TOUCH_M) & (ends[:, 1] > -TOUCH_M) & (np.abs(self.ys - y_m) < beside)
        in_sight = (ends[:, 1] > 0.0) & (ends[:, 0] < IN_SIGHT_M) & ~touches
        kept = np.flatnonzero(in_sight[self.owners])
        by = shift[self.owners[kept]].astype(np.float32)
        corners, anchors = self.quads.corners[kept], self.quads.anchors[kept]  # copies
        corners[..., 0] += by[:, np.newaxis]
        anchors[:, 0] += by
        return Quads(
            corners,
            anchors,
            self.quads.layers[kept],
            self.quads.billboards[kept],
            self.quads.colours[kept],
            tuple(self.quads.textures[index] for index in kept.tolist()),
        )


TOUCH_M = 6.0
IN_SIGHT_M = 120.0


def lay_out_moving(seed: int, traverse_seed: int, length_m: float, section: Section, per_100m: float) -> Moving:
    """Lay out vehicles and cyclists that drive ahead of the camera or towards it."""
    rng = np.random.default_rng([seed, traverse_seed, 0x30])
    traffic = QuadsBuilder()
    owners: list[int] = []
    speeds: list[float] = []
    xs: list[tuple[float, float]] = []
    ys: list[float] = []

    def drive(x: float, long: float, y: float, speed: float) -> None:
        count = traffic.count
        owners.extend([len(speeds)] * (count - len(owners)))
        speeds.append(speed)
        xs.append((x, x + long))
        ys.append(y)

    lane = 0.5 * section.lane_edge_m
    # Vehicles ahead drive at about the camera's speed, so they stay near for a while.
    for _ in range(rng.poisson(per_100m * 1.0)):
        x, speed = rng.uniform(4.0, 90.0), CAMERA_M_PER_S * rng.uniform(0.8, 1.25)
        y = -lane + rng.uniform(-0.3, 0.3)
        drive(x, _lay_any(traffic, rng, x, y, ahead=True), y, speed)
    # Oncoming vehicles are met once; their range covers the time of the whole street.
    reach = IN_SIGHT_M + 2.2 * length_m
    for _ in range(rng.poisson(per_100m * reach / 100.0)):
        x, speed = rng.uniform(10.0, reach), -CAMERA_M_PER_S * rng.uniform(0.8, 1.4)
        y = lane + rng.uniform(-0.3, 0.3)
        drive(x, _lay_any(traffic, rng, x, y, ahead=False), y, speed)
    for _ in range(rng.poisson(per_100m * 0.8)):
        x, side = rng.uniform(10.0, length_m + 60.0), rng.choice((-1.0, 1.0))
        y, tall = side * (section.lane_edge_m - 0.5), rng.uniform(1.65, 1.85)
        traffic.begin(Layer.THINGS, x, y)
        traffic.billboard(x, y, tall * 0.5, tall, _cyclist(rng), "rider")
        drive(x, 0.6, y, -side * rng.uniform(3.0, 6.0))
    return Moving(
        traffic.finish(),
        np.array(owners, np.int64),
        np.array(speeds, np.float64),
        np.array(xs, np.float64).reshape(-1, 2),
        np.array(ys, np.float64),
    )


def _lay_any(traffic: QuadsBuilder, rng: np.random.Generator, x: float, y: float, *, ahead: bool) -> float:
    """Add a car or sometimes a larger vehicle. Returns its length, metres."""
    kind = rng.random()
    if kind < 0.72:
        shape, label, colour = CAR_SHAPES[rng.integers(len(CAR_SHAPES))], "car", CAR_COLOURS[rng.integers(7)]
    elif kind < 0.86:
        shape, label, colour = BUS, "bus", shade(ACCENTS[rng.integers(len(ACCENTS))], 1.2)
    else:
        shape, label, colour = LORRY, "truck", CAR_COLOURS[rng.integers(7)]
    lay_vehicle(traffic, shape, colour, x, y, ahead=ahead, label=label, lamps_on=True)
    return shape.length_m


def _park_car(traffic: QuadsBuilder, rng: np.random.Generator, x: float, y: float, side: float) -> None:
    """Park a car at the kerb; on the left side it faces the other direction."""
    shape = CAR_SHAPES[rng.choice(len(CAR_SHAPES), p=[0.45, 0.4, 0.15])]
    colour = CAR_COLOURS[rng.integers(len(CAR_COLOURS))]
    lay_vehicle(traffic, shape, colour, x, y, ahead=side < 0)


def _person(rng: np.random.Generator) -> Texture:
    """A pedestrian, 0.8 m x 1.8 m, walking or standing."""
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


def _cyclist(rng: np.random.Generator) -> Texture:
    """A cyclist from behind or from the front, 0.9 m x 1.8 m."""
    canvas = Canvas(0.9, 1.8, THING_PX_PER_M, "rider", Light.SOFT)
    coat = shade(ACCENTS[rng.integers(len(ACCENTS))], rng.uniform(0.5, 1.4))
    canvas.polygon([(0.36, 0.85), (0.54, 0.85), (0.6, 1.5), (0.3, 1.5)], shade((70, 72, 88), rng.uniform(0.4, 1.3)))
    canvas.polygon([(0.25, 0.36), (0.65, 0.36), (0.6, 0.95), (0.3, 0.95)], coat)
    canvas.disc(0.45, 0.2, 0.13, shade((206, 160, 132), rng.uniform(0.5, 1.0)))
    solid = canvas.texels[..., 3] == surface("rider", Light.SOFT)
    canvas.rectangle(0.42, 1.1, 0.48, 1.8, (30, 30, 32))
    canvas.rectangle(0.15, 0.95, 0.75, 1.0, (50, 50, 54))
    bicycle = (canvas.texels[..., 3] != 255) & ~solid
    canvas.texels[bicycle, 3] = LABELS["bicycle"] | Light.SOFT << 5
    return Texture(canvas.texels)
