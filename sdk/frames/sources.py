"""Where frames come from: folders, CSV files and videos, each with what is known of the places they show."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ..answers import Place
from ..errors import FrameError, MapError
from ..geography import Geography
from .deep_vg import places_from_names
from .image_file import IMAGE_SUFFIXES, read_image

__all__ = ["Sighting", "Source", "list_images", "open_source", "read_places_csv"]

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
# How files of those containers begin: AVI, Matroska (WebM), and at byte 4 the boxes of QuickTime and MP4.
VIDEO_STARTS = re.compile(rb"RIFF|\x1aE\xdf\xa3|....(ftyp|moov|mdat|free|skip|wide)", re.DOTALL)
PLACES_CSV = "places.csv"

LOCAL_COLUMNS = ("x_m", "y_m", "z_m")
WGS84_COLUMNS = ("lat_deg", "lon_deg", "alt_m")
OTHER_COLUMNS = ("heading_deg", "timestamp_s", "name", "traverse")
SET_COLUMNS = ("region", "split")  # of a set to train with: what is searched apart, and which part it is


@dataclass(frozen=True)
class Sighting:
    """A frame, uint8 (H, W, 3) RGB, and the place that it shows."""

    frame: npt.NDArray[np.uint8]
    place: Place


class Source(Protocol):
    """Frames in order, read one by one. Iterating raises FrameError at a frame that cannot be read."""

    @property
    def geography(self) -> Geography | None:
        """What the positions are; None if there are none."""

    def __len__(self) -> int:
        """How many frames there are, as far as can be told beforehand."""

    def __iter__(self) -> Iterator[Sighting]: ...


class ImageSource:
    """Image files with a place each."""

    def __init__(self, files: list[tuple[Path, Place]], geography: Geography | None) -> None:
        self.files = files
        self.geography: Geography | None = geography

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Sighting]:
        for path, place in self.files:
            yield Sighting(read_image(path), place)


class VideoSource:
    """A video file: every frame, or one every `every_s` seconds. Places have a time and no position."""

    geography: Geography | None = None

    def __init__(self, path: Path, every_s: float | None) -> None:
        if every_s is not None and not (math.isfinite(every_s) and every_s > 0):
            raise MapError(f"every_s is {every_s}, expected seconds > 0; leave it out for every frame")
        self._path = path
        capture = self._open()
        self._fps = capture.get(cv2.CAP_PROP_FPS) or 30.0
        self._step = max(1, round((every_s or 0.0) * self._fps))
        self._frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        capture.release()

    def _open(self) -> cv2.VideoCapture:
        # FFmpeg would take any text for a video, and show its letters.
        capture = cv2.VideoCapture(str(self._path)) if self._begins_like_a_video() else None
        if capture is None or not capture.isOpened():
            raise FrameError(
                f"{self._path}: cannot be opened as a video, expected one of {' '.join(VIDEO_SUFFIXES)} with a codec "
                "that OpenCV has; convert it with ffmpeg"
            )
        return capture

    def _begins_like_a_video(self) -> bool:
        try:
            with self._path.open("rb") as file:
                return VIDEO_STARTS.match(file.read(12)) is not None
        except OSError as error:
            raise FrameError(
                f"{self._path}: cannot be read ({error.strerror}), expected a video; check the path"
            ) from None

    def __len__(self) -> int:
        return -(-self._frames // self._step)

    def __iter__(self) -> Iterator[Sighting]:
        capture = self._open()
        try:
            number = 0
            while capture.grab():
                if number % self._step == 0:
                    ok, bgr = capture.retrieve()
                    if not ok:
                        raise FrameError(
                            f"{self._path}: frame {number} cannot be decoded, expected a whole video; convert it again"
                        )
                    time_s = number / self._fps
                    place = Place(f"{self._path.name} {time_s:.3f} s", timestamp_s=time_s, image=str(self._path))
                    yield Sighting(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8), place)
                number += 1
        finally:
            capture.release()
        # Counts are estimates in some containers; a tenth missing is none.
        if number == 0 or number < 0.9 * self._frames:
            raise FrameError(
                f"{self._path}: ends after {number} of {self._frames} frames, expected a whole video; copy it again"
            )


def open_source(path: str | os.PathLike[str], *, every_s: float | None = None, positions: bool = True) -> Source:
    """Open whatever holds frames.

    Args:
        path: a folder of images (with a places.csv, or with deep-VG names, or plain), a CSV of places, one
            image, or a video.
        every_s: of a video, seconds between frames taken; None for every frame.
        positions: read positions if there are any. False leaves them unread: what is asked about a frame must
            not know where it was taken.

    Returns:
        The source. Frames come in the order of the file names, the CSV's rows or the video.

    Raises:
        MapError: nothing usable is there, `every_s` is not above 0, or the CSV is wrong; the message names the line.
        FrameError: a video cannot be opened.
    """
    path = Path(path)
    if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
        return VideoSource(path, every_s)
    if path.is_dir():
        if positions and (path / PLACES_CSV).is_file():
            return read_places_csv(path / PLACES_CSV)
        files = list_images(path)
        if positions:
            places, geography = places_from_names(path, files)
        else:
            places, geography = [Place(image=str(file.relative_to(path))) for file in files], None
        return ImageSource(list(zip(files, places, strict=True)), geography)
    if path.suffix.lower() == ".csv" and path.is_file():
        source = read_places_csv(path, positions=positions)
        if positions:
            return source
        return ImageSource([(file, replace(it, position=None, heading_deg=None)) for file, it in source.files], None)
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        return ImageSource([(path, Place(image=path.name))], None)
    kinds = "a folder of images, a CSV, an image or a video"
    if not path.exists():
        raise MapError(f"{path}: there is no such file or folder, expected {kinds}; check the path")
    raise MapError(f"{path}: is of an unknown kind, expected {kinds}; name one")


def list_images(folder: Path) -> list[Path]:
    """The image files below a folder, by name.

    Raises:
        MapError: there are none, or no folder.
    """
    if not folder.is_dir():
        raise MapError(f"{folder}: there is no such folder, expected a folder of images; check the path")
    # Without hidden ones: thumbnails of file managers, and the ._ files that macOS leaves beside each image.
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not files:
        raise MapError(f"{folder}: holds no image, expected files ending in {' '.join(IMAGE_SUFFIXES)}; check the path")
    return files


def read_places_csv(path: Path, *, positions: bool = True) -> ImageSource:
    """Read a CSV of places: image,x_m,y_m[,z_m] or image,lat_deg,lon_deg[,alt_m], each with [,heading_deg]
    [,timestamp_s][,name][,traverse][,region][,split]. Images are relative to the CSV's folder.

    Args:
        path: the CSV.
        positions: they will be used: metres of several regions are refused.

    Raises:
        MapError: a column or a value is wrong, the message names the line; or there are metres of several regions.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            geography = _geography_of(path, header)
            columns = LOCAL_COLUMNS if geography == "local" else WGS84_COLUMNS
            files, regions = [], set[str]()
            for row in reader:
                files.append(_read_row(path, row, reader.line_num, columns))
                regions.add((row.get("region") or "").strip())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MapError(f"{path}: cannot be read as CSV ({error}), expected UTF-8 text; save it again") from None
    if not files:
        raise MapError(f"{path}: has no rows, expected one a place below its header; add them")
    # Latitudes and longitudes of two regions can be compared; metres are each region's own.
    if positions and geography == "local" and len(regions) > 1:
        raise MapError(
            f"{path}: has places of {len(regions)} regions, whose positions cannot be compared, expected one; write "
            "the rows of one into a CSV beside it"
        )
    return ImageSource(files, geography)


def _geography_of(path: Path, header: Sequence[str]) -> Geography:
    names = set(header)
    local = {"image", *LOCAL_COLUMNS[:2]} <= names
    wgs84 = {"image", *WGS84_COLUMNS[:2]} <= names
    unknown = names - {"image", *(LOCAL_COLUMNS if local else WGS84_COLUMNS), *OTHER_COLUMNS, *SET_COLUMNS}
    if local == wgs84 or unknown or len(names) != len(header):
        raise MapError(
            f"{path}: has the columns {list(header)}, expected image,x_m,y_m or image,lat_deg,lon_deg, and "
            f"at most z_m or alt_m, {', '.join(OTHER_COLUMNS + SET_COLUMNS)}, each once; rename them"
        )
    return "local" if local else "wgs84"


def _read_row(path: Path, row: dict[str, str], line: int, columns: tuple[str, ...]) -> tuple[Path, Place]:
    def number(column: str) -> float | None:
        text = (row.get(column) or "").strip()
        try:
            return float(text) if text else None
        except ValueError:
            raise MapError(f"{path}, line {line}: {column} is {text!r}, expected a number; correct it") from None

    image = (row.get("image") or "").strip()
    if not image or None in row:
        raise MapError(
            f"{path}, line {line}: has no image, or more values than columns, expected one value a column; correct the "
            "line"
        )
    first, second, third = (number(column) for column in columns)
    if (first is None) != (second is None):
        raise MapError(f"{path}, line {line}: has one of {columns[0]} and {columns[1]}, expected both or none; add it")
    position = None if first is None or second is None else (first, second, third or 0.0)
    if columns is WGS84_COLUMNS and position is not None and not (abs(position[0]) <= 90 and abs(position[1]) <= 180):
        raise MapError(
            f"{path}, line {line}: latitude {position[0]}, longitude {position[1]} are not on Earth, expected degrees; "
            "are the columns swapped?"
        )
    try:
        place = Place(
            name=row.get("name") or "",
            position=position,
            heading_deg=number("heading_deg"),
            timestamp_s=number("timestamp_s"),
            image=image,
            traverse=row.get("traverse") or "",
        )
    except MapError as error:
        raise MapError(f"{path}, line {line}: {error}") from None
    return path.parent / image, place
