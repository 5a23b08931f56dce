"""What runs the network: one protocol, one implementation a runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..contract import ModelContract
from ..errors import EngineError

__all__ = ["Backend", "open_backend"]


class Backend(Protocol):
    """A loaded network. `infer` may be called from several threads at once."""

    @property
    def contract(self) -> ModelContract:
        """What it must be fed, and what its output may be compared with."""

    def infer(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Run the network.

        Args:
            batch: uint8 (1, height, width, 3), RGB, what `sdk.prepare` returns.

        Returns:
            The raw descriptor, float32 (D,): not of unit length yet.

        Raises:
            EngineError: the runtime failed.
        """

    def close(self) -> None:
        """Give back threads and memory; nothing may be called afterwards."""


RUNTIMES = ("onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt", "openvino")  # of a model.onnx


def open_backend(path: str | os.PathLike[str], *, threads: int | None = None, runtime: str | None = None) -> Backend:
    """Load a network by what its file is.

    Args:
        path: a model.onnx that `structvpr export onnx` wrote, or a model.engine of `structvpr export engine`.
        threads: CPU threads of one inference, at least 1; None for the runtime's choice. An engine has no use for it.
        runtime: what runs a model.onnx: "onnxruntime" (the CPU), "onnxruntime-cuda", "onnxruntime-tensorrt" (both with
            the package onnxruntime-gpu), "openvino" (the CPU, extra `openvino`); None for "onnxruntime". What was asked
            for runs it, or it is an error. An engine is TensorRT's, and says itself of which kind.

    Raises:
        EngineError: missing, not a network, or of a kind that cannot be run here; threads is below 1.
        ContractError: a network without a readable contract, or that is not what its contract says.
    """
    path = Path(path)
    if threads is not None and threads < 1:
        raise EngineError(f"threads is {threads}, expected at least 1; correct it, or leave it to the runtime")
    try:
        there = path.is_file()
    except OSError as error:
        raise EngineError(
            f"{path}: cannot be looked at ({error.strerror}), expected a model.onnx or a model.engine; look at the "
            "name, and at the rights of its folder"
        ) from None
    if not there:
        raise EngineError(
            f"{path}: there is no such file, expected a model.onnx or a model.engine; make one with `structvpr export "
            "onnx` or `structvpr export engine`"
        )
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise EngineError(f"{str(path)!r}: is not a name in UTF-8, expected one for a model; rename the file") from None
    if runtime is not None and runtime not in RUNTIMES:
        raise EngineError(f"runtime is {runtime!r}, expected one of {', '.join(RUNTIMES)}; choose one, or none")
    if path.suffix in (".engine", ".plan"):
        if runtime is not None:
            raise EngineError(
                f"{path}: is a TensorRT engine, which {runtime} does not run, expected a model.onnx for that; pass the "
                ".onnx that it was built from, or leave the runtime away"
            )
        from .trt import TrtBackend

        return TrtBackend(path)
    if runtime == "openvino":
        from .ov import OvBackend

        return OvBackend(path, threads=threads)
    from .ort import OrtBackend

    provider = (runtime or "onnxruntime").removeprefix("onnxruntime").removeprefix("-") or "cpu"
    return OrtBackend(path, threads=threads, provider=provider)
