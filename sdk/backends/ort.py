"""ONNX Runtime. It runs everywhere; with onnxruntime-gpu it can use a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract import ModelContract
from ..errors import EngineError, first_line
from .onnx_file import Port, contract_in, default_threads, load_refused, match_ports

__all__ = ["OrtBackend"]

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"

# The providers that each operator may use, in this order. On a GPU the CPU is left out: an operator that no provider
# takes is an error. The options stop CUDA from rounding float32 to TF32, and from searching for the fastest convolution
# of each shape at every start. TensorRT's provider leaves TF32 on.
CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
PROVIDERS: dict[str, list[Any]] = {
    "cpu": [CPU],
    "cuda": [(CUDA, CUDA_OPTIONS)],
    "tensorrt": [TENSORRT, (CUDA, CUDA_OPTIONS)],
}


class OrtBackend:
    """A model.onnx in an ONNX Runtime session. See `Backend`."""

    def __init__(self, path: Path, *, threads: int | None = None, provider: str = "cpu") -> None:
        """Load the model.

        Args:
            path: the file.
            threads: CPU threads per inference; None for one per core, at most four.
            provider: "cpu", or "cuda" or "tensorrt" of the package onnxruntime-gpu. TensorRT builds its engine at each
                start, which takes minutes on a small device; `structvpr export engine` does it once. Operators that it
                does not take run on CUDA.

        Raises:
            EngineError: the file is not an ONNX model, onnxruntime refuses it, or the provider is missing or would run
                a part of it on the CPU.
            ContractError: the model has no contract, or does not match it.
        """
        import onnxruntime

        wanted = _name(PROVIDERS[provider][0])
        available = onnxruntime.get_available_providers()
        if wanted not in available:
            raise EngineError(
                f"{path}: this ONNX Runtime has {', '.join(map(_short, available))}, expected {_short(wanted)}; "
                "uninstall onnxruntime and install onnxruntime-gpu for this CUDA, or ask for another runtime"
            )
        try:
            self._session = onnxruntime.InferenceSession(
                str(path),
                _options(onnxruntime, threads or default_threads(), provider),
                providers=PROVIDERS[provider],
                enable_fallback=0,  # the fallback prints, and continues on the CPU even in the middle of a run
            )
        except Exception as error:  # onnxruntime's exceptions have no common base class
            if "fallback to CPU EP" in str(error):
                raise EngineError(
                    f"{path}: ONNX Runtime would run some or all operators on the CPU, expected only "
                    f"{' and '.join(_short(_name(each)) for each in PROVIDERS[provider])}; check the driver with "
                    "`structvpr doctor`, and which CUDA this onnxruntime-gpu is for"
                ) from None
            raise load_refused(path, "ONNX Runtime", first_line(error)) from None
        used = self._session.get_providers()
        if used[0] != wanted:
            raise EngineError(
                f"{path}: ONNX Runtime would run it on {_short(used[0])}, because {_short(wanted)} did not start; "
                "check the driver with `structvpr doctor`, and which CUDA this onnxruntime-gpu is for"
            )
        self._contract = contract_in(path, self._session.get_modelmeta().custom_metadata_map.get("contract"))
        self._path = path
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._outputs = match_ports(
            path, self._contract, _ports(inputs), _ports(outputs), "tensor(uint8)", "tensor(float)"
        )
        self._input = inputs[0].name

    @property
    def contract(self) -> ModelContract:
        return self._contract

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        session = self._session
        if session is None:
            raise EngineError(f"{self._path}: was closed; load it again")
        try:
            outputs = session.run(None, {self._input: batch})
        except Exception as error:
            raise EngineError(
                f"{self._path}: ONNX Runtime failed ({first_line(error)}); load the model again"
            ) from None
        # (1, D) -> (D,), (1, h, w, c) -> (h, w, c)
        return {name: np.asarray(each[0], np.float32) for name, each in zip(self._outputs, outputs, strict=True)}

    def close(self) -> None:
        self._session = None  # threads and memory go with it


def _options(onnxruntime: Any, threads: int, provider: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The other defaults stay: arena, memory pattern, prepacked weights and every optimisation. Changing them, or I/O
    # binding, gained nothing (docs/runtimes.md, benchmarks/networks/runtimes.py).
    # Spinning threads would use as much CPU time again as the computation.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without VNNI the default on x86 adds products of uint8 and int8 in 16 bits. These sums saturate, and an int8 file
    # silently gives other descriptors. On other processors the setting does nothing.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if provider != "cpu":
        # Not for a single operator: the first provider of a session does not say where each operator runs.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.log_severity_level = 4  # errors are raised; a library does not print
    return options


def _name(provider: str | tuple[str, dict[str, str]]) -> str:
    return provider if isinstance(provider, str) else provider[0]


def _short(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider")


def _ports(ports: Any) -> list[Port]:
    return [(port.name, port.type, list(port.shape)) for port in ports]
