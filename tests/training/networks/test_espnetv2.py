from __future__ import annotations

import os
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sdk import ContractError, EngineError
from training.labels.label_png import read_label_map
from training.labels.segmentation_network import SegmentationNetwork
from training.networks.espnetv2 import ESPNetv2, adaptive_average, load_espnetv2
from training.networks.espnetv2_export import SegmentationGraph, export_espnetv2

# What the publisher's own code gives (sacmehta/EdgeNets at 2b232d3, `espnetv2_seg`) for weights and image of
# `formula_weights` and `wave`: five elements at equal steps through the logits and the mean of |logits|.
RECORDED = {
    (64, 96): [0.9799, -0.51219, 0.61835, -0.16051, -0.36811, 0.46138],
    (80, 160): [0.92609, -0.57341, 0.55279, -0.04271, -0.35305, 0.45957],
}


def wave(name, shape):
    n = np.arange(int(np.prod(shape)))
    return np.sin(zlib.crc32(name.encode()) % 1000 + 0.7 * n + 0.001 * n**1.5).reshape(shape)


def formula_weights(net):
    """Weights that any machine can make again, of a size that keeps the features in a natural range."""
    weights = {}
    for name, tensor in net.state_dict().items():
        value = wave(name, tuple(tensor.shape))
        if not tensor.is_floating_point():
            weights[name] = tensor
            continue
        if tensor.ndim == 4:
            value = value / np.sqrt(tensor[0].numel())
        elif name.endswith("running_var"):
            value = 1.0 + 0.5 * value
        elif name.endswith("weight") and tensor.ndim == 1:
            value = 0.25 + 0.05 * value if "act" in name else 1.0 + 0.2 * value
        else:
            value = 0.2 * value
        weights[name] = torch.tensor(value, dtype=torch.float32)
    return weights


@pytest.fixture(scope="module")
def weights_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "espnetv2.pth"
    torch.save(formula_weights(ESPNetv2()), path)
    return path


@pytest.fixture(scope="module")
def net(weights_path):
    return load_espnetv2(weights_path)


@pytest.mark.parametrize(("height", "width"), RECORDED)
def test_network_gives_what_its_publishers_code_gives(net, height, width):
    image = torch.tensor(wave("image", (1, 3, height, width)), dtype=torch.float32)
    with torch.no_grad():
        logits = net(image)
    assert logits.shape == (1, 20, height, width)
    flat = logits.ravel()
    row = [*flat[torch.linspace(0, len(flat) - 1, 5).long()].tolist(), flat.abs().mean().item()]
    np.testing.assert_allclose(row, RECORDED[height, width], rtol=1e-3, atol=1e-3)


def test_size_of_the_network():
    assert sum(p.numel() for p in ESPNetv2().parameters()) == 789_242  # 0.79 M, as its publisher counts it
    assert len(ESPNetv2().state_dict()) == 526


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((32, 64), (7, 13)),
        ((48, 96), (32, 64)),
        ((64, 128), (32, 64)),
        ((8, 9), (5, 5)),
        ((10, 6), (10, 3)),
        ((4, 6), (5, 9)),
    ],
)
def test_adaptive_average_is_torchs(size, wanted):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(adaptive_average(x, *wanted), F.adaptive_avg_pool2d(x, wanted), atol=1e-6)


def test_sizes_that_do_not_fit_are_refused(net, weights_path, tmp_path):
    with pytest.raises(ContractError, match="100 x 96 px, expected multiples of 16"):
        net(torch.zeros(1, 3, 100, 96))
    with pytest.raises(ContractError, match="64 x 100 px, expected multiples of 16"):
        export_espnetv2(weights_path, tmp_path / "a.onnx", 64, 100)
    assert list(tmp_path.iterdir()) == []


def test_other_weights_are_refused(tmp_path):
    weights = formula_weights(ESPNetv2())
    path = tmp_path / "w.pth"
    for wrong in (
        {**weights, "more": torch.zeros(1)},
        dict(list(weights.items())[:-1]),
        formula_weights(ESPNetv2(num_classes=21)),
    ):
        torch.save(wrong, path)
        with pytest.raises(ContractError, match=r"w\.pth: .* expected 526; take espnetv2_s_2.0_city_1024x512.pth"):
            load_espnetv2(path)
    path.write_bytes(b"PK")
    with pytest.raises(EngineError, match="damaged"):
        load_espnetv2(path)


def test_exported_network_labels_as_torch_does(net, weights_path, tmp_path):
    path = tmp_path / "espnetv2.onnx"
    export_espnetv2(weights_path, path, 64, 96)
    assert [p.name for p in tmp_path.iterdir()] == ["espnetv2.onnx"]
    network = SegmentationNetwork(path)  # needs no option: label set and preprocessing are in the file
    assert network.label_set.name == "cityscapes19"
    frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    with torch.no_grad():
        logits = SegmentationGraph(net)(torch.from_numpy(frame[np.newaxis]))
        by_hand = (
            torch.from_numpy(frame).permute(2, 0, 1) / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        ) / (torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))
        np.testing.assert_allclose(logits, net(by_hand[np.newaxis])[:, :19], atol=1e-4)
    found = network.segment(frame)
    assert (found.labels == logits[0].argmax(dim=0).numpy()).mean() > 0.999
    assert found.confidence is not None
    sure = logits.softmax(dim=1).amax(dim=1)[0].numpy()
    np.testing.assert_allclose(found.confidence / 255.0, sure, atol=1.01 / 255.0)


# --- on photographs -------------------------------------------------------------------------------------

# Which of CamVid's classes a Cityscapes class is: walls count as building there, terrain as tree, a lorry as car.
TO_CAMVID = np.array([3, 4, 1, 1, 7, 2, 6, 6, 5, 5, 0, 9, 10, 8, 8, 8, 8, 10, 10], np.uint8)


@pytest.mark.skipif("STRUCTVPR_DATA" not in os.environ, reason="STRUCTVPR_DATA does not name a folder of data sets")
def test_public_weights_label_street_photographs(tmp_path):
    """Mean IoU over CamVid's validation images, every 8th; trained on Cityscapes, another camera and other towns.

    All 101 images give 0.54. The floor leaves room for the subset, and is far above a network that is not quite itself.
    """
    data = Path(os.environ["STRUCTVPR_DATA"])
    export_espnetv2(data / "weights" / "espnetv2_s2.0_cityscapes.pth", tmp_path / "espnetv2.onnx")
    network = SegmentationNetwork(tmp_path / "espnetv2.onnx")
    folder = data / "sets" / "camvid_seg11"
    confusion = np.zeros((11, 11), np.int64)
    for image in sorted((folder / "val").iterdir())[::8]:
        truth = read_label_map(folder / "val_labels" / f"{image.stem}.png")
        found = TO_CAMVID[network.segment(cv2.imread(str(image))[..., ::-1]).labels]
        known = truth != 11
        pairs = truth[known].astype(int) * 11 + found[known]
        confusion += np.bincount(pairs, minlength=121).reshape(11, 11)
    right = np.diag(confusion)
    iou = right / (confusion.sum(axis=0) + confusion.sum(axis=1) - right)
    assert iou.mean() > 0.45
    assert iou[[0, 1, 3, 5]].min() > 0.7  # sky, building, road, tree: what a place is made of
    assert right.sum() / confusion.sum() > 0.8
