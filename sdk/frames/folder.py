"""Image files: which of them a folder holds, and a source that reads them one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import DataError
from ..geography import Geography
from .image_file import IMAGE_SUFFIXES, read_image
from .source import FrameInfo, Sighting, Source

__all__ = ["ImageSource", "find_missing", "list_images", "require_images"]


class ImageSource(Source):
    """Image files with what is known about each."""

    def __init__(self, files: Sequence[tuple[Path, FrameInfo]], geography: Geography | None = None) -> None:
        self.files = files
        self.geography = geography
        self.num_frames = len(files)

    def __iter__(self) -> Iterator[Sighting]:
        for path, info in self.files:
            yield Sighting(read_image(path), info)


def list_images(folder: Path) -> list[Path]:
    """The image files below a folder, sorted by name, without hidden ones.

    Links to folders are followed, except a link to a folder that contains it.

    Raises:
        DataError: there are none, or there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; name a folder of images")
    found: list[str] = []
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(str(folder), frozenset())]
    while waiting:
        parent, above = waiting.pop()
        status = os.stat(parent)  # noqa: PTH116 - a Path for each of a million names takes seconds
        identity = (status.st_dev, status.st_ino)
        if identity in above:  # a link back up
            continue
        with os.scandir(parent) as entries:
            for entry in entries:
                # Hidden: thumbnails of file managers, and the ._ files that macOS leaves beside each image.
                if entry.name.startswith("."):
                    continue
                is_folder, is_file = entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False)
                if entry.is_symlink():  # these, unlike entry's own, allow a link that leads to itself
                    is_folder, is_file = os.path.isdir(entry.path), os.path.isfile(entry.path)  # noqa: PTH112, PTH113
                if is_folder:
                    waiting.append((entry.path, above | {identity}))
                elif is_file and entry.name.lower().endswith(IMAGE_SUFFIXES):
                    found.append(entry.path)
    if not found:
        raise DataError(f"{folder}: holds no image; name a folder with files ending in {' '.join(IMAGE_SUFFIXES)}")
    return [Path(name) for name in sorted(found, key=lambda name: name.split(os.sep))]  # noqa: PTH206


def find_missing(files: Sequence[Path]) -> list[Path]:
    """Those of some files that do not exist. Each folder is listed once, so that a million files take seconds."""
    listed: dict[str, set[str]] = {}
    missing = []
    for file in files:
        parent, name = os.path.split(file)
        if parent not in listed:
            try:
                listed[parent] = set(os.listdir(parent or "."))  # noqa: PTH208 - names are what is wanted
            except OSError:
                listed[parent] = set()
        if name not in listed[parent]:
            missing.append(file)
    return missing


def require_images(name: str, files: Sequence[Path]) -> None:
    """Raise DataError, with their number and the first of them, if image files are missing."""
    if missing := find_missing(files):
        raise DataError(
            f"{name}: {len(missing)} of {len(files)} images are missing, the first is {missing[0]}; unpack the rest of "
            "the data set, or check the folder"
        )
