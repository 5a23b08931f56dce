"""Run any ONNX segmentation network in ONNX Runtime.

A network file may describe itself in `metadata_props["segmentation"]`, a JSON object with any of `label_set` (a name in
`LABEL_SETS`), `scale`, `mean`, `std` and `colour`. The input is (pixel * scale - mean) / std.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sdk import ContractError, EngineError
from sdk.arrays import Bytes, Floats, Triple
from sdk.errors import first_line

from .label_sets import LABEL_SETS, LabelSet
from .network_options import NetworkOptions, check_metadata

__all__ = ["Segmentation", "SegmentationNetwork"]

DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}


@dataclass(frozen=True)
class Segmentation:
    """Labels of one frame.

    Attributes:
        labels: uint8 (h, w), ids of the label set.
        confidence: uint8 (h, w), probability of the likeliest class, 0 to 255 for 0 to 1. None if the network gives no
            floating-point logits or probabilities.
    """

    labels: Bytes
    confidence: Bytes | None


class SegmentationNetwork:
    """An ONNX segmentation network.

    Attributes:
        label_set: of the ids from `segment`.
        settings: everything that the label maps depend on, as JSON values.
    """

    def __init__(self, path: Path, options: NetworkOptions | None = None) -> None:
        """Load a network, run it once on a black frame, and find its input and output.

        Raises:
            EngineError: the file cannot be read or run.
            ContractError: the input or output is ambiguous or contradicts the options. The message names the option.
        """
        import onnxruntime

        self._path = path
        options = options or NetworkOptions()
        session_options = onnxruntime.SessionOptions()
        session_options.log_severity_level = 4  # fatal only: errors are raised, not printed
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        try:
            data = path.read_bytes()
            self._session = onnxruntime.InferenceSession(str(path), session_options, providers=providers)
        except OSError as error:
            raise EngineError(f"{path}: cannot be read ({error.strerror}); check the path") from None
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise EngineError(f"{path}: ONNX Runtime cannot load it ({first_line(error)}); export it again") from None
        said = self._metadata()
        self.label_set = self._settle_label_set(options.label_set, said.get("label_set"))
        self._settle_input(options, said)
        self._settle_output(options)
        self.settings: dict[str, Any] = {
            "network": path.name,
            "network_sha256": hashlib.sha256(data).hexdigest(),
            "label_set": self.label_set.name,
            "input": {
                "height": self._height,
                "width": self._width,
                "layout": self._layout,
                "dtype": np.dtype(self._dtype).name,
                "colour": self._colour,
                **({} if self._norm is None else dict(zip(("scale", "mean", "std"), self._norm, strict=True))),
            },
            "output": {"name": self._output_name, "holds": self._output},
        }

    def segment(self, frame: Bytes) -> Segmentation:
        """Label a frame.

        The frame is stretched to the network's input. The map has the frame's proportions and is not larger than frame
        or input. Logits and probabilities are resized by bilinear interpolation, class numbers by nearest neighbour.

        Args:
            frame: uint8 (H, W, 3), RGB.

        Raises:
            EngineError: the network failed, or its output has a value that is not finite or not a class.
        """
        given = self._run(frame)
        shrink = min(1.0, self._height / frame.shape[0], self._width / frame.shape[1])
        size = (max(1, round(frame.shape[1] * shrink)), max(1, round(frame.shape[0] * shrink)))  # width, height
        if self._output == "ids":
            ids = given.reshape(*(side for side in given.shape if side != 1)) if given.ndim != 2 else given
            labels = cv2.resize(self._checked_ids(ids), size, interpolation=cv2.INTER_NEAREST)
            return Segmentation(np.asarray(labels, dtype=np.uint8), None)
        channels = given[0] if self._output == "nchw" else given[0].transpose(2, 0, 1)  # (C, h, w)
        exact = channels.dtype.kind == "f"
        channels = np.ascontiguousarray(channels, dtype=np.float32)
        if not np.isfinite(channels).all():
            raise EngineError(f"{self._path}: its output holds NaN or infinity; check --scale, --mean and --std")
        stretched = np.stack([cv2.resize(channel, size, interpolation=cv2.INTER_LINEAR) for channel in channels])
        best = stretched.argmax(axis=0)  # (C, h, w) -> (h, w)
        # An extra channel is void with id 0, which only occurs in a set whose ids begin at 1.
        first = self.label_set.first_id if len(channels) == len(self.label_set.classes) else 0
        labels = (best + first).astype(np.uint8)
        return Segmentation(labels, _confidence(stretched) if exact else None)

    def _run(self, frame: Bytes) -> npt.NDArray[Any]:
        pixels = cv2.resize(frame, (self._width, self._height), interpolation=cv2.INTER_AREA)
        if self._colour == "bgr":
            pixels = pixels[..., ::-1]
        if self._norm is not None:
            scale, mean, std = self._norm
            pixels = (pixels.astype(np.float32) * np.float32(scale) - np.asarray(mean, np.float32)) / np.asarray(
                std, np.float32
            )
        if self._layout == "nchw":
            pixels = pixels.transpose(2, 0, 1)  # (3, h, w)
        batch = np.ascontiguousarray(pixels[np.newaxis], dtype=self._dtype)
        try:
            return np.asarray(self._session.run([self._output_name], {self._input_name: batch})[0])
        except Exception as error:
            raise EngineError(
                f"{self._path}: ONNX Runtime failed on an input {batch.shape} ({first_line(error)}); check "
                "--height and --width"
            ) from None

    def _checked_ids(self, ids: npt.NDArray[Any]) -> Bytes:
        numbers = np.rint(ids).astype(np.int64) if ids.dtype.kind == "f" else ids.astype(np.int64)
        known = np.isin(numbers, [*self.label_set.ids, self.label_set.void])
        if not known.all():
            raise EngineError(
                f"{self._path}: gave class {int(numbers[~known][0])}, expected {self.label_set.expected}; choose the "
                "network's label set with --label-set"
            )
        return numbers.astype(np.uint8)

    # --- from metadata, shapes and options -------------------------------------------------------------------

    def _metadata(self) -> dict[str, Any]:
        text = self._session.get_modelmeta().custom_metadata_map.get("segmentation", "{}")
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise ContractError(f'{self._path}: its metadata "segmentation" is no JSON object; correct or remove it')
        check_metadata(self._path, said)
        return said

    def _settle_label_set(self, asked: str | None, said: Any) -> LabelSet:
        if asked is not None and said is not None and asked != said:
            raise ContractError(f"{self._path}: its metadata names the label set {said}, not {asked}; omit --label-set")
        name = asked or said
        if name not in LABEL_SETS:
            raise ContractError(
                f"{self._path}: label set {name!r} found, expected one of {', '.join(LABEL_SETS)}; name it with "
                "--label-set"
            )
        return LABEL_SETS[name]

    def _settle_input(self, options: NetworkOptions, said: dict[str, Any]) -> None:
        ports = self._session.get_inputs()
        shape = list(ports[0].shape) if ports else []
        if len(ports) != 1 or len(shape) != 4 or ports[0].type not in DTYPES:
            found = ", ".join(f"{port.name} {port.type} {port.shape}" for port in ports)
            raise ContractError(
                f"{self._path}: takes {found}, expected one image, (1, 3, h, w) or (1, h, w, 3), float32, float16 or "
                "uint8; export it so"
            )
        self._input_name, self._dtype = ports[0].name, DTYPES[ports[0].type]
        fitting = [layout for layout, axis in (("nchw", 1), ("nhwc", 3)) if shape[axis] == 3]
        if options.input_layout is None and len(fitting) != 1:
            raise ContractError(
                f"{self._path}: takes {shape}, in which the axis of 3 colours is not clear; add --input-layout nchw or "
                "--input-layout nhwc"
            )
        self._layout = options.input_layout or fitting[0]
        sides = shape[2:] if self._layout == "nchw" else shape[1:3]
        self._height = self._settle_side("height", options.height, sides[0])
        self._width = self._settle_side("width", options.width, sides[1])
        self._colour = options.colour or said.get("colour", "rgb")
        self._norm: tuple[float, Triple, Triple] | None = None
        given = {key: getattr(options, key) for key in ("scale", "mean", "std") if getattr(options, key) is not None}
        if self._dtype is np.uint8:
            if given:
                raise ContractError(
                    f"{self._path}: takes uint8 pixels without normalisation; omit --{' --'.join(given)}"
                )
            return
        numbers = {key: said[key] for key in ("scale", "mean", "std") if key in said} | given
        if not numbers:
            raise ContractError(
                f"{self._path}: takes {np.dtype(self._dtype).name}, and its metadata does not give the range; add "
                "--mean 123.675 116.28 103.53 --std 58.395 57.12 57.375 for ImageNet's, --scale 0.00392156862745098 "
                "for 0 to 1, or --scale 1 for 0 to 255"
            )
        norm = (numbers.get("scale", 1.0), numbers.get("mean", (0.0,) * 3), numbers.get("std", (1.0,) * 3))
        values = np.hstack([np.asarray(part, dtype=np.float64).ravel() for part in norm])
        if len(values) != 7 or not np.isfinite(values).all() or norm[0] == 0 or 0 in norm[2]:
            raise ContractError(
                f"{self._path}: scale, mean and std are {norm}, expected finite numbers, scale and std other than 0"
            )
        self._norm = (float(norm[0]), tuple(map(float, norm[1])), tuple(map(float, norm[2])))  # type: ignore[assignment]

    def _settle_side(self, name: str, asked: int | None, found: Any) -> int:
        fixed = found if isinstance(found, int) else None
        if fixed is not None and asked not in (None, fixed):
            raise ContractError(f"{self._path}: its input has a fixed {name} of {fixed} px, not {asked}; omit --{name}")
        side = fixed or asked
        if side is None or side < 1:
            raise ContractError(f"{self._path}: its input has no fixed {name}; add --{name} with 1 px or more")
        return side

    def _settle_output(self, options: NetworkOptions) -> None:
        names = [port.name for port in self._session.get_outputs()]
        if options.output_name is not None and options.output_name not in names:
            raise ContractError(
                f"{self._path}: has no output {options.output_name}, expected one of {', '.join(names)}"
            )
        if options.output_name is None and len(names) != 1:
            raise ContractError(f"{self._path}: has the outputs {', '.join(names)}; choose one with --output-name")
        self._output_name = options.output_name or names[0]
        black = self._run(np.zeros((self._height, self._width, 3), np.uint8))
        counts = {len(self.label_set.classes), len(self.label_set.ids) + self.label_set.first_id}
        is_map = black.ndim >= 2 and sum(side != 1 for side in black.shape) == 2
        fitting = ["ids"] if is_map and (black.dtype.kind in "iu" or options.output == "ids") else []
        if black.ndim == 4 and black.shape[0] == 1:
            fitting += [layout for layout, axis in (("nchw", 1), ("nhwc", 3)) if black.shape[axis] in counts]
        if options.output is not None:
            fitting = [kind for kind in fitting if kind == options.output]
        if len(fitting) != 1:
            wanted = " or ".join(str(count) for count in sorted(counts))
            raise ContractError(
                f"{self._path}: {self._output_name} is {black.dtype} {black.shape}, which is "
                f"{'ambiguous' if fitting else 'no label map'} for the {len(self.label_set.classes)} classes of "
                f"{self.label_set.name}, expected (1, C, h, w) or (1, h, w, C) with C = {wanted}, or integers "
                "(1, h, w); add --output nchw, nhwc or ids, or choose another --label-set"
            )
        self._output = fitting[0]


def _confidence(channels: Floats) -> Bytes:
    """Probability of the likeliest class, from probabilities or else by softmax."""
    top = channels.max(axis=0)  # (C, h, w) -> (h, w)
    if not (channels.min() >= 0.0 and np.abs(channels.sum(axis=0) - 1.0).max() < 1e-2):
        top = 1.0 / np.exp(channels - top).sum(axis=0)
    return np.asarray(np.rint(np.clip(top, 0.0, 1.0) * 255.0), dtype=np.uint8)
