"""Open any source of frames: a folder, a CSV of places, an image or a video."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import DataError
from .deep_vg import read_names
from .folder import ImageSource, list_images
from .image_file import IMAGE_SUFFIXES
from .places_csv import PLACES_CSV, read_places_csv
from .source import FrameInfo, Source
from .video import VIDEO_SUFFIXES, VideoSource

__all__ = ["open_source"]


def open_source(path: str | os.PathLike[str], *, every_s: float | None = None, positions: bool = True) -> Source:
    """Open whatever holds frames.

    Args:
        path: a folder of images (with a places.csv, with deep-VG names, or plain), a CSV of places, one image, or a
            video.
        every_s: of a video, seconds between the frames taken; None for every frame.
        positions: whether to read positions. Pass False for queries, whose positions must not influence the answer.

    Returns:
        The source. Frames come in the order of the file names, the CSV's rows or the video.

    Raises:
        DataError: the path holds no frames, or its CSV or its file names are wrong.
        UsageError: `every_s` is not above 0.
        FrameError: a video cannot be opened.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES and path.is_file():
        return VideoSource(path, every_s)
    if path.is_dir():
        if positions and (path / PLACES_CSV).is_file():
            return read_places_csv(path / PLACES_CSV)
        files = list_images(path)
        named = read_names(files) if positions else None
        images = [str(file.relative_to(path)) for file in files]
        if named is None:
            return ImageSource(list(zip(files, map(FrameInfo, images), strict=True)))
        return ImageSource(list(zip(files, named.infos(images), strict=True)), named.geography)
    if suffix == ".csv" and path.is_file():
        return read_places_csv(path, positions=positions)
    if suffix in IMAGE_SUFFIXES and path.is_file():
        return ImageSource([(path, FrameInfo(path.name))])
    kinds = "a folder of images, a CSV, an image or a video"
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; name {kinds}")
    raise DataError(f"{path}: is of an unknown kind; name {kinds}")
