"""Names of the types that are passed around: arrays, and one number per colour."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Bytes", "Descriptors", "Floats", "Frame", "Indices", "Triple"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Descriptors = Floats  # (n, D) or (D,)
Frame = Bytes  # (H, W, 3)
Triple = tuple[float, float, float]  # one number per colour
