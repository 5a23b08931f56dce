"""Runs a serialised graph with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sdk import EngineError
from sdk.errors import first_line

__all__ = ["Session"]


class Session:
    """A graph loaded into ONNX Runtime, on the CPU.

    Raises:
        EngineError: ONNX Runtime cannot load the graph, or cannot run it.
    """

    def __init__(self, data: bytes, optimize: bool = True) -> None:
        """Load a graph, with all of ONNX Runtime's graph optimisations or with none."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised; a library does not print
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
        with _one_sentence():
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(self, outputs: Sequence[str], frame: Any) -> list[Any]:
        """The named outputs for a prepared frame, uint8 (1, h, w, 3)."""
        with _one_sentence():
            found: list[Any] = self._session.run(outputs, {self._session.get_inputs()[0].name: frame})
        return found


@contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime raises a dozen unrelated kinds
        raise EngineError(
            f"ONNX Runtime cannot run the exported graph ({first_line(error)}); export it again, or report this with "
            "the versions of torch, onnx and onnxruntime"
        ) from None
