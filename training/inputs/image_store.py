"""Images and label maps of a training set at the network's size, with an optional disk cache."""

from __future__ import annotations

import copy
import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from sdk import DataError, FrameError, ModelContract, WriteError, prepare, read_image
from sdk.arrays import Bytes, Indices
from sdk.atomic_file import replace_when_done, writing
from sdk.progress import Progress

from ..labels.label_png import read_label_map
from ..labels.segmentation import cluster_label_map, find_label_set

__all__ = ["FrameStore", "LabelStore"]

THREADS = 2  # OpenCV releases the GIL while it decodes
CHUNK = 64  # files between two progress reports


class FrameStore:
    """Frames by number, prepared as on the device.

    Args:
        images: files.
        height, width: of the network's input, px.
        cache: folder for the prepared frames, N * height * width * 3 bytes; None decodes on every read.
        progress: called while the cache is filled.

    Raises:
        DataError: an image is missing.
        FrameError: an image cannot be decoded. The message names the first one and counts the others.
    """

    def __init__(
        self,
        images: Sequence[Path],
        height: int,
        width: int,
        *,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.images, self.height, self.width = images, height, width
        # Training and device share the SDK's `prepare`, which uses only the contract's size.
        self._contract = ModelContract("frames", "0" * 64, height, width, 1, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self._cached: Bytes | None = None
        if cache is not None:
            shape = (len(images), height, width, 3)
            self._cached = _cached_array(cache, "frames", images, shape, self._read, progress)

    def read(self, indices: Indices) -> Bytes:
        """uint8 (n, height, width, 3), RGB."""
        if self._cached is not None:
            return np.asarray(self._cached[indices])
        with ThreadPoolExecutor(THREADS) as pool:
            return np.stack(list(pool.map(lambda i: self._read(self.images[i]), indices)))

    def _read(self, path: Path) -> Bytes:
        try:
            return np.asarray(prepare(read_image(path), self._contract.size)[0])
        except FrameError as error:
            raise FrameError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


class LabelStore:
    """Label maps by number, merged to the six clusters, at the network's size.

    Args:
        maps: one label map per image, see `read_label_map`.
        label_set: of their ids, a name in `training.labels.label_sets.LABEL_SETS`.
        height, width: of the network's input, px.
        cache: folder, as for `FrameStore`.
        progress: as for `FrameStore`.

    Raises:
        DataError: a map is missing, or the label set is unknown.
        FrameError: a map is damaged, or has an id outside the label set.
    """

    def __init__(
        self,
        maps: Sequence[Path],
        label_set: str,
        height: int,
        width: int,
        *,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.maps, self.height, self.width = maps, height, width
        self._label_set = find_label_set(label_set)
        self._given: Indices | None = None
        self._cached: Bytes | None = None
        if cache is not None:
            shape = (len(maps), height, width)
            what = f"labels-{label_set}-{zlib.crc32(bytes(self._label_set.clusters)):08x}"
            self._cached = _cached_array(cache, what, maps, shape, self._read, progress)

    @property
    def given_maps(self) -> list[Path]:
        """The map of each image."""
        return list(self.maps) if self._given is None else [self.maps[i] for i in self._given]

    def read(self, indices: Indices) -> Bytes:
        """uint8 (n, height, width): cluster 0 to 5, 255 for void."""
        given = indices if self._given is None else self._given[indices]
        if self._cached is not None:
            return np.asarray(self._cached[given])
        return np.stack([self._read(self.maps[i]) for i in given])

    def shuffled(self, given: Indices) -> LabelStore:
        """A copy in which image i has the map of image `given[i]`, the control of the ablation."""
        other = copy.copy(self)
        other._given = given
        return other

    def _read(self, path: Path) -> Bytes:
        labels = read_label_map(path)
        clusters = cluster_label_map(labels, self._label_set, where=str(path))
        # Nearest: ids cannot be averaged.
        return np.asarray(cv2.resize(clusters, (self.width, self.height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _cached_array(
    folder: Path,
    what: str,
    files: Sequence[Path],
    shape: tuple[int, ...],
    read: Callable[[Path], Bytes],
    progress: Progress | None,
) -> Bytes:
    """Results of `read` for all files, from a cache file in `folder` that is created if missing."""
    try:
        stats = [path.stat() for path in files]
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; add this file or correct its path") from None
    known = hashlib.sha256(repr((what, shape)).encode())
    for path, stat in zip(files, stats, strict=True):
        known.update(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    cached = folder / f"{what}-{known.hexdigest()[:16]}.npy"
    if not cached.exists():
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with replace_when_done(cached) as temporary:
            array = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
            _reserve(temporary, cached, array.nbytes)
            _fill(array, files, read, progress, "images" if what == "frames" else "label maps")
            array.flush()
            del array
    loaded: Bytes = np.load(cached, mmap_mode="r")
    return loaded


def _reserve(temporary: Path, cached: Path, nbytes: int) -> None:
    """Allocate the file first: on a full disk, a write to a mapped file would kill the process."""
    try:
        with temporary.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END))
    except OSError as error:
        raise WriteError(
            f"cannot write {cached} ({nbytes / 1e9:.1f} GB): {error.strerror}; choose another folder with --cache, or "
            "disable the cache with --cache -"
        ) from None


def _fill(
    array: Bytes, files: Sequence[Path], read: Callable[[Path], Bytes], progress: Progress | None, what: str
) -> None:
    failed: list[FrameError] = []

    def attempt(path: Path) -> Bytes | None:
        try:
            return read(path)
        except FrameError as error:
            failed.append(error)
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(files), CHUNK):
            for i, one in enumerate(pool.map(attempt, files[first : first + CHUNK])):
                if one is not None:
                    array[first + i] = one
            if progress is not None:
                progress(what, min(first + CHUNK, len(files)), len(files))
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise FrameError(f"{failed[0]}{more}")
