"""Names of the arrays that are passed around."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Bytes", "Descriptors", "Floats", "Frame", "Indices"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Descriptors = Floats  # (n, D) or (D,)
Frame = Bytes  # (H, W, 3)
