"""Fixed frames, for checks where the user gives none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Frame", "synthetic_frames"]

Frame = npt.NDArray[np.uint8]


def synthetic_frames() -> list[Frame]:
    """Seven fixed frames, uint8 (480, 640, 3): four with the spectrum of natural images, white noise,
    black and white.

    Source: Field, Relations between the statistics of natural images and the response properties of
    cortical cells (JOSA A 1987): amplitude falls as 1 / frequency.
    """
    rng = np.random.default_rng(0)
    height, width = 480, 640
    rows, columns = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1.0
    frames: list[Frame] = []
    for _ in range(4):
        planes = []
        grey = rng.standard_normal((height, width))
        for _ in range(3):  # three channels that mostly agree, as in photographs
            noise = grey + 0.3 * rng.standard_normal((height, width))
            plane = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=(height, width))
            planes.append(127.0 + 50.0 * plane / plane.std())
        frames.append(np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8))
    frames.append(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    frames.append(np.zeros((height, width, 3), dtype=np.uint8))
    frames.append(np.full((height, width, 3), 255, dtype=np.uint8))
    return frames
