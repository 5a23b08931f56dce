"""Checks shared by all ONNX runtimes: a contract is present and matches the ports."""

from __future__ import annotations

import os
from pathlib import Path

from ..contract import RAW_DESCRIPTOR, ModelContract
from ..errors import ContractError, EngineError

__all__ = ["contract_in", "default_threads", "load_refused", "match_ports"]

# More than four threads gain little at batch 1 and take the cores of the robot's other work.
MAX_THREADS = 4

Port = tuple[str, str, list[object]]  # name, element type as the runtime names it, shape


def default_threads() -> int:
    """Default CPU threads per inference: one per core that this process may use, at most four."""
    return min(MAX_THREADS, len(os.sched_getaffinity(0)))


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
            f"{path}: carries no model contract in its metadata; export the model with `structvpr export onnx`"
        )
    return ModelContract.from_json(text, str(path))


def match_ports(
    path: Path, contract: ModelContract, inputs: list[Port], outputs: list[Port], uint8: str, float32: str
) -> list[str]:
    """Refuse a model whose ports differ from its contract.

    Args:
        path: of the model, for the message.
        contract: the model's own.
        inputs: of the model.
        outputs: of the model.
        uint8: this runtime's name of the element type uint8.
        float32: this runtime's name of the element type float32.

    Returns:
        The contract's name of each output, in the model's order. A single output may have any name in the model.

    Raises:
        ContractError: they differ.
    """
    names = [name for name, _, _ in outputs] if contract.feature_maps else [RAW_DESCRIPTOR] * len(outputs)
    taken = [(kind, shape) for _, kind, shape in inputs]
    given = {name: (kind, shape) for name, (_, kind, shape) in zip(names, outputs, strict=True)}
    expected_in = [(uint8, [1, *contract.size, 3])]
    expected_out = {name: (float32, [1, *shape]) for name, shape in contract.output_shapes.items()}
    if taken != expected_in or given != expected_out or len(outputs) != len(expected_out):
        raise ContractError(
            f"{path}: takes {taken} and gives {given}, expected {expected_in} and {expected_out} by its contract; "
            "export the model again with `structvpr export onnx`"
        )
    return names


def load_refused(path: Path, runtime: str, reason: str) -> EngineError:
    """The error for a file that a runtime cannot load."""
    return EngineError(f"{path}: {runtime} cannot load it ({reason}); make a model with `structvpr export onnx`")
