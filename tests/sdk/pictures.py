"""Pictures for tests: smooth enough for JPEG, different enough for a network to tell apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]


def picture(seed: int, height: int = 96, width: int = 128) -> Frame:
    """uint8 (height, width, 3) RGB: coloured blobs that depend on the seed; the three channels differ."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def encode(frame: Frame, suffix: str = ".png", *parameters: int) -> bytes:
    """The bytes of an image file."""
    ok, data = cv2.imencode(suffix, frame[..., ::-1], list(parameters))
    assert ok
    return data.tobytes()


def write_pictures(folder: Path, names: list[str], first_seed: int = 0) -> list[Path]:
    """One picture a name, lossless where the suffix allows it."""
    paths = []
    for seed, name in enumerate(names, start=first_seed):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture(seed), path.suffix))
        paths.append(path)
    return paths


def write_video(path: Path, frames: list[Frame], fps: float = 10.0, codec: str = "MJPG") -> None:
    """A video file; the name's suffix chooses the container."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))  # type: ignore[attr-defined]
    assert writer.isOpened(), f"this OpenCV writes no {codec}"
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
