"""Check that an exported graph gives PyTorch's descriptors. This module needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sdk import EngineError

from ..graph.session import Session
from ..graph.synthetic_frames import Frame

__all__ = ["Agreement", "differences", "verify"]

MAX_COSINE_GAP = 1e-6
MAX_ABS_DIFFERENCE = 1e-4

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """How far the graph's raw descriptors are from PyTorch's: the worst over frames and optimisation levels.

    Attributes:
        cosine_gap: 1 - cosine, >= 0 up to rounding.
        max_abs_difference: of one element.
        num_frames: frames compared.
    """

    cosine_gap: float
    max_abs_difference: float
    num_frames: int


def verify(data: bytes, inputs: Sequence[Frame], expected: Sequence[Vector]) -> Agreement:
    """Compare a serialised graph with PyTorch, with ONNX Runtime's graph optimisations on and off.

    Args:
        data: the ONNX file's bytes.
        inputs: uint8 (1, h, w, 3) each.
        expected: PyTorch's raw descriptor of each, float32 (1, D).

    Raises:
        EngineError: a difference is above its bound, or the graph does not run.
    """
    worst_gap, worst_difference = 0.0, 0.0
    for optimize in (False, True):
        session = Session(data, optimize)
        for index, (frame, theirs) in enumerate(zip(inputs, expected, strict=True)):
            gap, difference = differences(session.run(["raw_descriptor"], frame)[0], theirs)
            if not (gap <= MAX_COSINE_GAP and difference <= MAX_ABS_DIFFERENCE):  # a NaN fails
                raise EngineError(
                    f"the exported graph differs from PyTorch on frame {index}: 1 - cosine {gap:.1e}, largest "
                    f"difference {difference:.1e}, expected at most {MAX_COSINE_GAP:.0e} and {MAX_ABS_DIFFERENCE:.0e}; "
                    "export with other versions of torch and onnxsim"
                )
            worst_gap, worst_difference = max(worst_gap, gap), max(worst_difference, difference)
    return Agreement(worst_gap, worst_difference, len(inputs))


def differences(found: Any, expected: Vector) -> tuple[float, float]:
    """1 - cosine and the largest absolute difference of two descriptors; infinite if the shapes differ."""
    if found.shape != expected.shape or found.dtype != np.float32:
        return float("inf"), float("inf")
    a, b = found.ravel().astype(np.float64), expected.ravel().astype(np.float64)
    with np.errstate(all="ignore"):
        cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    return max(float(1.0 - cosine), 0.0) if cosine == cosine else float("nan"), float(np.abs(a - b).max())
