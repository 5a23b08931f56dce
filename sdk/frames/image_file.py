"""Image files: read whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import FrameError

__all__ = ["IMAGE_SUFFIXES", "listen_to_decoders", "read_image"]

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

JPEG_START = b"\xff\xd8"
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"


# What libjpeg says of a scan that it could not follow. A few extraneous bytes are what many webcams leave.
DAMAGE = re.compile(rb"bad Huffman code|premature end|Premature end|[0-9]{2,} extraneous bytes")

_said: IO[bytes] | None = None  # what decoders print, where a program has asked for it
_one_at_a_time = threading.Lock()  # a process has one standard error


def listen_to_decoders() -> None:
    """Keep OpenCV and what it decodes with from printing, in this process and from now on, and heed libjpeg's word.

    Standard error is diverted while an image is decoded, so threads then decode one at a time. libjpeg tells of damage
    nowhere else. A library leaves standard error alone.
    """
    # OpenCV 5 has it in one place only, releases before 4.13 in the other.
    set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    set_level(0)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    global _said
    if _said is None:
        _said = tempfile.TemporaryFile()  # noqa: SIM115 - for the life of the process


@contextlib.contextmanager
def _diverted(to: IO[bytes]) -> Iterator[None]:
    os.ftruncate(to.fileno(), 0)
    os.lseek(to.fileno(), 0, os.SEEK_SET)
    stderr = os.dup(2)
    try:
        os.dup2(to.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def read_image(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read an image file as a frame: uint8 (H, W, 3), RGB, turned upright by its EXIF orientation.

    Raises:
        FrameError: missing, cut short, not an image, or damaged. Of a JPEG damaged in the middle of a scan not every
            trace can be seen; see `listen_to_decoders`.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise FrameError(f"{path}: cannot be read ({reason}), expected an image file; check the path") from None
    # OpenCV fills what a cut file lacks with grey and says nothing; a half-grey map is worse than an error.
    if data.startswith(JPEG_START):
        cut = not _jpeg_is_whole(data)
    else:
        cut = data.startswith(PNG_START) and not _png_is_whole(data)
    if cut:
        raise FrameError(
            f"{path}: is cut short or damaged ({len(data)} bytes), expected a whole image; copy the file again or "
            "remove it"
        )
    if _said:
        with _one_at_a_time:
            with _diverted(_said):
                bgr = _decode(data)
            damaged = DAMAGE.search(os.pread(_said.fileno(), 4096, 0)) is not None
    else:
        bgr, damaged = _decode(data), False
    if damaged:
        raise FrameError(f"{path}: is damaged inside, expected a whole image; copy the file again or remove it")
    if bgr is None:
        raise FrameError(
            f"{path}: cannot be decoded ({len(data)} bytes), expected an image ({' '.join(IMAGE_SUFFIXES)}); copy the "
            "file again or remove it"
        )
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _decode(data: bytes) -> npt.NDArray[Any] | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # a header that claims more pixels than OpenCV takes
        return None


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the markers of a JPEG follow each other as they must, from its start to its end (ITU-T T.81, annex B).

    Inside a scan the coder stuffs a zero after each 0xFF, so any other byte there is a marker; random damage makes
    impossible ones soon. Damage that makes none cannot be told: the format has no checksum. An embedded thumbnail,
    which has an end marker of its own, lies in a segment and is stepped over.
    """
    at, restarts = 2, 0
    while at + 1 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker == 0xD9:
            return True
        elif 0xD0 <= marker <= 0xD7:  # restart markers count round
            if marker != 0xD0 + restarts % 8:
                return False
            restarts += 1
            at = _end_of_entropy(data, at + 2)
        elif marker < 0xC0 or marker == 0xD8:
            return False
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if marker == 0xDA:  # start of a scan: what follows its header is entropy-coded
                restarts = 0
                at = _end_of_entropy(data, at)
    return False


ENTROPY_ENDS = re.compile(rb"\xff[^\x00]")


def _end_of_entropy(data: bytes, at: int) -> int:
    found = ENTROPY_ENDS.search(data, at)
    return found.start() if found else len(data)


def _png_is_whole(data: bytes) -> bool:
    """Whether the end chunk is there and each chunk that matters before it has its checksum (PNG, section 5)."""
    at = len(PNG_START)
    while at + 12 <= len(data):
        kind, end = data[at + 4 : at + 8], at + 8 + int.from_bytes(data[at : at + 4], "big")
        matters = kind[:1].isupper()
        if matters and zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return False
        if kind == PNG_END:
            return True
        at = end + 4
    return False
