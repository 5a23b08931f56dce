"""Reading image files. A damaged file is an error."""

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


# libjpeg's words for a scan that it could not follow. Many webcams leave a few extraneous bytes, which are harmless.
DAMAGE = re.compile(rb"bad Huffman code|premature end|Premature end|[0-9]{2,} extraneous bytes")

_said: IO[bytes] | None = None  # what decoders print, if `listen_to_decoders` was called
_one_at_a_time = threading.Lock()  # a process has one standard error


def listen_to_decoders() -> None:
    """Silence the image decoders in this process from now on, and treat what libjpeg prints as errors.

    libjpeg reports damage inside a JPEG only on standard error. This function diverts standard error while an image is
    decoded, so threads then decode one at a time. It is for programs; a library must leave standard error alone.
    """
    # OpenCV 5 has the function in one place only, releases before 4.13 in the other.
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
        FrameError: the file is missing, cut short, damaged or not an image. Damage in the middle of a JPEG's scan is
            not always noticed; see `listen_to_decoders`.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise FrameError(f"{path}: cannot be read ({reason}); check the path") from None
    # OpenCV fills the missing part of a cut file with grey and reports nothing.
    if data.startswith(JPEG_START):
        cut = not _jpeg_is_whole(data)
    else:
        cut = data.startswith(PNG_START) and not _png_is_whole(data)
    if cut:
        raise FrameError(f"{path}: is cut short or damaged ({len(data)} bytes); copy the file again or remove it")
    if _said:
        with _one_at_a_time:
            with _diverted(_said):
                bgr = _decode(data)
            damaged = DAMAGE.search(os.pread(_said.fileno(), 4096, 0)) is not None
    else:
        bgr, damaged = _decode(data), False
    if damaged:
        raise FrameError(f"{path}: is damaged inside; copy the file again or remove it")
    if bgr is None:
        raise FrameError(f"{path}: cannot be decoded ({len(data)} bytes); copy the file again or remove it")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _decode(data: bytes) -> npt.NDArray[Any] | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # a header that claims more pixels than OpenCV takes
        return None


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the markers of a JPEG are in a valid order from start to end (ITU-T T.81, annex B).

    Inside a scan the coder writes a zero after each 0xFF, so any other byte there is a marker, and random damage soon
    makes an impossible one. Other damage goes unnoticed, because the format has no checksum. An embedded thumbnail has
    an end marker of its own; it lies in a segment, which is skipped.
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
    """Whether a PNG has its end chunk and every critical chunk before it has the right checksum (PNG, section 5)."""
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
