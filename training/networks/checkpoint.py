"""Checkpoints: one file with a network's weights, configuration and contract.

The file is PyTorch's zip container with a dictionary of six keys:

    format    "structvpr-checkpoint"
    schema    1
    config    {"backbone": str, "taps": [int], "tap_channels": [int], "descriptor_dim": int, "head": str,
              "head_config": {name: number}}; without the last two the head is "gem"
    contract  JSON text of `sdk.ModelContract`
    weights   name -> tensor, the state dict of `DescriptorNet`
    about     recipe, data and validation figures; empty for public weights

The file is read with `weights_only=True`, so an untrusted file cannot run code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdk import ContractError, EngineError, ModelContract
from sdk.atomic_file import replace_when_done

from .descriptor_net import DescriptorNet, weights_sha256

__all__ = ["load_checkpoint", "load_weights", "save_checkpoint", "save_tensors"]

FORMAT = "structvpr-checkpoint"
SCHEMA = 1


def save_checkpoint(
    path: str | Path, net: DescriptorNet, contract: ModelContract, about: Mapping[str, Any] | None = None
) -> None:
    """Write a network and its contract. An existing file is replaced atomically.

    Args:
        path: the file to write, usually `.pt`.
        net: the branch that will be exported.
        contract: made by `make_contract` from these weights.
        about: recipe, data and figures, as plain values.

    Raises:
        ContractError: the contract belongs to other weights.
        EngineError: the file cannot be written.
    """
    check_weights("the network to save", net, contract)
    record = {
        "format": FORMAT,
        "schema": SCHEMA,
        "config": config_of(net),
        "contract": contract.to_json(),
        "weights": {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items()},
        "about": dict(about or {}),
    }
    save_tensors(path, record)


def load_checkpoint(path: str | Path) -> tuple[DescriptorNet, ModelContract]:
    """Read a checkpoint, on the CPU and in evaluation mode.

    Raises:
        EngineError: the file is missing, damaged, or not a checkpoint.
        ContractError: weights, configuration and contract do not match, or a newer structvpr wrote the file.
    """
    record = read_tensors(path, "make one with `structvpr train init` or `structvpr train student`")
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise EngineError(
            f"{path} is not a structvpr checkpoint; make one from plain weights with `structvpr train init`"
        )
    schema = record.get("schema")
    if schema != SCHEMA:
        raise ContractError(f"{path} has schema {schema!r}, this structvpr reads {SCHEMA}; update structvpr")
    remedy = "save it again with training.networks.checkpoint.save_checkpoint"
    contract_text, config = record.get("contract"), record.get("config")
    weights: Any = record.get("weights")
    if (
        not isinstance(contract_text, str)
        or not isinstance(config, dict)
        or not isinstance(config.get("backbone"), str)
        or not isinstance(config.setdefault("head", "gem"), str)
        or not is_state_dict(weights)
    ):
        raise EngineError(f"{path} is incomplete, expected contract, config and weights; {remedy}")
    contract = ModelContract.from_json(contract_text, str(path))
    config.setdefault("head_config", {})
    net = DescriptorNet(config["backbone"], head=config["head"])
    if config != config_of(net):
        raise ContractError(
            f"{path}: its config is {config}, expected {config_of(net)}; use the version of structvpr that wrote it"
        )
    try:
        net.load_state_dict(weights)
    except RuntimeError:
        raise ContractError(
            f"{path}: its weights do not fit its backbone {config['backbone']} and head {config['head']}; {remedy}"
        ) from None
    check_weights(str(path), net, contract)
    return net.eval(), contract


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a file of plain public weights (name -> tensor).

    Raises:
        EngineError: the file is missing, damaged, or not a state dict.
    """
    remedy = "download the published weights again (models/README.md names them)"
    record = read_tensors(path, remedy)
    if not is_state_dict(record):
        raise EngineError(f"{path} holds no state dict of tensors by name; {remedy}")
    weights: dict[str, Tensor] = dict(record)
    return weights


def config_of(net: DescriptorNet) -> dict[str, Any]:
    return {
        "backbone": net.backbone.name,
        "taps": list(net.backbone.taps),
        "tap_channels": list(net.backbone.tap_channels),
        "descriptor_dim": net.descriptor_dim,
        "head": net.head_name,
        "head_config": {} if net.head is None else net.head.config,
    }


def check_weights(where: str, net: DescriptorNet, contract: ModelContract) -> None:
    found = weights_sha256(net)
    if found != contract.weights or net.descriptor_dim != contract.descriptor_dim:
        raise ContractError(
            f"{where}: its weights have sha256 {found[:12]}… and {net.descriptor_dim} dimensions, its "
            f"contract says {contract.weights[:12]}… and {contract.descriptor_dim}; make the contract again with "
            "training.networks.descriptor_net.make_contract"
        )


def read_tensors(path: str | Path, remedy: str) -> Any:
    """Read a file with `torch.load`; each failure raises an `EngineError`."""
    try:
        with Path(path).open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror}; give the path of a file, or {remedy}") from None
    except Exception:  # the unpickler and the zip reader raise many types
        raise EngineError(f"{path} is damaged or not a PyTorch file of tensors; {remedy}") from None


def save_tensors(path: str | Path, record: Any) -> None:
    """Write plain values and tensors; an existing file is replaced atomically.

    Raises:
        WriteError: the file cannot be written.
    """
    with replace_when_done(path) as temporary, temporary.open("wb") as file:
        # Not torch.save(record, temporary): the zip container would contain the temporary name, so the same network
        # would give different bytes each time.
        torch.save(record, file)


def is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )
