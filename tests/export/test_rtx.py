"""NVIDIA's own parser and compiler take the exported model: built by TensorRT-RTX, which needs no GPU.

    pip install tensorrt-rtx-cu13==1.7.1.116
    STRUCTVPR_REQUIRE_RTX=1 pytest tests/export/test_rtx.py      a missing package is a failure

A pass does not prove that TensorRT 8.5 or 10.3 takes the model; test_to_onnx.py checks their rules statically.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "models" / "efficientnet-lite0-gem.onnx"


@pytest.fixture(scope="module")
def trt():
    try:
        return importlib.import_module("tensorrt_rtx")
    except ImportError as error:
        if os.environ.get("STRUCTVPR_REQUIRE_RTX") == "1":
            pytest.fail(f"STRUCTVPR_REQUIRE_RTX=1, but tensorrt_rtx cannot be imported: {error}")
        pytest.skip("tensorrt_rtx is not installed: pip install tensorrt-rtx-cu13==1.7.1.116")


def parse(trt, data):
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    accepted = parser.parse(data)
    errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
    return accepted, errors, builder, network


@pytest.mark.parametrize("capability", ["SM86", "SM89", "SM120"])
def test_model_is_parsed_and_built(trt, capability):
    accepted, errors, builder, network = parse(trt, MODEL.read_bytes())
    assert accepted, errors
    assert errors == []
    frame, raw = network.get_input(0), network.get_output(0)
    assert (network.num_inputs, network.num_outputs) == (1, 1)
    assert (frame.name, frame.dtype, tuple(frame.shape)) == ("frame", trt.DataType.UINT8, (1, 240, 320, 3))
    assert (raw.name, raw.dtype, tuple(raw.shape)) == ("raw_descriptor", trt.DataType.FLOAT, (1, 472))

    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    assert engine.nbytes > MODEL.stat().st_size / 2  # the weights are in it


def test_a_damaged_model_is_refused(trt):
    data = MODEL.read_bytes()
    accepted, _, _, _ = parse(trt, data[: len(data) // 2])
    assert not accepted
