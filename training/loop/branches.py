"""The two branches before training: initial weights, frozen blocks, learning rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdk import UsageError

from ..inputs.batches import BranchSet
from ..labels.label_sets import CLUSTERS
from ..networks.descriptor_net import DescriptorNet, pretrained_net
from ..networks.heads import fit_grid_head
from .describing import BATCH

__all__ = [
    "freeze",
    "hold_frozen",
    "make_rgb_branch",
    "make_seg_branch",
    "start_head",
    "trainable_groups",
    "trunk_stages",
]

HEAD_IMAGES = 6000

# Colours of ADE20K's first six classes. The authors' poster draws the six clusters in them.
CLUSTER_COLOURS = ((120, 120, 120), (180, 120, 120), (6, 230, 230), (80, 50, 50), (4, 200, 3), (120, 120, 80))


def make_rgb_branch(backbone: str, weights: Mapping[str, Tensor], head: str = "gem") -> DescriptorNet:
    """The student: a trunk with ImageNet weights and an unfitted head; see `start_head`."""
    return pretrained_net(backbone, weights, head)


def start_head(net: DescriptorNet, seen: BranchSet, seed: int, images: int = HEAD_IMAGES) -> None:
    """Fit the initial projections of a branch's head to features of training images; changes `net`.

    Args:
        net: on the device of the inputs, with the head "grid".
        seen: the training set.
        seed: of the choice of images.
        images: about how many to use: queries, each with a positive.

    Raises:
        UsageError: the branch has another head.
    """
    if net.head is None:
        raise UsageError(f"the branch has the head {net.head_name!r}, expected 'grid'; only that one is fitted")
    data = seen.data
    rng = np.random.default_rng([seed, 0x4EAD])
    chosen = rng.permutation(len(data.queries))[: images // 2]
    positives = np.array([rng.choice(data.positives[i]) for i in chosen], np.int64)
    number = np.full(len(data.images), -1, np.int64)
    for query, positive in zip(data.queries[chosen], positives, strict=True):
        # An image may be a query and a positive. It keeps its first number, so that places stay together.
        if number[positive] < 0:
            number[positive] = number[query] if number[query] >= 0 else positive
        if number[query] < 0:
            number[query] = number[positive]
    wanted = np.unique(np.concatenate([data.queries[chosen], positives]))

    def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for first in range(0, len(wanted), BATCH):
            part = wanted[first : first + BATCH]
            x = seen.inputs.batch(part, None).contiguous(memory_format=torch.channels_last)
            yield *net.features(x), torch.from_numpy(number[part])

    fit_grid_head(net.head, batches())


def make_seg_branch(backbone: str, weights: Mapping[str, Tensor], class_weights: tuple[float, ...]) -> DescriptorNet:
    """The teacher: the same network for six channels, with ImageNet weights.

    A palette is folded into ImageNet's first convolution: a cluster acts as a pixel of its colour does on the RGB
    network, whatever its class weight. Void acts as the mean colour. So the pretrained edge filters respond to edges
    between clusters. Reconstruction: the paper does not say how its branch starts.

    Args:
        backbone: a name in `BACKBONES`.
        weights: its public ImageNet weights.
        class_weights: those of `encode_label_map`.
    """
    rgb = pretrained_net(backbone, weights)
    net = DescriptorNet(backbone, in_channels=len(CLUSTERS))
    mean, std = np.array(rgb.backbone.mean), np.array(rgb.backbone.std)
    palette = torch.from_numpy((np.array(CLUSTER_COLOURS) - mean) / std).float()  # (6, 3)
    scale = torch.tensor([1.0 / w if w > 0.0 else 0.0 for w in class_weights])[:, None]  # (6, 1)
    first = next(name for name, _ in rgb.backbone.named_parameters())
    state = dict(rgb.state_dict())
    # (out, 3, k, k) -> (out, 6, k, k)
    state[f"backbone.{first}"] = torch.einsum("orij,cr->ocij", state[f"backbone.{first}"], palette * scale)
    net.load_state_dict(state)
    return net


def freeze(net: DescriptorNet, blocks: int) -> None:
    """Exclude the stem and the first blocks of a trunk from training. 0 trains everything.

    Raises:
        UsageError: the trunk has no more blocks than that.
    """
    stages = trunk_stages(net)
    if blocks >= len(stages):
        raise UsageError(f"{blocks} frozen blocks, expected fewer than the trunk's {len(stages)}; lower frozen_blocks")
    if blocks == 0:
        return
    for module in stages[: blocks + 1]:
        for parameter in module.parameters():
            parameter.requires_grad_(False)


def hold_frozen(net: DescriptorNet) -> None:
    """Put frozen stages into evaluation mode: their batch-norm statistics stay fixed while the rest trains."""
    for stage in trunk_stages(net):
        if not any(parameter.requires_grad for parameter in stage.parameters()):
            stage.eval()


def trunk_stages(net: DescriptorNet) -> list[nn.Module]:
    """The stem as one stage, then each block."""
    children = dict(net.backbone.named_children())
    blocks = next(child for child in children.values() if isinstance(child, (nn.ModuleList, nn.Sequential)))
    stem = [child for child in children.values() if child is not blocks]
    if stem:
        return [nn.ModuleList(stem), *blocks]
    return list(blocks)  # MobileNetV2's stem is the first of its features


def trainable_groups(
    module: nn.Module, lr: float, weight_decay: float, projection_factor: float
) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser. Norms, biases and exponents have no decay; the projection has its own rate.

    Args:
        module: a `training.objective.distillation.Branch`.
        lr: learning rate of all but the projection.
        weight_decay: of matrices and convolutions.
        projection_factor: the projection's learning rate, as a multiple of `lr`.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("projection."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": lr * (projection_factor if projects else 1.0),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (projects, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
