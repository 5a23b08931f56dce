"""Networks of a few bytes, and what is no network: for the tests of every runtime."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from sdk import ContractError, EngineError, ModelContract

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "efficientnet-lite0-gem.onnx"
CONTRACT = ModelContract("tiny", "0" * 64, 32, 32, 3, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

NO_NETWORKS = {"empty": b"", "text": b"I am a text, no network.\n" * 20, "zero": b"\0" * 1000}


def tiny(
    path: Path,
    contract: str | None,
    shape: tuple[int, ...] = (1, 32, 32, 3),
    kind: str = "UINT8",
    precision: str = "fp32",
) -> Path:
    """A network that averages each channel, with this contract in its metadata."""
    onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [helper.make_node("Cast", ["frame"], ["pixels"], to=types.FLOAT)]
    constants = []
    last = "pixels"
    if precision == "fp16":
        nodes.append(helper.make_node("Cast", ["pixels"], ["half"], to=types.FLOAT16))
        last = "half"
    if precision == "int8":
        constants = [
            helper.make_tensor("scale", types.FLOAT, [], [2.0]),
            helper.make_tensor("zero", types.INT8, [], [0]),
        ]
        nodes.append(helper.make_node("QuantizeLinear", ["pixels", "scale", "zero"], ["coded"]))
        nodes.append(helper.make_node("DequantizeLinear", ["coded", "scale", "zero"], ["decoded"]))
        last = "decoded"
    nodes.append(helper.make_node("ReduceMean", [last], ["mean"], axes=[1, 2], keepdims=0))
    nodes.append(helper.make_node("Cast", ["mean"], ["raw_descriptor"], to=types.FLOAT))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frame", getattr(types, kind), shape)],
        [helper.make_tensor_value_info("raw_descriptor", types.FLOAT, (1, shape[-1]))],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if contract is not None:
        helper.set_model_props(model, {"contract": contract})
    onnx.save(model, str(path))
    return path


def tiny_in(precision: str, folder: Path) -> Path:
    """The same network in a precision, as its contract says."""
    contract = dataclasses.replace(CONTRACT, precision=precision)
    return tiny(folder / f"{precision}.onnx", contract.to_json(), precision=precision)


def refuse(open_it: Any, path: Path, kind: type[EngineError | ContractError], capfd: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which a file is refused, and nothing is printed."""
    with pytest.raises(kind) as caught:
        open_it(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert re.search("; ", message)  # what to do
    assert capfd.readouterr() == ("", "")  # what goes wrong is raised, not printed
    return message
