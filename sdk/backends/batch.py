"""The check of a network's input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..contract import ModelContract
from ..errors import EngineError

__all__ = ["require_batch"]


def require_batch(path: Path, contract: ModelContract, batch: npt.NDArray[np.uint8]) -> None:
    """Refuse anything but uint8 (1, height, width, 3), for runtimes that would convert it or read past its end.

    Raises:
        EngineError: another type or shape; the message begins with `path`.
    """
    shape = (1, contract.height, contract.width, 3)
    if not isinstance(batch, np.ndarray) or batch.dtype != np.uint8 or batch.shape != shape:
        found = f"{batch.dtype} {batch.shape}" if isinstance(batch, np.ndarray) else f"a {type(batch).__name__}"
        raise EngineError(
            f"{path}: was called with {found}, expected an array of uint8 {shape}; pass what `sdk.prepare` returns"
        )
