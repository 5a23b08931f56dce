"""Frames to judge a candidate on: frames alone, or queries whose true places in a database are known."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sdk import DataError, FrameError, UsageError, open_source, read_image
from sdk.evaluation.sets import OWN_RULE, PlaceSet, find_dataset, read_frame_sets, read_position_set
from sdk.frames.folder import ImageSource

from ..progress import Progress

__all__ = ["read_gate_frames", "require_apart", "require_readable"]


def read_gate_frames(
    frames: Path | None = None,
    dataset: str | None = None,
    database_folder: Path | None = None,
    queries_folder: Path | None = None,
    radius_m: float = 25.0,
) -> PlaceSet | None:
    """Read what the options of a verb name; None if they name nothing.

    Args:
        frames: a folder of images, or a CSV of places. Each is a query among the others.
        dataset: as `structvpr eval` takes it. All its traverses of queries are taken together, under its own rule.
        database_folder: images with positions.
        queries_folder: images with positions.
        radius_m: with folders: radius of true places.

    Raises:
        UsageError: the options name more than one kind of data, or half of one, or the radius is out of range.
        DataError: the data cannot be read, there are fewer than two frames, two queries or a query and an image of the
            database are the same file (byte for byte), or true places are known and no query has one.
    """
    folders = database_folder is not None or queries_folder is not None
    if (frames is not None) + (dataset is not None) + folders > 1:
        raise UsageError("give one of --frames, --dataset, and --database_folder with --queries_folder, not several")
    if folders and (database_folder is None or queries_folder is None):
        raise UsageError("one of --database_folder and --queries_folder was given; add the other, or give --frames")
    if not 0 <= radius_m < float("inf"):
        raise UsageError(f"--positive_dist_threshold is {radius_m}; give metres >= 0")
    if frames is not None:
        found = PlaceSet(frames.stem, _files(frames))
    elif dataset is not None:
        sets = read_frame_sets(find_dataset(dataset), ())
        found = PlaceSet(
            dataset,
            [query for one in sets for query in one.queries],
            sets[0].database,
            {OWN_RULE: [true for one in sets for true in one.protocols[OWN_RULE]]},
            sum(one.untrusted for one in sets),
        )
    elif database_folder is not None and queries_folder is not None:
        found = read_position_set(database_folder, queries_folder, radius_m)
    else:
        return None
    if len(found.queries) < 2:
        raise DataError(f"{found.queries[0].parent}: holds one frame; give several, which can be compared")
    _require_different(found)
    if found.positives is not None and not any(len(true) for true in found.positives):
        raise DataError(
            f"no query has a true place ({found.right}); give queries of places in the database, a larger "
            "--positive_dist_threshold, or --frames to judge without places"
        )
    return found


def require_readable(frames: PlaceSet, progress: Progress | None = None) -> None:
    """Decode each frame once, so that a damaged one is found before minutes of building.

    Args:
        frames: what to read.
        progress: see `Progress`.

    Raises:
        FrameError: a frame cannot be decoded.
    """
    files = [*frames.queries, *(frames.database or ())]
    for done, path in enumerate(files, start=1):
        read_image(path)
        if progress is not None:
            progress("reading frames", done, len(files))


def _require_different(frames: PlaceSet) -> None:
    """Any network finds a query that is in the database itself, and a query that is there twice counts twice."""
    seen = {_digest(path): path for path in frames.database or ()}
    for query in frames.queries:
        twin = seen.setdefault(_digest(query), query)
        if twin is not query:
            raise DataError(f"{query}: is the same picture as {twin}; take one of them out")


def require_apart(calibration: Path, frames: PlaceSet) -> None:
    """Refuse queries that are also frames to calibrate on, whatever their names.

    Ranges that were calibrated on a query do not show how the network treats other frames. Files are compared byte for
    byte, so frames of a video and re-encoded copies are not recognised. Frames of the database may be used to
    calibrate, because a robot calibrates on the places of its map.

    Raises:
        DataError: a query is a frame to calibrate on.
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
            f"{frames}: is a video; take frames of different places out of it with ffmpeg, one every few metres, and "
            "give their folder"
        )
    return [path for path, _ in source.files]


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FrameError(f"{path}: cannot be read ({error.strerror}); check the path") from None
