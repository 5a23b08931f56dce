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


def open_backend(path: str | os.PathLike[str], *, threads: int | None = None) -> Backend:
    """Load a network by what its file is.

    Args:
        path: a model.onnx that `structvpr export onnx` wrote.
        threads: CPU threads of one inference; None for the runtime's choice.

    Raises:
        EngineError: missing, not a network, or of a kind that this version cannot run.
        ContractError: a network without a readable contract, or that is not what its contract says.
    """
    path = Path(path)
    if not path.is_file():
        raise EngineError(
            f"{path}: there is no such file, expected a model.onnx; make one with `structvpr export onnx`"
        )
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise EngineError(f"{str(path)!r}: is not a name in UTF-8, expected one for a model; rename the file") from None
    if path.suffix in (".engine", ".plan"):
        raise EngineError(
            f"{path}: is named like a TensorRT engine, expected a model.onnx, which is all that this version runs; "
            "pass the .onnx that it was built from"
        )
    from .ort import OrtBackend

    return OrtBackend(path, threads=threads)
