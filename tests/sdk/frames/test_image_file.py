"""Image files: whole, upright, RGB, or refused."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import encode, picture

from sdk import FrameError
from sdk.frames.image_file import IMAGE_SUFFIXES, read_image

FRAME = picture(1)
END = b"\xff\xd9"


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def exif(orientation: int, thumbnail: bytes = b"") -> bytes:
    """An APP1 segment: IFD0 with an orientation, and IFD1 with a JPEG thumbnail if there is one."""
    ifd0 = struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 26 if thumbnail else 0)
    ifd1 = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(thumbnail), 0) if thumbnail else b""
    return segment(0xE1, b"Exif\0\0" + b"II*\0" + struct.pack("<I", 8) + ifd0 + ifd1 + thumbnail)


def with_segment(jpeg: bytes, extra: bytes) -> bytes:
    return jpeg[:2] + extra + jpeg[2:]


def near(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(int) - b.astype(int)).mean()) < 3


def read(data: bytes, folder: Path, name: str = "frame.jpg") -> np.ndarray:
    path = folder / name
    path.write_bytes(data)
    return read_image(path)


JPEG = encode(FRAME, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95)
PROGRESSIVE = encode(FRAME, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
RESTARTS = encode(FRAME, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
THUMBNAIL = encode(picture(2, 48, 64), ".jpg")
WITH_THUMBNAIL = with_segment(JPEG, exif(1, THUMBNAIL))
PNG = encode(FRAME, ".png")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
def test_lossless_round_trip(suffix: str, tmp_path: Path) -> None:
    frame = read(encode(FRAME, suffix), tmp_path, f"frame{suffix}")
    assert np.array_equal(frame, FRAME)
    assert frame.dtype == np.uint8


def test_lossless_webp(tmp_path: Path) -> None:
    assert np.array_equal(read(encode(FRAME, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101), tmp_path, "f.webp"), FRAME)


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, RESTARTS, WITH_THUMBNAIL], ids=["baseline", "p", "rst", "exif"])
def test_jpeg(data: bytes, tmp_path: Path) -> None:
    assert near(read(data, tmp_path), FRAME)


def test_a_name_may_be_text(tmp_path: Path) -> None:
    path = tmp_path / "frame.png"
    path.write_bytes(encode(FRAME, ".png"))
    assert np.array_equal(read_image(str(path)), FRAME)


def test_every_suffix_is_tested() -> None:
    assert set(IMAGE_SUFFIXES) == {".png", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg"}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_channels_are_rgb(suffix: str, tmp_path: Path) -> None:
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 255
    mean = read(encode(red, suffix), tmp_path, f"red{suffix}").reshape(-1, 3).mean(axis=0)
    assert mean[0] > 245
    assert max(mean[1:]) < 10


UPRIGHT = {
    1: lambda f: f,
    2: lambda f: f[:, ::-1],
    3: lambda f: f[::-1, ::-1],
    4: lambda f: f[::-1],
    5: lambda f: f.transpose(1, 0, 2),
    6: lambda f: np.rot90(f, -1),
    7: lambda f: f.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda f: np.rot90(f, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(orientation: int, tmp_path: Path) -> None:
    frame = read(with_segment(JPEG, exif(orientation)), tmp_path)
    assert near(frame, UPRIGHT[orientation](FRAME))
    assert frame.flags.c_contiguous


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_grayscale_becomes_three_equal_channels(suffix: str, tmp_path: Path) -> None:
    ok, data = cv2.imencode(suffix, FRAME[..., 1])
    assert ok
    frame = read(data.tobytes(), tmp_path, f"grey{suffix}")
    assert near(frame, np.dstack([FRAME[..., 1]] * 3))
    assert np.array_equal(frame[..., 0], frame[..., 1])
    assert np.array_equal(frame[..., 1], frame[..., 2])


def test_alpha_and_16_bits_are_reduced(tmp_path: Path) -> None:
    with_alpha = np.dstack([FRAME[..., ::-1], np.full(FRAME.shape[:2], 200, np.uint8)])
    assert np.array_equal(read(cv2.imencode(".png", with_alpha)[1].tobytes(), tmp_path, "a.png"), FRAME)
    deep = FRAME[..., ::-1].astype(np.uint16) * 257
    assert near(read(cv2.imencode(".png", deep)[1].tobytes(), tmp_path, "d.png"), FRAME)


def cuts(data: bytes) -> list[int]:
    """Places to cut: all over the file, and every byte near its ends."""
    spread = range(0, len(data), max(1, len(data) // 80))
    return sorted({*spread, *range(min(40, len(data))), *range(len(data) - 20, len(data))} - {len(data)})


@pytest.mark.parametrize(
    "data",
    [JPEG, PROGRESSIVE, RESTARTS, WITH_THUMBNAIL, PNG, encode(FRAME, ".bmp"), encode(FRAME, ".webp")],
    ids=["baseline", "progressive", "restart markers", "thumbnail", "png", "bmp", "webp"],
)
def test_a_cut_file_is_never_accepted(data: bytes, tmp_path: Path) -> None:
    for cut in cuts(data):
        with pytest.raises(FrameError, match=r"frame\.jpg: .*; copy the file again or remove it"):
            read(data[:cut], tmp_path)


@pytest.mark.parametrize("trailing", [b"\0", b"\0" * 1000, b"appended text", END, THUMBNAIL, b"\xff"])
@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, WITH_THUMBNAIL, PNG], ids=["baseline", "p", "exif", "png"])
def test_trailing_bytes_are_accepted(data: bytes, trailing: bytes, tmp_path: Path) -> None:
    assert near(read(data + trailing, tmp_path), FRAME)


def test_a_thumbnail_does_not_stand_in_for_the_image(tmp_path: Path) -> None:
    start_of_image = len(WITH_THUMBNAIL) - len(JPEG) + 2
    assert THUMBNAIL in WITH_THUMBNAIL[:start_of_image]
    for cut in range(start_of_image, len(WITH_THUMBNAIL), 97):
        with pytest.raises(FrameError, match="cut short"):
            read(WITH_THUMBNAIL[:cut], tmp_path)


def test_a_damaged_png_is_refused(tmp_path: Path) -> None:
    for at in range(30, len(PNG), max(1, len(PNG) // 60)):
        damaged = bytearray(PNG)
        damaged[at] ^= 0x10
        with pytest.raises(FrameError):
            read(bytes(damaged), tmp_path)


def test_a_header_that_claims_too_many_pixels(tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b"\0" * 100), b"IEND"]
    body = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    with pytest.raises(FrameError, match="cannot be decoded"):
        read(PNG[:8] + body, tmp_path)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "0 bytes"),
        (b"hello, I am a text\n" * 20, "cannot be decoded"),
        (b"\xff\xd8", "2 bytes"),
        (b"\xff\xd8\xff\xd9", "4 bytes"),
        (b"\xff\xd8" + b"\xff" * 50, "52 bytes"),
        (b"\xff\xd8\xff\xda\0\2\xff\xd9", "8 bytes"),
        (b"\x89PNG\r\n\x1a\n", "8 bytes"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be decoded"),
    ],
)
def test_what_is_no_image(data: bytes, found: str, tmp_path: Path) -> None:
    with pytest.raises(FrameError) as caught:
        read(data, tmp_path)
    message = str(caught.value)
    assert found in message
    assert "copy the file again or remove it" in message
    assert "\n" not in message


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match=r"nope\.jpg: cannot be read \(No such file or directory\).*check the path"):
        read_image(tmp_path / "nope.jpg")
    with pytest.raises(FrameError, match="cannot be read"):
        read_image(tmp_path)
    with pytest.raises(FrameError, match="cannot be read"):
        read_image(tmp_path / "nul\0.jpg")
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    with pytest.raises(FrameError, match="cannot be read"):
        read_image(loop)


def test_refused_jpegs_and_pngs_print_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for data in (b"", b"text", JPEG[:500], PROGRESSIVE[:-2], PNG[:500], PNG[:-12], PNG[:200] + b"\0" * 9 + PNG[209:]):
        with pytest.raises(FrameError):
            read(data, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_program_can_silence_the_decoders(tmp_path: Path) -> None:
    # In a process of its own: it is for good.
    for name, data in {"a.tif": encode(FRAME, ".tif")[:3000], "b.bmp": encode(FRAME, ".bmp")[:900]}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "c.mp4").write_text("no video")
    code = """
import sys, sdk
from sdk.frames.image_file import listen_to_decoders
listen_to_decoders()
for name in sys.argv[1:]:
    try:
        list(sdk.open_source(name))
    except sdk.FrameError:
        print("refused")
"""
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused"] * 3
    assert done.stderr == ""
