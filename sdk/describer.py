"""A frame in, a descriptor out."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._core import l2_normalize
from .arrays import Descriptors
from .backends import Backend
from .contract import RAW_DESCRIPTOR, ModelContract
from .errors import EngineError
from .frames.preprocess import check_colour, prepare
from .stopwatch import timed

__all__ = ["Describer", "Description"]


@dataclass(frozen=True)
class Description:
    """What a network says about one frame.

    Attributes:
        descriptor: float32 (D,), unit length.
        outputs: the network's other outputs by name, as its contract lists them; float32, without a batch axis.
    """

    descriptor: Descriptors
    outputs: Mapping[str, Descriptors]


class Describer:
    """Prepares frames, runs the network, and normalises its descriptor. Safe to use from several threads."""

    def __init__(self, backend: Backend, colour: str = "rgb") -> None:
        """Take a loaded network, which stays the caller's to close.

        Args:
            backend: the network.
            colour: channel order of the frames, "rgb" or "bgr".

        Raises:
            UsageError: another colour order.
        """
        check_colour(colour)
        self._backend = backend
        self._colour = colour

    @property
    def contract(self) -> ModelContract:
        """The model that describes frames here."""
        return self._backend.contract

    def warm_up(self) -> None:
        """Run the network once: the first inference of any runtime allocates memory."""
        self._backend.infer(np.full((1, *self.contract.size, 3), 128, np.uint8))

    def describe(
        self, frame: Any, *, colour: str | None = None, timings_ms: MutableMapping[str, float] | None = None
    ) -> Description:
        """Describe a frame.

        Args:
            frame: uint8 (H, W, 3), both sides >= 32 px.
            colour: channel order of this frame, if it differs from the constructor's.
            timings_ms: receives the milliseconds of "prepare", "infer" and "normalize".

        Raises:
            FrameError: the frame cannot be described.
            EngineError: the network failed, or gave something else than its contract says.
        """
        timings_ms = {} if timings_ms is None else timings_ms
        with timed(timings_ms, "prepare"):
            batch = prepare(frame, self.contract.size, self._colour if colour is None else colour)
        with timed(timings_ms, "infer"):
            outputs = self._backend.infer(batch)
            if isinstance(outputs, np.ndarray):  # a backend of a user's own that was written for 0.1.0
                outputs = {RAW_DESCRIPTOR: outputs}
        self._require_shapes(outputs)
        with timed(timings_ms, "normalize"):
            try:
                descriptor = l2_normalize(outputs[RAW_DESCRIPTOR])
            except ValueError as error:
                raise EngineError(
                    f"the network {self.contract.name!r} gave no usable descriptor ({error}); export it again and "
                    "verify it with `structvpr export onnx`"
                ) from None
        return Description(descriptor, {name: each for name, each in outputs.items() if name != RAW_DESCRIPTOR})

    def _require_shapes(self, outputs: Mapping[str, Descriptors]) -> None:
        for name, shape in self.contract.output_shapes.items():
            output = outputs.get(name)
            if output is None or output.shape != shape or output.dtype != np.float32:
                found = "nothing" if output is None else f"{output.dtype} {output.shape}"
                raise EngineError(
                    f"the network {self.contract.name!r} gave {found} as {name}, its contract says float32 {shape}; "
                    "export it again"
                )
