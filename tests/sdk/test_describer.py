"""A frame becomes a unit descriptor, and the network's other outputs come with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from map_fakes import FakeBackend, make_frames
from tiny_models import CONTRACT

import sdk
from sdk.contract import FeatureMap
from sdk.describer import Describer

CELLS = FeatureMap("cells", height=4, width=4, depth=3, stride_px=8)
WITH_CELLS = dataclasses.replace(CONTRACT, feature_maps=(CELLS,))


def write_network(path: Path, names: tuple[str, str] = ("raw_descriptor", "cells"), depth: int = 3) -> Path:
    """Two outputs: the mean of each channel of the frame, and its mean in each square of 8 x 8 px."""
    onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["frame"], ["pixels"], to=types.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], [names[0]], axes=[1, 2], keepdims=0),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Transpose", ["pooled"], [names[1]], perm=[0, 2, 3, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("frame", types.UINT8, (1, 32, 32, 3))],
        [
            helper.make_tensor_value_info(names[1], types.FLOAT, (1, 4, 4, 3)),  # in another order than the contract's
            helper.make_tensor_value_info(names[0], types.FLOAT, (1, 3)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    maps = (dataclasses.replace(CELLS, depth=depth),)
    helper.set_model_props(model, {"contract": dataclasses.replace(CONTRACT, feature_maps=maps).to_json()})
    onnx.save(model, str(path))
    return path


def squares(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return frame.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3))  # (32, 32, 3) -> (4, 4, 3)


def test_outputs_come_by_name(tmp_path: Path) -> None:
    backend = sdk.open_backend(write_network(tmp_path / "two.onnx"))
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    description = Describer(backend).describe(frame)
    mean = frame.mean(axis=(0, 1))
    assert np.allclose(description.descriptor, mean / np.linalg.norm(mean), atol=1e-5)
    assert description.outputs.keys() == {"cells"}
    assert description.outputs["cells"].shape == CELLS.shape
    assert np.allclose(description.outputs["cells"], squares(frame), atol=1e-2)
    backend.close()


def test_feature_maps_do_not_change_the_descriptors_identity(tmp_path: Path) -> None:
    backend = sdk.open_backend(write_network(tmp_path / "two.onnx"))
    assert backend.contract == WITH_CELLS
    assert backend.contract.identity == CONTRACT.identity
    assert backend.contract.output_shapes == {"raw_descriptor": (3,), "cells": (4, 4, 3)}
    backend.close()


@pytest.mark.parametrize(("names", "depth"), [(("raw_descriptor", "other"), 3), (("raw_descriptor", "cells"), 4)])
def test_a_network_that_is_not_what_it_says_is_refused(tmp_path: Path, names: tuple[str, str], depth: int) -> None:
    with pytest.raises(sdk.ContractError, match="by its contract; export the model again"):
        sdk.open_backend(write_network(tmp_path / "two.onnx", names, depth))


def test_the_contract_travels_as_text() -> None:
    text = WITH_CELLS.to_json()
    assert sdk.ModelContract.from_json(text, "m.onnx") == WITH_CELLS
    assert "feature_maps" not in CONTRACT.to_json()  # the text that 0.1.0 reads
    for broken in (text.replace('"depth": 3', '"depth": 0'), text.replace('"depth": 3', '"deep": 3')):
        with pytest.raises(sdk.ContractError, match=r"m\.onnx: .*"):
            sdk.ModelContract.from_json(broken, "m.onnx")
    with pytest.raises(sdk.ContractError, match="expected an identifier"):
        FeatureMap("raw_descriptor", 4, 4, 3, 8)
    with pytest.raises(sdk.ContractError, match="different names"):
        dataclasses.replace(CONTRACT, feature_maps=(CELLS, CELLS))


def test_a_backend_that_breaks_its_word_is_named() -> None:
    class Silent(FakeBackend):
        def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
            return {}

    with pytest.raises(sdk.EngineError, match="gave nothing as raw_descriptor"):
        Describer(Silent()).describe(make_frames(1)[0])


def test_a_backend_of_0_1_0_may_return_the_descriptor_alone() -> None:
    class Plain(FakeBackend):
        def infer(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:  # type: ignore[override]
            return super().infer(batch)["raw_descriptor"]

    frame = make_frames(1)[0]
    expected = Describer(FakeBackend()).describe(frame).descriptor
    assert np.array_equal(Describer(Plain()).describe(frame).descriptor, expected)


def test_colour_order_is_checked() -> None:
    frame = make_frames(1)[0]
    with pytest.raises(sdk.UsageError, match="colour is 'gray'"):
        Describer(FakeBackend(), "gray")
    rgb = Describer(FakeBackend()).describe(frame).descriptor
    assert np.array_equal(Describer(FakeBackend(), "bgr").describe(frame[..., ::-1]).descriptor, rgb)
    assert np.array_equal(Describer(FakeBackend()).describe(frame[..., ::-1], colour="bgr").descriptor, rgb)
