"""Reads the frames that a candidate is judged on: images alone, or queries with known places in a database."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sdk import DataError, FrameError, UsageError, open_source, read_image
from sdk.evaluation.sets import find_dataset, read_frame_sets, read_position_set
from sdk.frames.sources import ImageSource

from ..progress import Progress

__all__ = ["GateFrames", "read_gate_frames", "require_apart", "require_readable"]


@dataclass(frozen=True)
class GateFrames:
    """Image files to describe.

    Attributes:
        queries: two or more.
        database: frames of the map; None to search each query among all the others.
        positives: one int64 array of database indices per query; None if true places are not known.
        right: what counts as a true place, such as "25 m"; empty if none are known.
    """

    queries: Sequence[Path]
    database: Sequence[Path] | None = None
    positives: Sequence[npt.NDArray[np.int64]] | None = None
    right: str = ""


def read_gate_frames(
    frames: Path | None = None,
    dataset: str | None = None,
    database_folder: Path | None = None,
    queries_folder: Path | None = None,
    radius_m: float = 25.0,
) -> GateFrames | None:
    """Read the frames that a verb's options name; None if they name none.

    Args:
        frames: a folder of images, or a CSV of places.
        dataset: as for `structvpr eval`; all traverses of queries are used, and the set's own rule says what is right.
        database_folder: images with positions.
        queries_folder: images with positions.
        radius_m: with the two folders: radius of the true places.

    Raises:
        UsageError: more than one kind of data is named, or one folder of two, or the radius is out of range.
        DataError: the data cannot be read, or has fewer than two queries; a query is byte for byte the same file as
            another query or a frame of the database; no query has a true place.
    """
    folders = database_folder is not None or queries_folder is not None
    if (frames is not None) + (dataset is not None) + folders > 1:
        raise UsageError("several of --frames, --dataset and --database_folder with --queries_folder; choose one")
    if folders and (database_folder is None or queries_folder is None):
        raise UsageError("one of --database_folder and --queries_folder was given, expected both; add the other")
    if not 0 <= radius_m < float("inf"):
        raise UsageError(f"--positive_dist_threshold is {radius_m}, expected metres >= 0")
    if frames is not None:
        found = GateFrames(_files(frames))
    elif dataset is not None:
        sets = read_frame_sets(find_dataset(dataset), ())
        (right,) = sets[0].positives
        found = GateFrames(
            [query for a_set in sets for query in a_set.queries],
            sets[0].database,
            [true for a_set in sets for true in a_set.positives[right]],
            right,
        )
    elif database_folder is not None and queries_folder is not None:
        a_set = read_position_set(database_folder, queries_folder, radius_m)
        (right,) = a_set.positives
        found = GateFrames(a_set.queries, a_set.database, a_set.positives[right], right)
    else:
        return None
    if len(found.queries) < 2:
        raise DataError(f"{found.queries[0].parent}: holds one frame, and a comparison needs several; add some")
    _require_different(found)
    if found.positives is not None and not any(len(true) for true in found.positives):
        raise DataError(
            f"no query has a true place ({found.right}); give queries of places in the database, a larger "
            "--positive_dist_threshold, or --frames to judge without places"
        )
    return found


def require_readable(frames: GateFrames, progress: Progress | None = None) -> None:
    """Decode each frame once, so that a damaged one is found before minutes of building.

    Raises:
        FrameError: a frame cannot be decoded.
    """
    files = [*frames.queries, *(frames.database or ())]
    for done, path in enumerate(files, start=1):
        read_image(path)
        if progress is not None:
            progress("reading frames", done, len(files))


def _require_different(frames: GateFrames) -> None:
    """Refuse identical files: a query finds its own copy with any network, and a copied query counts twice."""
    seen = {_digest(path): path for path in frames.database or ()}
    for query in frames.queries:
        twin = seen.setdefault(_digest(query), query)
        if twin is not query:
            raise DataError(f"{query}: is the same picture as {twin}, which any network finds; take one of them out")


def require_apart(calibration: Path, frames: GateFrames) -> None:
    """Refuse queries that are calibration frames too, under any name: they look better than new frames would.

    Files are compared byte for byte, so frames of a video and re-encoded copies are not noticed. Frames of the database
    may be calibration frames: a robot calibrates on the places of its map.

    Raises:
        DataError: a query is a calibration frame.
    """
    source = open_source(calibration, positions=False)
    fitted = {_digest(path): path for path, _ in source.files} if isinstance(source, ImageSource) else {}
    for query in frames.queries:
        if twin := fitted.get(_digest(query)):
            raise DataError(
                f"{query}: is a frame to judge on and, as {twin}, one to calibrate on; take it out of one folder"
            )


def _files(frames: Path) -> list[Path]:
    source = open_source(frames, positions=False)
    if not isinstance(source, ImageSource):
        raise DataError(
            f"{frames}: is a video, expected a folder of images of different places; extract one frame every few "
            "metres, for example with ffmpeg"
        )
    return [path for path, _ in source.files]


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FrameError(f"{path}: cannot be read ({error.strerror}); check the path") from None
