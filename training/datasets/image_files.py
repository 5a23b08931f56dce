"""Which image files are there, asked of folders rather than of each file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sdk import MapError

__all__ = ["find_missing", "list_image_files", "require_images"]

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def list_image_files(folder: Path) -> list[Path]:
    """The image files below a folder, by name, without hidden ones.

    Links to folders are followed, but for those to a folder that they lie in.

    Raises:
        MapError: there are none, or no folder.
    """
    if not folder.is_dir():
        raise MapError(f"{folder}: there is no such folder, expected a folder of images; check the path")
    found: list[str] = []
    way: dict[str, frozenset[tuple[int, int]]] = {}  # the folders above each one yet to be walked
    for parent, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(parent)  # noqa: PTH116 - a str, as os.walk gives it
        identity, above = (status.st_dev, status.st_ino), way.pop(parent, frozenset())
        if identity in above:  # a link back up, which would go round for ever
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        way |= dict.fromkeys((os.path.join(parent, name) for name in folders), above | {identity})  # noqa: PTH118
        found += [
            os.path.join(parent, name)  # noqa: PTH118 - a Path for each of a million names takes seconds
            for name in files
            if not name.startswith(".") and name.lower().endswith(SUFFIXES)
        ]
    if not found:
        raise MapError(f"{folder}: holds no image, expected files ending in {' '.join(SUFFIXES)}; check the path")
    return [Path(name) for name in sorted(found)]


def find_missing(files: Sequence[Path]) -> list[Path]:
    """Those of some files that do not exist: each folder is listed once, which takes seconds for a million files."""
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
    """Raise MapError, with their number and the first of them, if image files are missing."""
    if missing := find_missing(files):
        raise MapError(
            f"{name}: {len(missing)} of {len(files)} images are missing, the first is {missing[0]}, expected every "
            "image that the data set lists; unpack the rest of it, or check the folder"
        )
