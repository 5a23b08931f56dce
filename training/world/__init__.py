"""A synthetic street, rendered from a seed: images, exact positions and exact label maps.

    world = World(seed=0, length_m=300.0)
    poses = traverse(300.0, spacing_m=2.5, seed=1)
    write_traverse(folder, world, poses, DAY, traverse_seed=1)

Needs numpy and OpenCV only. The same seeds, pose and conditions give the same bytes, in any process on one build
of both.

    kinds, street, traffic       what stands there: what stays, and what comes and goes
    quads, textures, facades     what it is made of
    camera, render, develop      how it becomes a frame
    conditions, light,
    weather, seasons             when, and in which weather
    drives, plan, towns          many streets, driven along in many conditions, as a data set on disk
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

KNOT_SPACING_M = 15.0  # lateral offset and heading change over about this distance
SPEED_M_PER_S = 8.0
COLUMNS = ("image", "x_m", "y_m", "z_m", "heading_deg", "timestamp_s", "name", "traverse")


@dataclass(frozen=True)
class View:
    """One rendered frame.

    Attributes:
        frame: uint8 (H, W, 3), RGB.
        labels: uint8 (H, W), the Cityscapes train id of what each pixel of the frame shows; see `LABELS`.
    """

    frame: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]


class World:
    """One street along the x axis, from x = 0 to `length_m`, and on past both ends: there is always a view."""

    def __init__(self, seed: int = 0, length_m: float = 300.0, kind: str = "terrace"):
        """Build the street: about a second for 300 m.

        Args:
            seed: >= 0. Another seed, another street.
            length_m: of the part to drive along, > 0.
            kind: one of `KINDS`, or "any": drawn by the seed.

        Raises:
            ValueError: `seed` or `length_m` is out of range, or there is no such kind.
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
        """The view from one pose.

        Args:
            pose: inside the street: the camera sees no houses from within.
            conditions: hour, weather and camera settings. Labels do not depend on them.
            height: of the frame, px, >= 32.
            width: of the frame, px, >= 32.
            traverse_seed: >= 0; cars, people, clouds and the camera's noise of this drive.
            moving_per_100m: vehicles that drive along or towards the camera, on average and on either lane, >= 0.
                They move as if the camera drove 8 m/s.

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
        # The bits of the pose's numbers seed the sensor: frames do not depend on the order of rendering.
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
    """A drive along the street, its lateral offset and heading wandering slowly.

    Args:
        length_m: drive until x reaches this (excluded).
        spacing_m: between two poses along x, > 0.
        seed: of the wandering, >= 0.
        start_m: x of the first pose.
        lateral_m: mean offset, left positive.
        lateral_jitter_m: standard deviation of the offset round its mean, >= 0.
        heading_jitter_deg: standard deviation of the heading round 0, >= 0.

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
    """Render a drive into a folder: 0000.png, 0001.png, ... and a table of where they were taken.

    The table is written last and in one step, and one that is there already is removed first: a table never names
    images that an interrupted run did not write.

    Args:
        folder: made if missing. Images of the same names are overwritten.
        world: to render.
        poses: in driving order.
        conditions: of all frames.
        traverse_seed: see `World.render`.
        height: of the frames, px.
        width: of the frames, px.
        progress: called after each frame with the number done and the number of all.
        labels: also write label maps, to `folder`/labels/0000.png, ...
        poses_csv: the table; `folder`/places.csv unless given. Images are named relative to `folder` either way.
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


# A day and a dusk traverse may be rendered in turns.
_traffic = functools.lru_cache(maxsize=2)(lay_out_traffic)
_moving = functools.lru_cache(maxsize=2)(lay_out_moving)


def _write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    # imencode and not imwrite, which reports a full disk by returning False.
    _, encoded = cv2.imencode(".png", pixels)
    path.write_bytes(encoded.tobytes())
