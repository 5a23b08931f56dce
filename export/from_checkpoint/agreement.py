"""Whether an exported graph still gives the descriptors of the network that it came from.

Nothing here needs PyTorch: what is compared is two sets of raw descriptors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sdk import EngineError

__all__ = ["Agreement", "differences", "synthetic_frames", "verify"]

MAX_COSINE_GAP = 1e-6
MAX_ABS_DIFFERENCE = 1e-4

Frame = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """How far the graph's raw descriptors are from PyTorch's, the worst over frames and runtimes' settings.

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
    import onnxruntime

    worst_gap, worst_difference = 0.0, 0.0
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        try:
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            found = [session.run(["raw_descriptor"], {"frame": frame})[0] for frame in inputs]
        except Exception as error:  # ONNX Runtime raises a dozen unrelated kinds
            first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EngineError(
                f"ONNX Runtime cannot run the exported graph ({first_line}), expected it to run; "
                "report this with the versions of torch, onnx and onnxruntime"
            ) from None
        for index, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            gap, difference = differences(ours, theirs)
            # Written so that a NaN fails.
            if not (gap <= MAX_COSINE_GAP and difference <= MAX_ABS_DIFFERENCE):
                raise EngineError(
                    f"the exported graph differs from PyTorch on frame {index} ({level}): 1 - cosine "
                    f"{gap:.1e}, largest difference {difference:.1e}, expected at most {MAX_COSINE_GAP:.0e} "
                    f"and {MAX_ABS_DIFFERENCE:.0e}; export with other versions of torch and onnxsim"
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
