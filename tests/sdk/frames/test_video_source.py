"""Videos: which frames are taken, when they were, in which colours, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import Frame, write_video

from sdk import FrameError, Sighting, UsageError, open_source

FPS = 10.0
COUNT = 25


def frame(number: int) -> Frame:
    """Red grows with the number, blue is none: order of frames and of channels can be read off."""
    image = np.zeros((96, 128, 3), np.uint8)
    image[..., 0] = 5 + 10 * number
    image[..., 1] = 40
    return image


def write(path: Path) -> Path:
    write_video(path, [frame(i) for i in range(COUNT)], FPS, {".avi": "MJPG", ".mp4": "mp4v"}[path.suffix])
    return path


@pytest.fixture(scope="module", params=[".avi", ".mp4"])
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("video") / f"drive{request.param}")


def test_every_frame(video: Path) -> None:
    source = open_source(video)
    assert source.num_frames == COUNT
    assert source.geography is None
    found = list(source)
    assert len(found) == COUNT
    for number, sighting in enumerate(found):
        assert sighting.frame.shape == (96, 128, 3)
        assert sighting.frame.dtype == np.uint8
        assert np.allclose(sighting.frame.reshape(-1, 3).mean(axis=0), (5 + 10 * number, 40, 0), atol=6)
        assert sighting.info.timestamp_s == pytest.approx(number / FPS)
        assert sighting.info.position is None
        assert sighting.info.image == str(video)
    assert found[12].info.name == f"{video.name} 1.200 s"


@pytest.mark.parametrize(("every_s", "step"), [(0.5, 5), (0.1, 1), (0.01, 1), (0.25, 2), (1.0, 10), (100.0, 1000)])
def test_one_frame_every_so_often(every_s: float, step: int, video: Path) -> None:
    source = open_source(video, every_s=every_s)
    found = list(source)
    assert [round((s.info.timestamp_s or 0) * FPS) for s in found] == list(range(0, COUNT, step))
    assert source.num_frames == len(found)
    for sighting in found:
        assert float(sighting.frame[..., 0].mean()) == pytest.approx(5 + 100 * (sighting.info.timestamp_s or 0), abs=6)


@pytest.mark.parametrize("every_s", [0.0, -1.0, float("nan"), float("inf")])
def test_every_s_must_be_seconds(every_s: float, video: Path) -> None:
    with pytest.raises(UsageError, match=r"every_s is .*pass seconds > 0"):
        open_source(video, every_s=every_s)


def test_it_can_be_read_twice_and_left_early(video: Path) -> None:
    source = open_source(video)
    first = next(iter(source))
    assert np.array_equal(first.frame, next(iter(source)).frame)


@pytest.mark.parametrize("data", [b"", b"I am a text\n" * 100])
@pytest.mark.parametrize("name", ["a.mp4", "a.MOV", "a.avi", "a.mkv", "a.webm"])
def test_what_is_no_video(name: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(FrameError, match=f"{name}: cannot be opened as a video.*convert it with ffmpeg"):
        open_source(path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_cut_mp4_is_refused(share: float, tmp_path: Path) -> None:
    path = write(tmp_path / "drive.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(FrameError, match=r"drive\.mp4"):
        list(open_source(path))


def test_a_cut_avi_gives_the_frames_that_are_whole_and_then_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "drive.avi")
    data = path.read_bytes()
    frames_at = data.index(b"movi")
    path.write_bytes(data[: (frames_at + data.rindex(b"00dc", 0, data.rindex(b"idx1"))) // 2])
    found: list[Sighting] = []
    with pytest.raises(FrameError, match=rf"drive\.avi: ends after \d+ of {COUNT} frames"):
        found.extend(open_source(path))  # keeps what came before the error
    assert 5 < len(found) < COUNT
    for number, sighting in enumerate(found[:-1]):
        assert np.allclose(sighting.frame.reshape(-1, 3).mean(axis=0), (5 + 10 * number, 40, 0), atol=6)


def test_an_avi_that_ends_after_its_header(tmp_path: Path) -> None:
    path = write(tmp_path / "drive.avi")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"movi") + 4])
    with pytest.raises(FrameError, match=r"drive\.avi"):
        list(open_source(path))
