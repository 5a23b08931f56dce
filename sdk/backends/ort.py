"""ONNX Runtime: runs everywhere, needs no GPU."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..contract import ModelContract
from ..errors import ContractError, EngineError

__all__ = ["OrtBackend"]

# More than four threads gain little at batch 1 and take the cores of the robot's other work.
MOST_THREADS = 4


class OrtBackend:
    """A model.onnx in an ONNX Runtime session on the CPU. See `Backend`."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Load the model.

        Args:
            path: the file.
            threads: CPU threads of one inference; None for one a core, at most four.

        Raises:
            EngineError: the file is not an ONNX model, or onnxruntime refuses it.
            ContractError: it carries no contract, or is not what its contract says.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or min(MOST_THREADS, len(os.sched_getaffinity(0)))
        options.inter_op_num_threads = 1
        # A thread that spins between two frames burns a core that the robot needs, for microseconds gained.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # what goes wrong is raised; a library does not print
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise EngineError(
                f"{path}: ONNX Runtime cannot load it ({_first_line(error)}), expected a model.onnx; make one with "
                "`structvpr export onnx`"
            ) from None
        metadata = self._session.get_modelmeta().custom_metadata_map
        if "contract" not in metadata:
            raise ContractError(
                f"{path}: carries no model contract, expected one in its metadata; export the model with "
                "`structvpr export onnx`"
            )
        self._contract = ModelContract.from_json(metadata["contract"], str(path))
        self._path = path
        self._check_ports()

    def _check_ports(self) -> None:
        contract = self._contract
        inputs = [(port.type, list(port.shape)) for port in self._session.get_inputs()]
        outputs = [(port.type, list(port.shape)) for port in self._session.get_outputs()]
        expected_in = [("tensor(uint8)", [1, contract.height, contract.width, 3])]
        expected_out = [("tensor(float)", [1, contract.descriptor_dim])]
        if inputs != expected_in or outputs != expected_out:
            raise ContractError(
                f"{self._path}: takes {inputs} and gives {outputs}, expected {expected_in} and {expected_out} by its "
                "contract; export the model again with `structvpr export onnx`"
            )
        self._input = self._session.get_inputs()[0].name

    @property
    def contract(self) -> ModelContract:
        return self._contract

    def infer(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        try:
            output = self._session.run(None, {self._input: batch})[0]
        except Exception as error:
            raise EngineError(
                f"{self._path}: ONNX Runtime failed ({_first_line(error)}), expected a descriptor; load the model again"
            ) from None
        return np.asarray(output[0], dtype=np.float32)  # (D,)

    def close(self) -> None:
        del self._session


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
