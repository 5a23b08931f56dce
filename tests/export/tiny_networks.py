"""A network of a few kilobytes with a contract, ways to break it, and pictures to show it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sdk import ModelContract

HEIGHT, WIDTH, CHANNELS = 48, 64, 16
DIM = 4 * CHANNELS


def contract(**changes) -> ModelContract:
    values = {
        "name": "tiny",
        "weights": "a" * 64,
        "height": HEIGHT,
        "width": WIDTH,
        "descriptor_dim": DIM,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
    }
    return ModelContract(**{**values, **changes})


def network(seed: int = 0) -> onnx.ModelProto:
    """Convolution, ReLU, a 2 x 2 grid of means: uint8 (1, 48, 64, 3) to float32 (1, 64)."""
    kernel = np.random.default_rng(seed).normal(0, 0.01, (CHANNELS, 3, 5, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["frame"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["maps"], strides=[2, 2], pads=[2, 2, 2, 2]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("AveragePool", ["active"], ["grid"], kernel_shape=[12, 16], strides=[12, 16]),
        helper.make_node("Reshape", ["grid", "flat"], ["raw_descriptor"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info("raw_descriptor", TensorProto.FLOAT, [1, DIM])],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(np.array([1, DIM], np.int64), "flat"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save(path: Path, model: onnx.ModelProto, **changes) -> Path:
    """Write a model with the tiny network's contract, some of it changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    helper.set_model_props(copy, {"contract": contract(**changes).to_json()})
    path.write_bytes(copy.SerializeToString())
    return path


def change_weights(
    model: onnx.ModelProto, change: Callable[[np.ndarray], np.ndarray], min_dims: int = 4
) -> onnx.ModelProto:
    """The same graph, each of its kernels changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if len(tensor.dims) >= min_dims:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(change(values).astype(values.dtype), tensor.name))
    return copy


def rounded(kernel: np.ndarray, bits: int) -> np.ndarray:
    """A kernel of so many bits, one step for all of it."""
    step = np.abs(kernel).max() / (2 ** (bits - 1) - 1)
    return np.round(kernel / step) * step


def ended_by(model: onnx.ModelProto, operator: str, constant: np.ndarray) -> onnx.ModelProto:
    """The same graph with one more node before its output: operator(descriptor, constant)."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    before, last = f"before {operator}", f"{operator} by"
    copy.graph.node[-1].output[0] = before
    copy.graph.initializer.append(numpy_helper.from_array(constant.astype(np.float32), last))
    copy.graph.node.append(helper.make_node(operator, [before, last], ["raw_descriptor"]))
    return copy


def picture(seed: int) -> np.ndarray:
    """uint8 (96, 128, 3): coloured blobs that depend on the seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (128, 96), interpolation=cv2.INTER_CUBIC)


def write_pictures(folder: Path, names: list[str], first_seed: int = 0, noise: float = 0.0) -> list[Path]:
    """One picture a name; with noise it shows the place of its seed again, a little different."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(first_seed + 1000)
    for seed, name in enumerate(names, start=first_seed):
        frame = picture(seed) + noise * rng.standard_normal((96, 128, 3))
        assert cv2.imwrite(str(folder / name), np.clip(frame, 0, 255).astype(np.uint8))
    return [folder / name for name in names]
