"""The one resize: what it gives, what it refuses, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from pictures import picture

from sdk import FrameError, ModelContract, prepare
from sdk.frames.preprocess import check_frame

CONTRACT = ModelContract("m", "0" * 64, 48, 64, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def reference(frame: Any) -> Any:
    return cv2.resize(np.ascontiguousarray(frame), (64, 48), interpolation=cv2.INTER_AREA)[np.newaxis]


@pytest.mark.parametrize("size", [(480, 640), (48, 64), (33, 35), (32, 32), (240, 32), (37, 641)])
def test_equals_opencv_area(size: tuple[int, int]) -> None:
    frame = picture(1, *size)
    assert np.array_equal(prepare(frame, CONTRACT.size), reference(frame))


def test_shrinking_averages_whole_cells() -> None:
    # 4 x 4 px of a checkerboard average to grey; a filter that skips pixels would give black or white.
    frame = np.zeros((192, 256, 3), np.uint8)
    frame[::2, ::2] = frame[1::2, 1::2] = 254
    assert np.all(prepare(frame, CONTRACT.size) == 127)


def test_output_is_what_the_network_takes() -> None:
    batch = prepare(picture(2, 300, 500), CONTRACT.size)
    assert batch.shape == (1, 48, 64, 3)
    assert batch.dtype == np.uint8
    assert batch.flags.c_contiguous
    batch = prepare(picture(2, 300, 500)[..., ::-1], CONTRACT.size, "bgr")
    assert batch.flags.c_contiguous


def test_output_is_not_the_input() -> None:
    frame = picture(3, 48, 64)  # already of the right size
    batch = prepare(frame, CONTRACT.size)
    assert not np.shares_memory(batch, frame)


@pytest.mark.parametrize("size", [(480, 640), (48, 64), (100, 33)])
def test_bgr_is_rgb_reversed(size: tuple[int, int]) -> None:
    frame = picture(4, *size)
    assert np.array_equal(prepare(frame[..., ::-1], CONTRACT.size, "bgr"), prepare(frame, CONTRACT.size))
    assert not np.array_equal(prepare(frame, CONTRACT.size, "bgr"), prepare(frame, CONTRACT.size))


@pytest.mark.parametrize("colour", ["bgr", "rgb"])
def test_the_input_is_untouched(colour: str) -> None:
    for frame in (picture(5), picture(5, 48, 64)):
        before = frame.copy()
        frame.flags.writeable = False  # as frames of some cameras are
        prepare(frame, CONTRACT.size, colour)
        assert np.array_equal(frame, before)


@pytest.mark.parametrize("size", [(32, 4000), (4000, 32), (32, 40_000), (2, 3)])
def test_any_size_from_32_px_on(size: tuple[int, int]) -> None:
    frame = np.full((*size, 3), (10, 20, 30), np.uint8)
    if min(size) < 32:
        with pytest.raises(FrameError):
            prepare(frame, CONTRACT.size)
        return
    assert np.all(prepare(frame, CONTRACT.size) == (10, 20, 30))


@pytest.mark.parametrize(
    "view",
    [
        lambda f: f[::-1],
        lambda f: f[:, ::-1],
        lambda f: f[..., ::-1],
        lambda f: f[::2, ::3],
        lambda f: f[10:90, 20:100],
        lambda f: f.transpose(1, 0, 2),
        lambda f: np.asfortranarray(f),
        lambda f: np.dstack([f, f])[..., 1:4],
    ],
    ids=["upside down", "mirrored", "channels", "strided", "crop", "transposed", "fortran", "slice of channels"],
)
def test_views_that_are_not_contiguous(view: Any) -> None:
    frame = view(picture(6, 120, 160))
    before = frame.copy()
    assert np.array_equal(prepare(frame, CONTRACT.size), reference(frame.copy()))
    assert np.array_equal(frame, before)


class LikePil:
    """What PIL.Image is to numpy."""

    def __array_interface__(self) -> dict[str, Any]:
        raise AssertionError("nobody asked")


GOOD = picture(7)
REFUSED = [
    ("float", GOOD / 255.0, "dtype float64, expected uint8", "astype(numpy.uint8)"),
    ("float32", GOOD.astype(np.float32), "dtype float32, expected uint8", "astype(numpy.uint8)"),
    ("uint16", GOOD.astype(np.uint16), "dtype uint16, expected uint8", "uint8"),
    ("bool", GOOD > 127, "dtype bool, expected uint8", "uint8"),
    ("grayscale", GOOD[..., 0], "(96, 128) (grayscale), expected (H, W, 3)", "cv2.COLOR_GRAY2RGB"),
    ("grayscale with an axis", GOOD[..., :1], "(96, 128, 1) (grayscale), expected (H, W, 3)", "cv2.COLOR_GRAY2RGB"),
    ("alpha", np.dstack([GOOD, GOOD[..., 0]]), "(96, 128, 4), expected (H, W, 3)", "drop the alpha channel"),
    ("batch", GOOD[np.newaxis], "(1, 96, 128, 3), expected (H, W, 3)", "the batch axis"),
    ("channels first", GOOD.transpose(2, 0, 1), "(3, 96, 128), expected (H, W, 3)", ";"),
    ("31 rows", GOOD[:31], "31 x 128 px, expected both sides >= 32 px", "use a larger image"),
    ("31 columns", GOOD[:, :31], "96 x 31 px, expected both sides >= 32 px", "use a larger image"),
    ("no pixel", GOOD[:0], "0 x 128 px, expected both sides >= 32 px", "use a larger image"),
    ("list", GOOD.tolist(), "is a list, expected a numpy array uint8 (H, W, 3)", "cv2.imread"),
    ("like PIL", LikePil(), "is a LikePil, expected a numpy array uint8 (H, W, 3)", ";"),
    ("None", None, "is None; cv2.imread returns None", "check the path"),
    ("path", "frame.jpg", "is a str, expected a numpy array uint8 (H, W, 3)", "cv2.imread"),
]


@pytest.mark.parametrize(
    ("frame", "found", "remedy"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_refused(frame: Any, found: str, remedy: str, colour: str) -> None:
    with pytest.raises(FrameError) as caught:
        prepare(frame, CONTRACT.size, colour)
    message = str(caught.value)
    assert found in message
    assert remedy in message
    assert "\n" not in message
    assert isinstance(caught.value, ValueError)


def test_the_remedies_work() -> None:
    for remedied in (
        ((GOOD / 255.0) * 255).round().astype(np.uint8),
        cv2.cvtColor(GOOD[..., 0], cv2.COLOR_GRAY2RGB),
        cv2.cvtColor(np.ascontiguousarray(GOOD[..., :1]), cv2.COLOR_GRAY2RGB),
    ):
        assert check_frame(remedied) is remedied


@pytest.mark.parametrize("colour", ["RGB", "gbr", "", None])
def test_bad_colour(colour: Any) -> None:
    with pytest.raises(ValueError, match="expected 'rgb' or 'bgr'"):
        prepare(GOOD, CONTRACT.size, colour)
