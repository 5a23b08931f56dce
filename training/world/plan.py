"""The plan of a set of towns: towns, streets, drives, and the position of every frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from . import traverse
from .camera import Pose
from .drives import Drive, draw_queries, draw_reference

__all__ = ["Job", "Plan", "PlanError", "jobs_of_street"]

MIN_SPACING_M = 0.1
MAX_FRAMES = 10_000_000


class PlanError(ValueError):
    """A parameter of a set is out of range, or its folder holds something else."""


@dataclass(frozen=True)
class Plan:
    """Parameters of a set of towns. The same parameters give the same files.

    Attributes:
        frames: minimum number, up to 10,000,000; only whole towns are written, so there may be more.
        seed: >= 0.
        height: of the frames, px, >= 32.
        width: of the frames, px, >= 32.
        streets_per_town: >= 1.
        street_length_m: >= `spacing_m`.
        queries_per_street: drives in addition to the reference, >= 1.
        spacing_m: between two frames of a drive, >= 0.1.
        val_share: of the towns; at least one town.
        test_share: of the towns; at least one town.

    Raises:
        PlanError: a parameter is out of range.
    """

    frames: int = 20000
    seed: int = 0
    height: int = 240
    width: int = 320
    streets_per_town: int = 4
    street_length_m: float = 150.0
    queries_per_street: int = 4
    spacing_m: float = 3.0
    val_share: float = 0.1
    test_share: float = 0.1

    def __post_init__(self) -> None:
        least = {"frames": 1, "seed": 0, "height": 32, "width": 32, "streets_per_town": 1, "queries_per_street": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise PlanError(f"{name} is {getattr(self, name)}, expected {low} or more")
        if self.frames > MAX_FRAMES:
            raise PlanError(f"frames is {self.frames}, expected {MAX_FRAMES} or fewer")
        if not MIN_SPACING_M <= self.spacing_m <= self.street_length_m < math.inf:
            raise PlanError(
                f"spacing_m is {self.spacing_m} and street_length_m {self.street_length_m}, expected "
                f"{MIN_SPACING_M} <= spacing_m <= street_length_m"
            )
        if not (self.val_share >= 0.0 and self.test_share >= 0.0 and self.val_share + self.test_share < 1.0):
            raise PlanError(
                f"val_share is {self.val_share} and test_share {self.test_share}, expected shares >= 0 "
                "with a sum below 1"
            )

    @property
    def frames_per_drive(self) -> int:
        """Frames of each drive."""
        return max(1, int(self.street_length_m / self.spacing_m + 1e-9))

    @property
    def towns(self) -> int:
        """Number of towns for `frames`, at least 3: one per split."""
        per_town = self.streets_per_town * (1 + self.queries_per_street) * self.frames_per_drive
        return max(3, math.ceil(self.frames / per_town))

    @property
    def total_frames(self) -> int:
        """Number of frames that are written."""
        return self.towns * self.streets_per_town * (1 + self.queries_per_street) * self.frames_per_drive

    def splits(self) -> list[str]:
        """The split of each town."""
        held = [max(1, round(self.towns * share)) for share in (self.val_share, self.test_share)]
        held = held if sum(held) < self.towns else [1, 1]
        names = ["val"] * held[0] + ["test"] * held[1]
        names += ["train"] * (self.towns - len(names))
        order = np.random.default_rng([self.seed, 0x5917]).permutation(self.towns)
        return [names[place] for place in np.argsort(order).tolist()]


@dataclass(frozen=True)
class Job:
    """One drive along one street, and the path of its frames."""

    plan: Plan
    town: int
    street: int
    drive: Drive
    drive_number: int

    @property
    def path(self) -> str:
        """Folder of the drive, below images/ and labels/."""
        return f"town-{self.town:03d}/street-{self.street}/{self.drive.name}"

    @property
    def poses(self) -> list[Pose]:
        """`frames_per_drive` poses, in the street's coordinates."""
        plan, drive = self.plan, self.drive
        end = drive.start_m + (plan.frames_per_drive - 0.5) * plan.spacing_m
        seed = [plan.seed, self.town, self.street, self.drive_number]
        wandering = traverse(
            end,
            plan.spacing_m,
            seed=int(np.random.default_rng(seed).integers(1 << 30)),
            start_m=drive.start_m,
            lateral_m=drive.lateral_m,
            lateral_jitter_m=drive.lateral_jitter_m,
            heading_jitter_deg=drive.heading_jitter_deg,
        )
        return [
            Pose(pose.x_m, pose.y_m, pose.heading_deg + drive.heading_deg, drive.height_m, drive.pitch_deg)
            for pose in wandering
        ]


def jobs_of_street(plan: Plan, town: int, street: int) -> list[Job]:
    """The drives along one street, the reference first."""
    rng = np.random.default_rng([plan.seed, town, street, 0xD7])
    drives = [draw_reference(rng), *draw_queries(rng, plan.queries_per_street, plan.spacing_m)]
    return [Job(plan, town, street, drive, number) for number, drive in enumerate(drives)]
