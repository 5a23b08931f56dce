"""Videos: every frame, or one every so many seconds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ..errors import FrameError, UsageError
from .source import FrameInfo, Sighting, Source

__all__ = ["VIDEO_SUFFIXES", "VideoSource"]

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
# How files of those containers begin: AVI, Matroska (WebM), and at byte 4 the boxes of QuickTime and MP4.
VIDEO_STARTS = re.compile(rb"RIFF|\x1aE\xdf\xa3|....(ftyp|moov|mdat|free|skip|wide)", re.DOTALL)


class VideoSource(Source):
    """A video file. Its frames have a time and no position. `num_frames` is what the file's header says."""

    def __init__(self, path: Path, every_s: float | None) -> None:
        if every_s is not None and not (math.isfinite(every_s) and every_s > 0):
            raise UsageError(f"every_s is {every_s}; pass seconds > 0, or leave it out for every frame")
        self._path = path
        capture = self._open()
        self._fps = capture.get(cv2.CAP_PROP_FPS) or 30.0
        self._step = max(1, round((every_s or 0.0) * self._fps))
        self._frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.num_frames = -(-self._frames // self._step) or None
        capture.release()

    def _open(self) -> cv2.VideoCapture:
        # FFmpeg would take any text for a video, and show its letters.
        capture = cv2.VideoCapture(str(self._path)) if self._begins_like_a_video() else None
        if capture is None or not capture.isOpened():
            raise FrameError(
                f"{self._path}: cannot be opened as a video ({' '.join(VIDEO_SUFFIXES)}) with OpenCV's codecs; convert "
                "it with ffmpeg"
            )
        return capture

    def _begins_like_a_video(self) -> bool:
        try:
            with self._path.open("rb") as file:
                return VIDEO_STARTS.match(file.read(12)) is not None
        except OSError as error:
            raise FrameError(f"{self._path}: cannot be read ({error.strerror}); check the path") from None

    def __iter__(self) -> Iterator[Sighting]:
        capture = self._open()
        try:
            number = 0
            while capture.grab():
                if number % self._step == 0:
                    ok, bgr = capture.retrieve()
                    if not ok:
                        raise FrameError(f"{self._path}: frame {number} cannot be decoded; convert the video again")
                    time_s = number / self._fps
                    info = FrameInfo(str(self._path), f"{self._path.name} {time_s:.3f} s", timestamp_s=time_s)
                    yield Sighting(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8), info)
                number += 1
        finally:
            capture.release()
        # Some containers only estimate the number of frames, so up to a tenth may be missing.
        if number == 0 or number < 0.9 * self._frames:
            raise FrameError(f"{self._path}: ends after {number} of {self._frames} frames; copy the file again")
