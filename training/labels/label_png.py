"""Read and write label maps as PNG files with a palette.

OpenCV cannot write palettes, and it reads a palette PNG as colours. Colours do not identify a class where two classes
share one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from sdk import FrameError
from sdk.arrays import Bytes

from .label_sets import Colour, LabelSet

__all__ = ["encode_palette_png", "palette_of", "read_label_map"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PIXELS = 1 << 27  # limits what a forged header can make a decoder allocate
GREY, PALETTE = 0, 3  # colour types with one sample per pixel
HEADER = struct.Struct(">IIBBBBB")  # width, height, bit depth, colour type, compression, filter, interlace


def palette_of(label_set: LabelSet) -> list[Colour]:
    """256 colours: each class's colour at its id, black elsewhere."""
    colours = [(0, 0, 0)] * 256
    colours[label_set.ids.start : label_set.ids.stop] = label_set.palette
    return colours


def encode_palette_png(labels: Bytes, palette: Sequence[Colour]) -> bytes:
    """Encode labels as an 8-bit palette PNG.

    Args:
        labels: uint8 (h, w), h and w >= 1.
        palette: RGB of each index; more than the largest label, at most 256.

    Source: PNG (ISO/IEC 15948), sections 5 and 11.
    """
    height, width = labels.shape
    # Each row begins with its filter number. 0 (none) suits indices, as their differences mean nothing.
    rows = np.zeros((height, 1 + width), np.uint8)
    rows[:, 1:] = labels
    parts = (
        (b"IHDR", HEADER.pack(width, height, 8, PALETTE, 0, 0, 0)),
        (b"PLTE", bytes(value for colour in palette for value in colour)),
        (b"IDAT", zlib.compress(rows.tobytes(), 6)),
        (b"IEND", b""),
    )
    return SIGNATURE + b"".join(chunk(kind, data) for kind, data in parts)


def read_label_map(path: Path) -> Bytes:
    """Read a label map: the samples of a grey or palette PNG of 1, 2, 4 or 8 bits.

    Returns:
        uint8 (h, w).

    Raises:
        FrameError: the file is missing, not a PNG, damaged, in colour or of 16 bits.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise FrameError(f"{path}: cannot be read ({reason}); check the path") from None
    found = list(chunks(data))
    if not found or found[0][0] != b"IHDR" or len(found[0][1]) != HEADER.size or found[-1][0] != b"IEND":
        raise FrameError(f"{path}: is not a whole PNG ({len(data)} bytes); make the label map again")
    width, height, bits, colour_type, *rest = HEADER.unpack(found[0][1])
    if colour_type not in (GREY, PALETTE) or bits > 8:
        raise FrameError(
            f"{path}: is a PNG of colour type {colour_type} and {bits} bits, expected a label map: grey or palette, "
            "at most 8 bits"
        )
    if width * height > MAX_PIXELS:
        raise FrameError(
            f"{path}: claims {width} x {height} px, expected at most {MAX_PIXELS}; make the label map again"
        )
    # Declare the samples as grey, so the decoder does not change them.
    header = HEADER.pack(width, height, bits, GREY, *rest)
    kept = [(b"IHDR", header), *((kind, part) for kind, part in found if kind == b"IDAT"), (b"IEND", b"")]
    grey = SIGNATURE + b"".join(chunk(kind, part) for kind, part in kept)
    try:
        samples = cv2.imdecode(np.frombuffer(grey, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # a header that claims more pixels than OpenCV takes
        samples = None
    if samples is None or samples.shape != (height, width) or samples.dtype != np.uint8:
        raise FrameError(f"{path}: is damaged inside; make the label map again")
    # Decoders scale grey of 1, 2 and 4 bits by 255, 85 and 17.
    return np.asarray(samples // (255 // ((1 << bits) - 1)), dtype=np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk, up to the first damaged one."""
    at = len(SIGNATURE)
    while data.startswith(SIGNATURE) and at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        kind, content = data[at + 4 : at + 8], data[at + 8 : end]
        if data[at:end] + data[end : end + 4] != chunk(kind, content):
            return
        yield kind, content
        at = end + 4
