"""What values flow through a network's trunk, on frames that the user chose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from sdk import EngineError, FrameError, ModelContract, open_source, prepare
from sdk.frames.folder import ImageSource

__all__ = ["MAX_FRAMES", "Statistics", "measure", "read_frames"]

MAX_FRAMES = 256

Frame = npt.NDArray[np.uint8]


def read_frames(
    calibration: str | Path | Sequence[Frame], contract: ModelContract, most: int = MAX_FRAMES
) -> tuple[int, Iterator[Frame]]:
    """Take up to `most` frames, evenly spread from the first to the last. One is in memory at a time.

    Args:
        calibration: what `sdk.open_source` opens, or uint8 (H, W, 3) RGB arrays.
        contract: of the network that they are prepared for.
        most: frames taken.

    Returns:
        How many there will be, and the frames as `sdk.prepare` makes them: uint8 (1, h, w, 3).

    Raises:
        FrameError: there is none; while iterating, one cannot be used.
        DataError: the path holds no frames.
    """
    if isinstance(calibration, (str, Path)):
        source = open_source(calibration, positions=False)
        if isinstance(source, ImageSource):  # files that are not taken need not be decoded
            source = ImageSource([source.files[index] for index in evenly(len(source.files), most)])
        total = source.num_frames or 0
        frames: Iterator[Frame] = (sighting.frame for sighting in source)
    else:
        total, frames = len(calibration), iter(calibration)
    if total == 0:
        raise FrameError("no frames to calibrate on found; give a folder of about 100 that show what the robot sees")
    taken = set(evenly(total, most))
    return len(taken), (prepare(frame, contract.size) for index, frame in enumerate(frames) if index in taken)


def evenly(total: int, most: int) -> list[int]:
    """Up to `most` whole numbers below `total`, evenly spread, both ends among them."""
    return sorted({round(place) for place in np.linspace(0, total - 1, min(total, most))})


@dataclass(frozen=True)
class Statistics:
    """Of one tensor over all frames.

    Attributes:
        least, greatest: value.
        means: of each channel, float64 (C,).
    """

    least: float
    greatest: float
    means: npt.NDArray[np.float64]


def measure(
    model: onnx.ModelProto, tensors: Iterable[str], frames: Iterable[Frame], tell: Callable[[int], None]
) -> dict[str, Statistics]:
    """Look at tensors while a network describes frames.

    Extremes and means are taken inside the graph, by ONNX Runtime, so that no map need be kept.

    Args:
        model: an fp32 network.
        tensors: names of feature maps in it, float32 (1, C, h, w).
        frames: uint8 (1, h, w, 3) each, one or more.
        tell: called with the number of frames done.

    Raises:
        EngineError: the network does not run, or a value is not finite.
    """
    names = list(dict.fromkeys(tensors))
    wanted = [f"{name}/{kind}" for name in names for kind in ("Min", "Max", "Mean")]
    session = open_session(watched(model, names))
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    sums: list[Any] = [0.0] * len(names)
    done = 0
    for frame in frames:
        try:
            found = session.run(wanted, {model.graph.input[0].name: frame})
        except Exception as error:  # ONNX Runtime raises a dozen unrelated kinds
            raise EngineError(
                f"ONNX Runtime failed on frame {done} ({_first_line(error)}), expected the network to run; export it "
                "again"
            ) from None
        for i, (least, greatest, means) in enumerate(zip(found[0::3], found[1::3], found[2::3], strict=True)):
            if not (np.isfinite(least) and np.isfinite(greatest)):
                raise EngineError(
                    f"{names[i]} is not finite on frame {done}, expected finite values; check the network's weights"
                )
            low[i], high[i] = min(low[i], float(least)), max(high[i], float(greatest))
            sums[i] = sums[i] + means.astype(np.float64)  # (C,)
        done += 1
        tell(done)
    return {name: Statistics(float(low[i]), float(high[i]), sums[i] / done) for i, name in enumerate(names)}


def watched(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """A serialised network that also gives least, greatest and channels' means of feature maps."""
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


def open_session(data: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; a library does not print
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EngineError(
            f"ONNX Runtime cannot load the network ({_first_line(error)}), expected what `structvpr export onnx` "
            "wrote; export it again"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
