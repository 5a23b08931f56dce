"""Image files: read whole or not at all."""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from .errors import FrameError

__all__ = ["IMAGE_SUFFIXES", "read_image", "silence_decoders"]

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

JPEG_START = b"\xff\xd8"
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"


def silence_decoders() -> None:
    """Keep OpenCV and its FFmpeg from printing about files that they refuse, in this process and from now on.

    For programs, whose own sentence is enough; a library leaves that to whoever imports it.
    """
    # OpenCV 5 has it in one place only, releases before 4.13 in the other.
    set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    set_level(0)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image file as a frame: uint8 (H, W, 3), RGB, turned upright by its EXIF orientation.

    Raises:
        FrameError: missing, cut short, damaged, or not an image.
    """
    try:
        data = path.read_bytes()
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
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # a header that claims more pixels than OpenCV takes
        bgr = None
    if bgr is None:
        raise FrameError(
            f"{path}: cannot be decoded ({len(data)} bytes), expected an image ({' '.join(IMAGE_SUFFIXES)}); copy the "
            "file again or remove it"
        )
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


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
