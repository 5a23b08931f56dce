"""What every runtime of ONNX files asks of one: a contract, and to be what that says."""

from __future__ import annotations

import os
from pathlib import Path

from ..contract import ModelContract
from ..errors import ContractError, EngineError, first_line

__all__ = ["contract_in", "default_threads", "first_line", "load_refused", "require_ports"]

# More than four threads gain little at batch 1 and take the cores of the robot's other work.
MOST_THREADS = 4

Port = tuple[str, list[object]]  # element type as the runtime names it, shape


def default_threads() -> int:
    """CPU threads of one inference where none were asked for: one a core that this process may use, at most four."""
    return min(MOST_THREADS, len(os.sched_getaffinity(0)))


def contract_in(path: Path, text: str | None) -> ModelContract:
    """The contract in a model's metadata.

    Args:
        path: of the model, for the message.
        text: the value of `contract` in the metadata; None if it has none.

    Raises:
        ContractError: there is none, or it cannot be read.
    """
    if text is None:
        raise ContractError(
            f"{path}: carries no model contract, expected one in its metadata; export the model with "
            "`structvpr export onnx`"
        )
    return ModelContract.from_json(text, str(path))


def require_ports(
    path: Path, contract: ModelContract, inputs: list[Port], outputs: list[Port], uint8: str, float32: str
) -> None:
    """Refuse a model that takes or gives anything else than its contract says.

    Args:
        path: of the model, for the message.
        contract: what the model says of itself.
        inputs: what it takes.
        outputs: what it gives.
        uint8: how this runtime names that element type.
        float32: likewise.

    Raises:
        ContractError: they differ.
    """
    expected_in: list[Port] = [(uint8, [1, contract.height, contract.width, 3])]
    expected_out: list[Port] = [(float32, [1, contract.descriptor_dim])]
    if inputs != expected_in or outputs != expected_out:
        raise ContractError(
            f"{path}: takes {inputs} and gives {outputs}, expected {expected_in} and {expected_out} by its contract; "
            "export the model again with `structvpr export onnx`"
        )


def load_refused(path: Path, runtime: str, reason: str) -> EngineError:
    """What to raise for a file that a runtime does not take."""
    return EngineError(
        f"{path}: {runtime} cannot load it ({reason}), expected a model.onnx; make one with `structvpr export onnx`"
    )
