"""What a candidate is judged on: frames alone, or queries whose true places in a database are known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sdk import FrameError, MapError, open_source, read_image
from sdk.evaluation.sets import find_dataset, read_frame_sets, read_position_set
from sdk.frames.sources import ImageSource

__all__ = ["GateFrames", "read_gate_frames", "require_apart", "require_readable"]


@dataclass(frozen=True)
class GateFrames:
    """Image files to describe.

    Attributes:
        queries: asked, two or more.
        database: in the map; None if each query is asked against all the others.
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
    """Read what the options of a verb name; None if they name nothing.

    Args:
        frames: a folder of images, or a CSV of places.
        dataset: as `structvpr eval` takes it; all its traverses of queries are taken together, and what is right is the
            set's own rule.
        database_folder: images with positions.
        queries_folder: images with positions.
        radius_m: with folders: how near a true place is.

    Raises:
        MapError: more than one kind is named, or half of one, or what it names is not there; a query is the same file,
            byte for byte, as another or as one of the database; positions are known, and no query is near the database.
        FrameError: there are fewer than two frames.
    """
    folders = database_folder is not None or queries_folder is not None
    if (frames is not None) + (dataset is not None) + folders > 1:
        raise MapError(
            "several of --frames, --dataset and --database_folder with --queries_folder were given, expected one kind "
            "of data to judge on; leave out the others"
        )
    if folders and (database_folder is None or queries_folder is None):
        raise MapError(
            "one of --database_folder and --queries_folder was given, expected both; add the other, or give --frames"
        )
    if not 0 <= radius_m < float("inf"):
        raise MapError(f"--positive_dist_threshold is {radius_m}, expected metres >= 0; correct it")
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
        raise FrameError(f"{found.queries[0].parent}: holds one frame, expected several to compare; add some")
    _require_different(found)
    if found.positives is not None and not any(len(true) for true in found.positives):
        raise MapError(
            f"no query has a true place ({found.right}), expected some; give queries of places in the database, a "
            "larger --positive_dist_threshold, or --frames to judge without places"
        )
    return found


def require_readable(frames: GateFrames, progress: Callable[[str, int, int], None] | None = None) -> None:
    """Decode each frame once, before minutes of building; `progress` is told (what, done, total).

    Raises:
        FrameError: one cannot be.
    """
    files = [*frames.queries, *(frames.database or ())]
    for done, path in enumerate(files, start=1):
        read_image(path)
        if progress is not None:
            progress("reading frames", done, len(files))


def _require_different(frames: GateFrames) -> None:
    """A query that finds its own file is right with any network, and one that is there twice counts for two."""
    seen = {_digest(path): path for path in frames.database or ()}
    for query in frames.queries:
        twin = seen.setdefault(_digest(query), query)
        if twin is not query:
            raise MapError(
                f"{query}: is the same picture as {twin}, expected queries that differ from each other and from the "
                "database; take one of them out"
            )


def require_apart(calibration: Path, frames: GateFrames) -> None:
    """Refuse queries that are among the frames to calibrate on, under whatever name.

    Files are compared byte for byte: frames of a video and copies that were encoded again are not recognised. Frames of
    the database may be calibrated on: a robot calibrates on the places of its map.

    Raises:
        MapError: one is; ranges that were set on a query say nothing of the next one.
    """
    source = open_source(calibration, positions=False)
    fitted = {_digest(path): path for path, _ in source.files} if isinstance(source, ImageSource) else {}
    for query in frames.queries:
        if twin := fitted.get(_digest(query)):
            raise MapError(
                f"{query}: is a frame to judge on and, as {twin}, one to calibrate on, expected different frames; take "
                "it out of one of the folders"
            )


def _files(frames: Path) -> list[Path]:
    source = open_source(frames, positions=False)
    if not isinstance(source, ImageSource):
        raise FrameError(
            f"{frames}: is a video, expected a folder of images, of which each is another place; take frames out of it "
            "with ffmpeg, one every few metres"
        )
    return [path for path, _ in source.files]


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FrameError(f"{path}: cannot be read ({error.strerror}), expected an image; check the path") from None
