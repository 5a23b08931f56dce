"""Names of the arrays that are passed around."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Descriptors", "Frame", "Indices"]

Descriptors = npt.NDArray[np.float32]  # (n, D) or (D,)
Frame = npt.NDArray[np.uint8]  # (H, W, 3)
Indices = npt.NDArray[np.int64]  # (n,)
