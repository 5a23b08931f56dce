"""ESPNetv2 (s = 2.0), a segmentation network of 0.8 M parameters for street scenes.

It loads `espnetv2_s_2.0_city_1024x512.pth` (github.com/sacmehta/EdgeNets, MIT) unchanged. The encoder has four levels
(level1 to level4). The decoder (bu_dec) pools each map at five scales.

Source: Mehta et al., ESPNetv2 (CVPR 2019); the decoder is from the authors' repository.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdk import ContractError

from .checkpoint import load_weights

__all__ = ["STRIDE", "ESPNetv2", "adaptive_average", "load_espnetv2"]

CHANNELS = (32, 128, 256, 512)  # of the four levels, s = 2.0
BRANCHES = 4
DECODER = (64, 48, 32)  # channels on the way up
SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)  # of the pooling grids, relative to the map
MIN_GRID = 5  # cells
STRIDE = 16  # of level4, relative to the input


def conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = (kernel - 1) // 2 * dilation
    return nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation, groups, bias=False)


def named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def conv_norm(c_in: int, c_out: int, kernel: int, groups: int = 1) -> nn.Sequential:
    return named(conv=conv(c_in, c_out, kernel, groups=groups), bn=nn.BatchNorm2d(c_out))


def conv_norm_act(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return named(conv=conv(c_in, c_out, kernel, stride, groups), bn=nn.BatchNorm2d(c_out), act=nn.PReLU(c_out))


def norm_act(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))


class EESP(nn.Module):
    """Extremely efficient spatial pyramid: reduce, four dilated depth-wise convolutions, add, merge.

    A branch whose receptive field exceeds `reach` cells uses a plain 3 x 3 convolution instead.

    Source: ESPNetv2, section 3.2 and figure 1.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, reach: int) -> None:
        super().__init__()
        narrow = c_out // BRANCHES
        kernels = sorted(size if size <= reach else 3 for size in (3 + 2 * branch for branch in range(BRANCHES)))
        self.adds = stride == 1 and c_in == c_out
        self.proj_1x1 = conv_norm_act(c_in, narrow, 1, groups=BRANCHES)
        self.spp_dw = nn.ModuleList(
            named(conv=conv(narrow, narrow, 3, stride, groups=narrow, dilation=(size - 1) // 2)) for size in kernels
        )
        self.br_after_cat = named(bn=nn.BatchNorm2d(c_out), act=nn.PReLU(c_out))
        self.conv_1x1_exp = conv_norm(c_out, c_out, 1, groups=BRANCHES)
        self.module_act = nn.PReLU(c_out)  # at stride 2 it is in the weights file but unused

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.proj_1x1(x)  # (N, c_out / 4, h, w)
        branches = [self.spp_dw[0](reduced)]
        for branch in self.spp_dw[1:]:
            branches.append(branches[-1] + branch(reduced))  # hierarchical fusion, against gridding
        y: Tensor = self.conv_1x1_exp(self.br_after_cat(torch.cat(branches, dim=1)))  # (N, c_out, h / stride, …)
        return self.module_act(x + y) if self.adds else y


class DownSampler(nn.Module):
    """Halve the size: average pooling and an EESP, concatenated, plus a projection of the image.

    Source: ESPNetv2, section 3.3 and figure 2.
    """

    def __init__(self, c_in: int, c_out: int, reach: int) -> None:
        super().__init__()
        self.eesp = EESP(c_in, c_out - c_in, 2, reach)
        self.inp_reinf = nn.Sequential(conv_norm_act(3, 3, 3), conv_norm(3, c_out, 1))
        self.act = nn.PReLU(c_out)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        y = torch.cat([halve(x), self.eesp(x)], dim=1)  # (N, c_out, h/2, w/2)
        activated: Tensor = self.act(y + self.inp_reinf(image))
        return activated


def halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, kernel_size=3, stride=2, padding=1)  # (N, C, h/2, w/2)


class Encoder(nn.Module):
    """The first four of the five levels of the classification network."""

    def __init__(self) -> None:
        super().__init__()
        c1, c2, c3, c4 = CHANNELS
        self.level1 = conv_norm_act(3, c1, 3, stride=2)
        self.level2_0 = DownSampler(c1, c2, reach=13)
        self.level3_0 = DownSampler(c2, c3, reach=11)
        self.level3 = nn.Sequential(*(EESP(c3, c3, 1, reach=9) for _ in range(3)))
        self.level4_0 = DownSampler(c3, c4, reach=9)
        self.level4 = nn.Sequential(*(EESP(c4, c4, 1, reach=7) for _ in range(7)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        quarter = halve(halve(image))  # (N, 3, h/4, w/4)
        eighth = halve(quarter)
        x1 = self.level1(image)  # (N, 32, h/2, w/2)
        x2 = self.level2_0(x1, quarter)  # (N, 128, h/4, w/4)
        x3 = self.level3(self.level3_0(x2, eighth))  # (N, 256, h/8, w/8)
        x4 = self.level4(self.level4_0(x3, halve(eighth)))  # (N, 512, h/16, w/16)
        return x1, x2, x3, x4


def adaptive_average(x: Tensor, height: int, width: int) -> Tensor:
    """`torch.nn.functional.adaptive_avg_pool2d` in ONNX operators, for any fixed sizes.

    Output row i is the mean of the input rows from floor(i h / height) to ceil((i + 1) h / height).

    Args:
        x: float32 (N, C, h, w).
        height, width: of the result.

    Returns:
        float32 (N, C, height, width).
    """
    # int(): a tracing exporter must record numbers here, not shape arithmetic.
    h, w = int(x.shape[2]), int(x.shape[3])
    if h % height == w % width == 0:
        return F.avg_pool2d(x, (h // height, w // width))  # (N, C, height, width)
    rows, columns = windows(h, height), windows(w, width)
    row_sizes, column_sizes = ({end - start for start, end in axis} for axis in (rows, columns))
    if len(row_sizes) == len(column_sizes) == 1:  # windows of one size; steps may differ
        x = F.avg_pool2d(x, (row_sizes.pop(), column_sizes.pop()), stride=1)
        x = x[:, :, torch.tensor([start for start, _ in rows])]  # (N, C, height, …)
        return x[:, :, :, torch.tensor([start for start, _ in columns])]  # (N, C, height, width)
    over_rows, over_columns = averaging(rows, x), averaging(columns, x)
    return over_rows @ x @ over_columns.T  # (height, h) @ (N, C, h, w) @ (w, width)


def windows(size: int, count: int) -> list[tuple[int, int]]:
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def averaging(axis: list[tuple[int, int]], like: Tensor) -> Tensor:
    matrix = like.new_zeros(len(axis), axis[-1][1])
    for i, (start, end) in enumerate(axis):
        matrix[i, start:end] = 1.0 / (end - start)
    return matrix  # (out, in)


class PyramidPool(nn.Module):
    """Efficient pyramid pooling: depth-wise convolutions at five scales of the map, merged.

    Source: EdgeNets, "EfficientPyrPool".
    """

    def __init__(self, c_in: int, narrow: int, c_out: int, last: bool = False) -> None:
        super().__init__()
        wide = narrow * len(SCALES)
        self.narrow = narrow
        self.projection_layer = named(cbr=nn.Sequential(conv(c_in, narrow, 1), *norm_act(narrow)))
        self.stages = nn.ModuleList(conv(narrow, narrow, 3, groups=narrow) for _ in SCALES)
        merged = named(cbr=nn.Sequential(conv(wide, narrow, 3, groups=narrow), *norm_act(narrow)))
        shuffle = nn.Unflatten(1, (len(SCALES), narrow))  # (N, 5 narrow, h, w) -> (N, 5, narrow, h, w)
        self.merge_layer = nn.Sequential(
            named(br=norm_act(wide)), shuffle, merged, nn.Conv2d(narrow, c_out, 1, bias=last)
        )
        self.br = named(br=norm_act(c_out)) if not last else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.projection_layer(x)  # (N, narrow, h, w)
        height, width = int(x.shape[2]), int(x.shape[3])
        seen = []
        for scale, stage in zip(SCALES, self.stages, strict=True):
            grid = (max(MIN_GRID, math.ceil(height * scale)), max(MIN_GRID, math.ceil(width * scale)))
            if scale < 1.0:
                y = enlarge(stage(adaptive_average(x, *grid)), height, width)
            elif scale > 1.0:
                y = adaptive_average(stage(enlarge(x, *grid)), height, width)
            else:
                y = stage(x)
            seen.append(y)
        norm, shuffle, merged, expand = self.merge_layer
        y = shuffle(norm(torch.cat(seen, dim=1)))  # (N, 5, narrow, h, w)
        # Put the five scales of a channel next to each other, for the grouped convolution.
        y = y.transpose(1, 2).reshape(-1, len(SCALES) * self.narrow, height, width)
        pooled: Tensor = self.br(expand(merged(y)))  # (N, c_out, h, w)
        return pooled


def enlarge(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=True)


class Lateral(nn.Module):
    """Lateral connection from encoder to decoder: fewer channels, each weighted by a global average.

    Source: EdgeNets, "EfficientPWConv".
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.wt_layer = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c_in, c_out, 1, bias=False), nn.Sigmoid())
        groups = math.gcd(c_in, c_out)
        self.expansion_layer = named(cbr=nn.Sequential(conv(c_in, c_out, 3, groups=groups), *norm_act(c_out)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.expansion_layer(x) * self.wt_layer(x)  # (N, c_out, h, w)
        return y


class ESPNetv2(nn.Module):
    """ESPNetv2 with s = 2.0 and its segmentation decoder.

    Args:
        num_classes: channels of the logits; the Cityscapes weights have 20: 19 train ids, then void.

    Source: Mehta et al., ESPNetv2 (CVPR 2019).
    """

    def __init__(self, num_classes: int = 20) -> None:
        super().__init__()
        d2, d3, d4 = DECODER
        c1, c2, c3, c4 = CHANNELS
        narrow = min(num_classes // 2, 16)
        self.base_net = Encoder()
        self.bu_dec_l1 = PyramidPool(c4, narrow, d2)
        self.bu_dec_l2 = PyramidPool(d2, narrow, d3)
        self.bu_dec_l3 = PyramidPool(d3, narrow, d4)
        self.bu_dec_l4 = PyramidPool(d4, narrow, num_classes, last=True)
        self.merge_enc_dec_l2 = Lateral(c3, d2)
        self.merge_enc_dec_l3 = Lateral(c2, d3)
        self.merge_enc_dec_l4 = Lateral(c1, d4)
        self.bu_br_l2, self.bu_br_l3, self.bu_br_l4 = norm_act(d2), norm_act(d3), norm_act(d4)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits of a batch.

        Args:
            image: float32 (N, 3, h, w), RGB, normalised by ImageNet's mean and std; h and w multiples of 16.

        Returns:
            float32 (N, num_classes, h, w).

        Raises:
            ContractError: h or w is not a multiple of 16.
        """
        height, width = int(image.shape[2]), int(image.shape[3])
        if height % STRIDE or width % STRIDE:
            raise ContractError(f"the input is {height} x {width} px, expected multiples of {STRIDE}")
        x1, x2, x3, x4 = self.base_net(image)
        y = self.bu_dec_l1(x4)  # (N, 64, h/16, w/16)
        y = self.bu_dec_l2(self.bu_br_l2(self.merge_enc_dec_l2(x3) + double(y)))  # (N, 48, h/8, w/8)
        y = self.bu_dec_l3(self.bu_br_l3(self.merge_enc_dec_l3(x2) + double(y)))  # (N, 32, h/4, w/4)
        y = self.bu_dec_l4(self.bu_br_l4(self.merge_enc_dec_l4(x1) + double(y)))  # (N, num_classes, h/2, w/2)
        return double(y)  # (N, num_classes, h, w)


def double(x: Tensor) -> Tensor:
    return enlarge(x, 2 * int(x.shape[2]), 2 * int(x.shape[3]))


def load_espnetv2(path: str | Path) -> ESPNetv2:
    """Load the network with its public Cityscapes weights, in evaluation mode.

    Raises:
        EngineError: the file is missing or holds no weights.
        ContractError: the weights belong to another network.
    """
    weights = load_weights(path)
    net = ESPNetv2()
    try:
        net.load_state_dict(weights)
    except RuntimeError:
        raise ContractError(
            f"{path}: its {len(weights)} names and shapes are not those of ESPNetv2 s = 2.0 for Cityscapes, expected "
            f"{len(net.state_dict())}; take espnetv2_s_2.0_city_1024x512.pth of github.com/sacmehta/EdgeNets"
        ) from None
    net.eval()
    return net
