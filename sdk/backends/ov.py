"""OpenVINO: an alternative to ONNX Runtime on x86 CPUs, from the extra `openvino`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract import ModelContract
from ..errors import EngineError, first_line
from .batch import require_batch
from .onnx_file import Port, contract_in, default_threads, load_refused, match_ports

__all__ = ["OvBackend"]

CONTRACT = ["framework", "contract"]  # where its ONNX reader puts metadata_props

PROPERTIES = {
    "PERFORMANCE_HINT": "LATENCY",
    # On a CPU with bfloat16, OpenVINO computes a float32 model in it by default. That is twice as fast and gives other
    # descriptors than every other machine. An fp16 model is computed in float32 too.
    "INFERENCE_PRECISION_HINT": "f32",
    # A pinned thread waits while another one uses its core: 1.3 to 1.5 times the latency (docs/runtimes.md).
    "ENABLE_CPU_PINNING": False,
}


class OvBackend:
    """A model.onnx compiled by OpenVINO for the CPU. See `Backend`."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Load the model.

        Args:
            path: the file.
            threads: CPU threads per inference; None for one per core, at most four.

        Raises:
            EngineError: openvino is not installed, the file is not an ONNX model, or openvino refuses it.
            ContractError: the model has no contract, or does not match it.
        """
        try:
            import openvino
            from openvino.frontend import FrontEndManager
        except ImportError as error:
            raise EngineError(
                f"{path}: the package openvino cannot be imported ({first_line(error)}); run "
                '`pip install "structvpr[openvino]"`, or `pip install ".[openvino]"` in a checkout'
            ) from None
        self._path = path
        try:
            # Only the ONNX reader: Core.read_model tries every reader, and some print messages.
            reader = FrontEndManager().load_by_framework("onnx")
            model = reader.convert(reader.load(str(path)))
        except Exception as error:  # openvino's exceptions are RuntimeError and subclasses of Exception
            raise load_refused(path, "OpenVINO", _reason(error)) from None
        if not model.inputs:  # the result for an empty file
            raise load_refused(path, "OpenVINO", "it has no inputs")
        self._contract = contract_in(
            path, model.get_rt_info(CONTRACT).astype(str) if model.has_rt_info(CONTRACT) else None
        )
        self._outputs = match_ports(path, self._contract, _ports(model.inputs), _ports(model.outputs), "u8", "f32")
        properties = {**PROPERTIES, "INFERENCE_NUM_THREADS": threads or default_threads()}
        try:
            # One request is enough: the latency hint gives all threads to each, so several would take turns.
            self._request: Any = openvino.Core().compile_model(model, "CPU", properties).create_infer_request()
        except Exception as error:
            raise load_refused(path, "OpenVINO", _reason(error)) from None
        self._lock = threading.Lock()

    @property
    def contract(self) -> ModelContract:
        return self._contract

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        # OpenVINO would silently convert an array of another type, such as pixels from 0 to 1.
        require_batch(self._path, self._contract, batch)
        with self._lock:
            if self._request is None:
                raise EngineError(f"{self._path}: was closed; load it again")
            try:
                outputs = self._request.infer([batch], share_inputs=True)
                # Copies: the next inference overwrites the memory. (1, D) -> (D,), (1, h, w, c) -> (h, w, c)
                return {name: np.array(outputs[i][0], np.float32) for i, name in enumerate(self._outputs)}
            except Exception as error:
                raise EngineError(f"{self._path}: OpenVINO failed ({_reason(error)}); load the model again") from None

    def close(self) -> None:
        with self._lock:
            self._request = None


def _ports(ports: Any) -> list[Port]:
    return [
        (
            port.any_name if port.names else "",
            port.element_type.get_type_name(),
            [length.get_length() if length.is_static else str(length) for length in shape],
        )
        for port in ports
        for shape in (port.partial_shape,)
    ]


def _reason(error: Exception) -> str:
    """OpenVINO's message without the source location."""
    lines = [
        line for line in str(error).splitlines() if line.strip() and not line.startswith(("Exception from ", "Check "))
    ]
    return lines[-1].strip() if lines else type(error).__name__
