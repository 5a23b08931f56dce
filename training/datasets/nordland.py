"""Nordland: one railway in four seasons, under the four protocols that publications call "Nordland".

    protocol       queries x database   right if                                layout
    patch-netvlad  27,592 x 27,592      at most 7 frames off                    <season>/images-NNNNN.png
    ten-frames     27,592 x 27,592      at most 10 frames off                   <season>/images-NNNNN.png
    gsv-cities     2,760 x 27,592       at most 1 frame off its 10th            query/NNNNNNN.jpg, ref/NNNNNNN.jpg
    partitioned    3,450 x 3,450        at most 1 frame off (reconstruction)    test/<season>_images_test/section1/N.png

Patch-NetVLAD's tolerance is 10, but its ground truth places frame i at the point (i, i) and measures Euclidean
distance: |i - j| sqrt(2) <= 10 means |i - j| <= 7. A season at one frame a second has 35,768 images; the 27,592 without
tunnels and stops are listed in cleanImageNames.txt.

Source: QVPR/Patch-NetVLAD, dataset_gt_files/nordland.npz and dataset_imagenames; amaralibey/gsv-cities,
datasets/Nordland/Nordland_gt.npy (the same as VPR-Bench); amaralibey/Bag-of-Queries and
gmberton/VPR-datasets-downloader for 10 frames; Olid, Facil and Civera, Single-View Place Recognition under Seasonal
Changes (2018), for the partitioned one; as they stood in November 2026.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdk import DataError, UsageError
from sdk.frames.folder import list_images

from .training_set import TrainingSet, set_from_positions

__all__ = ["PROTOCOLS", "Protocol", "read_nordland"]

CLEAN_NAMES = "cleanImageNames.txt"
SECTION_APART = 1e6  # frames; more than a season has


@dataclass(frozen=True)
class Protocol:
    """One protocol of evaluation.

    Attributes:
        tolerance: frames that an answer may be off.
        most_frames: images of the database; None: as many as there are.
        step: query i shows frame step * i of the database.
    """

    tolerance: int
    most_frames: int | None
    step: int = 1


PROTOCOLS = {
    "patch-netvlad": Protocol(7, 27_592),
    "ten-frames": Protocol(10, 27_592),
    "gsv-cities": Protocol(1, 27_592, step=10),
    "partitioned": Protocol(1, None),
}


def read_nordland(
    folder: Path,
    split: str,
    *,
    protocol: str = "patch-netvlad",
    queries: str = "winter",
    database: str = "summer",
    tolerance: int | None = None,
) -> TrainingSet:
    """Read two traverses of the railway.

    Args:
        folder: of the layout that the protocol names above.
        split: "test"; in the partitioned layout "train" too.
        protocol: "patch-netvlad", "ten-frames", "gsv-cities" or "partitioned".
        queries, database: seasons; gsv-cities has none, but query/ and ref/.
        tolerance: frames that an answer may be off; the protocol's unless given.

    Raises:
        DataError: a folder is missing or empty, the traverses are of different length, or they have frames that the
            protocol leaves out.
        UsageError: the protocol, the split or the tolerance is out of range.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"nordland: protocol is {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    rule = PROTOCOLS[protocol]
    splits = ("train", "test") if protocol == "partitioned" else ("test",)
    if split not in splits:
        raise UsageError(
            f"nordland {protocol}: split is {split!r}, expected {' or '.join(splits)}; choose another, or the "
            "partitioned layout to train with"
        )
    if protocol == "gsv-cities":
        folders = [folder / "query", folder / "ref"]
    elif protocol == "partitioned":
        folders = [folder / split / f"{season}_images_{split}" for season in (queries, database)]
    else:
        folders = [folder / queries, folder / database]
    asked, answers = (_clean(folder, list_images(part)) for part in folders)
    frames_asked, frames = (_frames(part, files) for part, files in zip(folders, (asked, answers), strict=True))
    if rule.most_frames is not None and len(answers) > rule.most_frames:
        raise DataError(
            f"{folders[1]}: has {len(answers)} images, the protocol {protocol} is on {rule.most_frames} of them; put "
            f"{CLEAN_NAMES}, the list without tunnels and stops, into {folder}"
        )
    frames_asked[:, 0] *= rule.step
    if {tuple(frame) for frame in frames_asked} - {tuple(frame) for frame in frames} or (
        rule.step == 1 and len(asked) != len(answers)
    ):
        raise DataError(
            f"nordland {protocol}: {len(asked)} queries and {len(answers)} images of the database found, expected "
            + ("the same frames of both seasons" if rule.step == 1 else f"every {rule.step}th frame to be asked")
            + "; unpack the rest of them"
        )
    if rule.step == 1:
        for one, other in zip(asked, answers, strict=True):
            if one.stem != other.stem:
                raise DataError(
                    f"nordland {protocol}: {one} and {other} have the same number in the order but different names; "
                    "unpack the missing frames of both seasons"
                )
    off = (rule.tolerance if tolerance is None else tolerance) + 0.5  # frames are whole: a tolerance of 0 is one too
    return set_from_positions(
        f"nordland {protocol} {split}",
        [*asked, *answers],
        np.concatenate([frames_asked, frames]),  # in frames, not metres
        queries=np.arange(len(asked)),
        database=np.arange(len(asked), len(asked) + len(answers)),
        positive_radius_m=off,
        near_radius_m=off,
        root=folder,
    )


def _clean(folder: Path, files: list[Path]) -> list[Path]:
    """The files that the list in the folder names, or all if there is no list."""
    if not (folder / CLEAN_NAMES).is_file():
        return files
    try:
        names = set((folder / CLEAN_NAMES).read_text("utf-8").split())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{folder / CLEAN_NAMES}: cannot be read ({reason}); replace it") from None
    kept = [file for file in files if file.name in names]
    if not kept:
        raise DataError(
            f"{folder / CLEAN_NAMES}: names none of the images of {files[0].parent}, such as {files[0].name}; replace "
            "the list"
        )
    return kept


def _frames(folder: Path, files: list[Path]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Sort files by section and number, and give each a point: (number in its section, offset of the section)."""
    sections = sorted({str(file.parent) for file in files}, key=_by_number)
    files.sort(key=lambda file: (_by_number(str(file.parent)), _by_number(file.name)))
    count = dict.fromkeys(sections, 0)
    frames = np.empty((len(files), 2))
    for i, file in enumerate(files):
        section = str(file.parent)
        frames[i] = count[section], sections.index(section) * SECTION_APART
        count[section] += 1
    return frames


def _by_number(text: str) -> list[tuple[int, str]]:
    """A key that sorts 10 after 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
