"""A synthetic street, rendered from a seed: images, exact positions and exact label maps.

    world = World(seed=0, length_m=300.0)
    poses = traverse(300.0, spacing_m=2.5, seed=1)
    write_traverse(folder, world, poses, DAY, traverse_seed=1)

It needs only numpy and OpenCV. With one build of both, the same seeds, pose and conditions give the same bytes.

    kinds, street, traffic       fixed and moving objects
    quads, textures, facades     geometry and textures
    camera, render, develop      from geometry to frame
    conditions, light,
    weather, seasons             time, season and weather
    drives, plan, towns          many streets and drives as a data set on disk
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from .camera import Pose
from .conditions import DAY, DUSK, SEASONS, Conditions
from .develop import develop
from .kinds import KINDS, lay_out_street
from .quads import LABELS, Quads
from .render import paint
from .seasons import wardrobe
from .traffic import lay_out_moving, lay_out_traffic

__all__ = [
    "DAY",
    "DUSK",
    "KINDS",
    "LABELS",
    "SEASONS",
    "Conditions",
    "Pose",
    "View",
    "World",
    "traverse",
    "write_traverse",
]

KNOT_SPACING_M = 15.0  # distance over which lateral offset and heading change
SPEED_M_PER_S = 8.0
COLUMNS = ("image", "x_m", "y_m", "z_m", "heading_deg", "timestamp_s", "name", "traverse")


@dataclass(frozen=True)
class View:
    """One rendered frame.

    Attributes:
        frame: uint8 (H, W, 3), RGB.
        labels: uint8 (H, W), Cityscapes train id of each pixel, see `LABELS`.
    """

    frame: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]


class World:
    """One street along the x axis, from x = 0 to `length_m`. Objects continue past both ends."""

    def __init__(self, seed: int = 0, length_m: float = 300.0, kind: str = "terrace"):
        """Build the street, which takes about 1 s for 300 m.

        Args:
            seed: >= 0.
            length_m: of the part to drive along, > 0.
            kind: one of `KINDS`, or "any" to draw it from the seed.

        Raises:
            ValueError: `seed` or `length_m` is out of range, or the kind is unknown.
        """
        if seed < 0:
            raise ValueError(f"seed is {seed}, expected 0 or more")
        if not 0.0 < length_m < float("inf"):
            raise ValueError(f"length_m is {length_m}, expected a positive number of metres")
        if kind != "any" and kind not in KINDS:
            raise ValueError(f"kind is {kind!r}, expected any or one of {', '.join(KINDS)}")
        self.seed, self.length_m = seed, length_m
        self._street = lay_out_street(seed, length_m, kind)

    def render(
        self,
        pose: Pose,
        conditions: Conditions,
        *,
        height: int = 240,
        width: int = 320,
        traverse_seed: int = 0,
        moving_per_100m: float = 0.0,
    ) -> View:
        """Render the view from one pose.

        Args:
            pose: in the street, not inside a house.
            conditions: hour, weather and camera settings. Labels do not depend on them.
            height: of the frame, px, >= 32.
            width: of the frame, px, >= 32.
            traverse_seed: of the cars, people, clouds and camera noise of this drive, >= 0.
            moving_per_100m: average number of moving vehicles per 100 m of each lane, [0, 100). They move as if the
                camera drove at 8 m/s.

        Raises:
            ValueError: a figure is out of range.
        """
        if min(height, width) < 32:
            raise ValueError(f"the frame is {height} x {width} px, expected both sides >= 32 px")
        if traverse_seed < 0:
            raise ValueError(f"traverse_seed is {traverse_seed}, expected 0 or more")
        if not 0.0 <= moving_per_100m < 100.0:
            raise ValueError(f"moving_per_100m is {moving_per_100m}, expected 0 to 100")
        if not np.isfinite([pose.x_m, pose.y_m, pose.heading_deg]).all():
            raise ValueError(f"the pose is {pose}, expected finite numbers")
        if not (0.2 <= pose.height_m <= 10.0 and abs(pose.pitch_deg) <= 10.0):
            raise ValueError(f"the pose is {pose}, expected a height of 0.2 m to 10 m and a pitch within 10 degrees")
        street = self._street
        drive = (self.seed, traverse_seed, self.length_m, street.section)
        parts = [street.quads, _traffic(*drive)]
        if moving_per_100m > 0.0:
            parts.append(_moving(*drive, moving_per_100m).seen_from(pose.x_m, pose.y_m))
        dress = wardrobe(conditions, traverse_seed)
        scene = Quads.concatenate(parts)
        buffer = paint(scene, pose, height, width, self.seed, skyline=street.skyline, dress=dress)
        # The pose's bits seed the sensor, so frames do not depend on the order of rendering.
        bits = np.array([pose.x_m, pose.y_m, pose.heading_deg]).view(np.uint32)
        rng = np.random.default_rng([self.seed, traverse_seed, *bits.tolist()])
        frame = develop(buffer, conditions, traverse_seed, rng, seed=self.seed, street=street)
        return View(frame, buffer.labels)


def traverse(
    length_m: float,
    spacing_m: float,
    *,
    seed: int,
    start_m: float = 0.0,
    lateral_m: float = 0.0,
    lateral_jitter_m: float = 0.2,
    heading_jitter_deg: float = 1.0,
) -> list[Pose]:
    """A drive along the street with slowly varying lateral offset and heading.

    Args:
        length_m: x at the end of the drive (excluded).
        spacing_m: between two poses along x, > 0.
        seed: of the variation, >= 0.
        start_m: x of the first pose.
        lateral_m: mean offset, left positive.
        lateral_jitter_m: standard deviation of the offset around its mean, >= 0.
        heading_jitter_deg: standard deviation of the heading around 0, >= 0.

    Raises:
        ValueError: a figure is out of range.
    """
    if not spacing_m > 0.0:
        raise ValueError(f"spacing_m is {spacing_m}, expected more than 0")
    if lateral_jitter_m < 0.0 or heading_jitter_deg < 0.0:
        raise ValueError(f"jitters are {lateral_jitter_m} m and {heading_jitter_deg} deg, expected 0 or more")
    rng = np.random.default_rng([seed, 0x2A])
    along = np.arange(start_m, length_m, spacing_m)
    knots = np.arange(start_m, max(length_m, start_m) + 2.0 * KNOT_SPACING_M, KNOT_SPACING_M)
    lateral = lateral_m + lateral_jitter_m * np.interp(along, knots, rng.standard_normal(len(knots)))
    heading = heading_jitter_deg * np.interp(along, knots, rng.standard_normal(len(knots)))
    return [Pose(float(x), float(y), float(h)) for x, y, h in zip(along, lateral, heading, strict=True)]


def write_traverse(
    folder: Path,
    world: World,
    poses: list[Pose],
    conditions: Conditions,
    *,
    traverse_seed: int,
    height: int = 240,
    width: int = 320,
    progress: Callable[[int, int], None] | None = None,
    labels: bool = False,
    poses_csv: Path | None = None,
) -> None:
    """Render a drive into a folder: 0000.png, 0001.png, ... and a table of their positions.

    An old table is removed first, and the new one is written last and atomically. So no table names missing images.

    Args:
        folder: created if missing. Images of the same names are overwritten.
        world: to render.
        poses: in driving order.
        conditions: of all frames.
        traverse_seed: see `World.render`.
        height: of the frames, px.
        width: of the frames, px.
        progress: called after each frame with the number done and the total.
        labels: also write label maps, to `folder`/labels/0000.png, ...
        poses_csv: the table, by default `folder`/places.csv. It names images relative to `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "places.csv" if poses_csv is None else poses_csv
    table.unlink(missing_ok=True)
    if labels:
        (folder / "labels").mkdir(exist_ok=True)
    digits = max(4, len(str(len(poses) - 1)))
    rows, driven_m = [], 0.0
    for index, pose in enumerate(poses):
        name = f"{index:0{digits}d}.png"
        view = world.render(pose, conditions, height=height, width=width, traverse_seed=traverse_seed)
        _write_png(folder / name, np.asarray(cv2.cvtColor(view.frame, cv2.COLOR_RGB2BGR), np.uint8))
        if labels:
            _write_png(folder / "labels" / name, view.labels)
        if index > 0:
            driven_m += float(np.hypot(pose.x_m - poses[index - 1].x_m, pose.y_m - poses[index - 1].y_m))
        position = (f"{pose.x_m:.3f}", f"{pose.y_m:.3f}", "0.000", f"{pose.heading_deg:.3f}")
        rows.append((name, *position, f"{driven_m / SPEED_M_PER_S:.3f}", f"{pose.x_m:.1f} m", conditions.name))
        if progress is not None:
            progress(index + 1, len(poses))
    table.parent.mkdir(parents=True, exist_ok=True)
    partial = table.with_name(table.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    partial.replace(table)


# Large enough to render a day and a dusk traverse in turns.
_traffic = functools.lru_cache(maxsize=2)(lay_out_traffic)
_moving = functools.lru_cache(maxsize=2)(lay_out_moving)


def _write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    # imencode, as imwrite only returns False on a full disk.
    _, encoded = cv2.imencode(".png", pixels)
    path.write_bytes(encoded.tobytes())
