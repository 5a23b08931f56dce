"""Measures the range and the mean of a network's tensors on calibration frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from sdk import DataError, EngineError, ModelContract, open_source, prepare
from sdk.frames.folder import ImageSource

from ..graph.session import Session
from ..graph.synthetic_frames import Frame

__all__ = ["MAX_FRAMES", "Statistics", "measure", "read_frames"]

MAX_FRAMES = 256


def read_frames(
    calibration: str | Path | Sequence[Frame], contract: ModelContract, most: int = MAX_FRAMES
) -> tuple[int, Iterator[Frame]]:
    """Read up to `most` frames, evenly spread from the first to the last. One at a time is in memory.

    Args:
        calibration: what `sdk.open_source` opens, or uint8 (H, W, 3) RGB arrays.
        contract: of the network, for `sdk.prepare`.
        most: number of frames read.

    Returns:
        The number of frames, and the prepared frames: uint8 (1, h, w, 3).

    Raises:
        DataError: there are no frames.
        FrameError: a frame cannot be used; raised while iterating.
    """
    if isinstance(calibration, (str, Path)):
        source = open_source(calibration, positions=False)
        if isinstance(source, ImageSource):  # only the chosen files are decoded
            source = ImageSource([source.files[index] for index in evenly(len(source.files), most)])
        total = source.num_frames or 0
        frames: Iterator[Frame] = (sighting.frame for sighting in source)
    else:
        total, frames = len(calibration), iter(calibration)
    if total == 0:
        raise DataError("no frames to calibrate on found; give a folder of about 100 that show what the robot sees")
    taken = set(evenly(total, most))
    return len(taken), (prepare(frame, contract.size) for index, frame in enumerate(frames) if index in taken)


def evenly(total: int, most: int) -> list[int]:
    """Up to `most` integers in [0, total), evenly spread, with both ends."""
    return sorted({round(place) for place in np.linspace(0, total - 1, min(total, most))})


@dataclass(frozen=True)
class Statistics:
    """Statistics of one tensor over all frames.

    Attributes:
        least: smallest value.
        greatest: largest value.
        means: mean of each channel, float64 (C,).
    """

    least: float
    greatest: float
    means: npt.NDArray[np.float64]


def measure(
    model: onnx.ModelProto, tensors: Iterable[str], frames: Iterable[Frame], tell: Callable[[int], None]
) -> dict[str, Statistics]:
    """Measure tensors while a network describes frames.

    ONNX Runtime computes the statistics inside the graph, so no feature map is kept.

    Args:
        model: an fp32 network.
        tensors: names of its feature maps, float32 (1, C, h, w).
        frames: uint8 (1, h, w, 3) each, at least one.
        tell: called with the number of frames done.

    Raises:
        EngineError: the network does not run, or a value is not finite.
    """
    names = list(dict.fromkeys(tensors))
    wanted = [f"{name}/{kind}" for name in names for kind in ("Min", "Max", "Mean")]
    session = Session(watched(model, names))
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    sums: list[Any] = [0.0] * len(names)
    done = 0
    for frame in frames:
        found = session.run(wanted, frame)
        for i, (least, greatest, means) in enumerate(zip(found[0::3], found[1::3], found[2::3], strict=True)):
            if not (np.isfinite(least) and np.isfinite(greatest)):
                raise EngineError(f"{names[i]} is not finite on frame {done}; check the network's weights")
            low[i], high[i] = min(low[i], float(least)), max(high[i], float(greatest))
            sums[i] = sums[i] + means.astype(np.float64)  # (C,)
        done += 1
        tell(done)
    return {name: Statistics(float(low[i]), float(high[i]), sums[i] / done) for i, name in enumerate(names)}


def watched(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """A serialised copy of a network with extra outputs: minimum, maximum and channel means of feature maps."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for name in names:
        for kind in ("Min", "Max", "Mean"):
            axes = {"axes": [0, 2, 3]} if kind == "Mean" else {}
            node = onnx.helper.make_node(f"Reduce{kind}", [name], [f"{name}/{kind}"], keepdims=0, **axes)
            result.graph.node.append(node)
            result.graph.output.append(onnx.helper.make_empty_tensor_value_info(f"{name}/{kind}"))
    data: bytes = result.SerializeToString()
    return data
