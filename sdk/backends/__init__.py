"""Runtimes: one protocol, `Backend`, with one implementation for each runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..contract import ModelContract
from ..errors import EngineError, UsageError

__all__ = ["Backend", "open_backend"]


class Backend(Protocol):
    """A loaded network. `infer` may be called from several threads at once."""

    @property
    def contract(self) -> ModelContract:
        """The network's input, outputs, and identity. Descriptors of different identities are not comparable."""

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """Run the network on one frame.

        Args:
            batch: uint8 (1, height, width, 3), RGB, what `sdk.prepare` returns.

        Returns:
            Each output by name, float32, with the shape in `contract.output_shapes` (no batch axis). "raw_descriptor"
            is (D,) and not normalized. The arrays are the caller's own.

        Raises:
            EngineError: the runtime failed.
        """

    def close(self) -> None:
        """Release threads and memory. The backend must not be used afterwards."""


RUNTIMES = ("onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt", "openvino")  # of a model.onnx


def open_backend(path: str | os.PathLike[str], *, threads: int | None = None, runtime: str | None = None) -> Backend:
    """Load a network with the runtime for its file type.

    Args:
        path: a model.onnx of `structvpr export onnx`, or a model.engine of `structvpr export engine`.
        threads: CPU threads per inference, at least 1; None for the runtime's choice. Engines ignore it.
        runtime: runtime of a model.onnx: "onnxruntime" (CPU), "onnxruntime-cuda", "onnxruntime-tensorrt" (both
            need the package onnxruntime-gpu), or "openvino" (CPU, extra `openvino`); None for "onnxruntime". The
            requested runtime runs, or an error is raised; there is no silent fallback. An engine names its own runtime.

    Raises:
        UsageError: threads is below 1, or the runtime is unknown.
        EngineError: the file is missing, is not a network, or cannot be run here.
        ContractError: the network has no readable contract, or does not match it.
    """
    path = Path(path)
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}, expected at least 1; leave it out for the runtime's choice")
    try:
        there = path.is_file()
    except OSError as error:
        raise EngineError(
            f"{path}: cannot be read ({error.strerror}); check the name and the permissions of its folder"
        ) from None
    if not there:
        raise EngineError(
            f"{path}: there is no such file; make a model with `structvpr export onnx` or `structvpr export engine`"
        )
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise EngineError(f"{str(path)!r}: the name is not valid UTF-8; rename the file") from None
    if runtime is not None and runtime not in RUNTIMES:
        raise UsageError(f"runtime is {runtime!r}, expected one of {', '.join(RUNTIMES)}")
    if path.suffix in (".engine", ".plan"):
        if runtime is not None:
            raise EngineError(
                f"{path}: is a TensorRT engine, which {runtime} does not run; pass the model.onnx that it was built "
                "from, or leave out the runtime"
            )
        from .trt import TrtBackend

        return TrtBackend(path)
    if runtime == "openvino":
        from .ov import OvBackend

        return OvBackend(path, threads=threads)
    from .ort import OrtBackend

    provider = (runtime or "onnxruntime").removeprefix("onnxruntime").removeprefix("-") or "cpu"
    return OrtBackend(path, threads=threads, provider=provider)
