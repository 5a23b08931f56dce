"""A network as a function from a frame to its descriptor."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from ._core import l2_normalize
from .backends import Backend
from .contract import ModelContract
from .errors import EngineError
from .frames.preprocess import prepare

__all__ = ["Describer"]


class Describer:
    """Describes frames with one network."""

    def __init__(self, backend: Backend, colour: str = "rgb") -> None:
        self._backend = backend
        self._colour = colour

    @property
    def contract(self) -> ModelContract:
        """The network's contract."""
        return self._backend.contract

    def describe(
        self, frame: Any, *, colour: str | None = None, timings_ms: dict[str, float] | None = None
    ) -> npt.NDArray[np.float32]:
        """The descriptor of a frame: float32 (D,), unit length.

        Raises:
            FrameError: the frame cannot be described.
            EngineError: the network failed.
        """
        marks = [time.perf_counter()]
        batch = prepare(frame, self.contract.size, self._colour if colour is None else colour)
        marks.append(time.perf_counter())
        raw = self._backend.infer(batch)
        marks.append(time.perf_counter())
        try:
            descriptor = l2_normalize(raw)
        except ValueError as error:
            raise EngineError(f"the network {self.contract.name!r} gave no usable descriptor ({error})") from None
        marks.append(time.perf_counter())
        if timings_ms is not None:
            for stage, begin, end in zip(("prepare", "infer", "normalize"), marks, marks[1:], strict=False):
                timings_ms[stage] = timings_ms.get(stage, 0.0) + (end - begin) * 1e3
        return descriptor
