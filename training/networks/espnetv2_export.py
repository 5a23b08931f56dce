"""Export ESPNetv2 to ONNX, with the preprocessing inside and the logits of the 19 Cityscapes classes as output."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from sdk import ContractError
from sdk.atomic_file import replace_when_done

from ..labels.label_sets import LABEL_SETS
from .descriptor_net import normalize_pixels
from .espnetv2 import STRIDE, ESPNetv2, load_espnetv2

__all__ = ["SegmentationGraph", "export_espnetv2"]

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, pixel values, RGB
# Of the input, px. The public weights were trained at 512 x 1024. On 4:3 photographs this size is better (40 of CamVid:
# mean IoU 53.7 % against 50.5 %) and takes less than half the time.
HEIGHT, WIDTH = 384, 512
OPSET = 17


class SegmentationGraph(nn.Module):
    """The network with its preprocessing and without the logit of void, for `structvpr train labels`.

    Label maps for training need one of the 19 classes at every pixel.
    """

    def __init__(self, net: ESPNetv2) -> None:
        super().__init__()
        self.net = net

    def forward(self, frame: Tensor) -> Tensor:
        """Logits, float32 (1, 19, h, w), of a frame, uint8 (1, h, w, 3) RGB."""
        logits: Tensor = self.net(normalize_pixels(frame, MEAN, STD))  # (1, 3, h, w) -> (1, 20, h, w)
        return logits[:, : len(LABEL_SETS["cityscapes19"].classes)]  # (1, 19, h, w)


def export_espnetv2(weights: str | Path, onnx_path: str | Path, height: int = HEIGHT, width: int = WIDTH) -> None:
    """Write an ONNX file that `structvpr train labels` runs without further options.

    Args:
        weights: `espnetv2_s_2.0_city_1024x512.pth`.
        onnx_path: the file to write; an existing one is replaced atomically.
        height, width: of the input, px, multiples of 16.

    Raises:
        EngineError: a file cannot be read or written.
        ContractError: the weights belong to another network, or a side is not a multiple of 16.
    """
    if min(height, width) < STRIDE or height % STRIDE or width % STRIDE:
        raise ContractError(f"the input is {height} x {width} px, expected multiples of {STRIDE}")
    graph = SegmentationGraph(load_espnetv2(weights)).eval()
    import onnx

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The deprecated TorchScript exporter writes opset 17, which older runtimes can read.
        warnings.simplefilter("ignore")
        path = Path(folder) / "plain.onnx"
        torch.onnx.export(
            graph,
            (torch.zeros((1, height, width, 3), dtype=torch.uint8),),
            str(path),
            input_names=["frame"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=False,
        )
        model = onnx.load(path)
    onnx.helper.set_model_props(model, {"segmentation": json.dumps({"label_set": "cityscapes19", "colour": "rgb"})})
    with replace_when_done(onnx_path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
