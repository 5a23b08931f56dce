"""The two branches: what each is fed with, how its trunk starts, and how it describes a set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sdk import ContractError, EngineError

from ..datasets.training_set import TrainingSet
from ..inputs.augmentation import augment
from ..inputs.image_store import FrameStore, LabelStore
from ..labels.label_sets import CLUSTERS
from ..labels.segmentation import encode_label_map
from ..networks.descriptor_net import DescriptorNet, l2_normalize, normalize_pixels, pretrained_net
from ..networks.heads import fit_grid_head

__all__ = [
    "FrameInputs",
    "Inputs",
    "LabelInputs",
    "describe",
    "freeze",
    "hold_frozen",
    "make_rgb_branch",
    "make_seg_branch",
    "start_head",
    "trainable_groups",
    "trunk_stages",
]

Indices = npt.NDArray[np.int64]
BATCH = 64
HEAD_IMAGES = 6000

# Colours of ADE20K's first six classes, with which the authors draw their six clusters (poster).
CLUSTER_COLOURS = ((120, 120, 120), (180, 120, 120), (6, 230, 230), (80, 50, 50), (4, 200, 3), (120, 120, 80))


class Inputs(Protocol):
    """Makes a branch's input from numbers of images."""

    def batch(self, indices: Indices, generator: torch.Generator | None) -> Tensor:
        """float32 (n, C, h, w), normalised; changed by chance if there is a generator."""
        ...


class FrameInputs:
    """Frames for the RGB branch.

    Args:
        store: the frames.
        net: the branch, whose trunk says mean and std.
        augmentation, crop: see `augment`.
        device: where batches are wanted.
    """

    def __init__(
        self, store: FrameStore, net: DescriptorNet, augmentation: float, crop: float, device: torch.device
    ) -> None:
        self._store, self._augmentation, self._crop, self._device = store, augmentation, crop, device
        self._mean, self._std = net.backbone.mean, net.backbone.std

    def batch(self, indices: Indices, generator: torch.Generator | None) -> Tensor:
        frames = torch.from_numpy(self._store.read(indices)).to(self._device)  # (n, h, w, 3)
        if generator is not None:
            pixels = frames.permute(0, 3, 1, 2).float()  # (n, 3, h, w)
            frames = augment(pixels, self._augmentation, self._crop, generator).permute(0, 2, 3, 1)  # (n, h, w, 3)
        return normalize_pixels(frames, self._mean, self._std)  # (n, 3, h, w)


class LabelInputs:
    """Label maps for the segmentation branch. They are never changed: the teacher sees what is there.

    Args:
        store: the label maps.
        class_weights: see `encode_label_map`.
        device: where batches are wanted.
    """

    def __init__(self, store: LabelStore, class_weights: tuple[float, ...], device: torch.device) -> None:
        self._store, self._weights, self._device = store, class_weights, device

    def batch(self, indices: Indices, generator: torch.Generator | None) -> Tensor:
        clusters = torch.from_numpy(self._store.read(indices)).to(self._device)  # (n, h, w)
        return encode_label_map(clusters, self._weights)  # (n, 6, h, w)


def make_rgb_branch(backbone: str, weights: Mapping[str, Tensor], head: str = "gem") -> DescriptorNet:
    """The student: a trunk with ImageNet weights, and a head at its start; see `start_head`."""
    return pretrained_net(backbone, weights, head)


def start_head(net: DescriptorNet, data: TrainingSet, inputs: Inputs, seed: int, images: int = HEAD_IMAGES) -> None:
    """Start the projections of a branch's head from its features of training images; changed in place.

    Args:
        net: on the device of `inputs`, with the head "grid".
        data: the training set.
        inputs: its inputs for this branch.
        seed: of the choice of images.
        images: about how many to look at: queries, each with a positive.
    """
    if net.head is None:
        raise ContractError(f"a branch with the head {net.head_name!r} found, expected 'grid'; the other has no start")
    rng = np.random.default_rng([seed, 0x4EAD])
    chosen = rng.permutation(len(data.queries))[: images // 2]
    positives = np.array([rng.choice(data.positives[i]) for i in chosen], np.int64)
    number = np.full(len(data.images), -1, np.int64)
    for query, positive in zip(data.queries[chosen], positives, strict=True):
        # An image may ask and be asked for: it keeps its first place, so that places stay together.
        if number[positive] < 0:
            number[positive] = number[query] if number[query] >= 0 else positive
        if number[query] < 0:
            number[query] = number[positive]
    wanted = np.unique(np.concatenate([data.queries[chosen], positives]))

    def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for first in range(0, len(wanted), BATCH):
            part = wanted[first : first + BATCH]
            x = inputs.batch(part, None).contiguous(memory_format=torch.channels_last)
            yield *net.features(x), torch.from_numpy(number[part])

    fit_grid_head(net.head, batches())


def make_seg_branch(backbone: str, weights: Mapping[str, Tensor], class_weights: tuple[float, ...]) -> DescriptorNet:
    """The teacher: the same network for six channels, with ImageNet weights.

    Its first convolution starts as ImageNet's behind a palette: each cluster acts as a pixel of the cluster's colour
    would on the RGB network, whatever the class weights, and void as a pixel of the mean colour. Edges between
    clusters so start as edges (reconstruction; the paper does not say how its branch starts).

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
    """Keep the stem and the first blocks of a trunk as they are. 0 trains everything.

    Raises:
        ContractError: the trunk has no more blocks than that.
    """
    stages = trunk_stages(net)
    if blocks >= len(stages):
        raise ContractError(
            f"{blocks} frozen blocks, expected fewer than the trunk's {len(stages)}; lower frozen_blocks"
        )
    if blocks == 0:
        return
    for module in stages[: blocks + 1]:
        for parameter in module.parameters():
            parameter.requires_grad_(False)


def hold_frozen(net: DescriptorNet) -> None:
    """Keep the batch-norm statistics of frozen stages too, whatever the mode of the rest."""
    for stage in trunk_stages(net):
        if not any(parameter.requires_grad for parameter in stage.parameters()):
            stage.eval()


def trunk_stages(net: DescriptorNet) -> list[nn.Module]:
    """The stem (as one), then the blocks."""
    children = dict(net.backbone.named_children())
    blocks = next(child for child in children.values() if isinstance(child, (nn.ModuleList, nn.Sequential)))
    stem = [child for child in children.values() if child is not blocks]
    if stem:
        return [nn.ModuleList(stem), *blocks]
    return list(blocks)  # MobileNetV2's stem is the first of its features


def describe(
    net: DescriptorNet,
    inputs: Inputs,
    indices: Indices,
    *,
    precision: torch.dtype = torch.float32,
    progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Descriptors of images, in evaluation mode.

    Args:
        net: a branch. Its mode is put back.
        inputs: makes its input.
        indices: int64 (n,).
        precision: of the arithmetic, see `Recipe`.
        progress: told (done, total).

    Returns:
        float32 (n, D), unit rows.

    Raises:
        EngineError: a descriptor is not finite.
    """
    was_training = net.training
    net.eval()
    rows: list[npt.NDArray[np.float32]] = []
    try:
        with torch.inference_mode():
            for first in range(0, len(indices), BATCH):
                x = inputs.batch(indices[first : first + BATCH], None).contiguous(memory_format=torch.channels_last)
                with torch.autocast(x.device.type, precision, enabled=precision != torch.float32):
                    raw = net(x)
                rows.append(l2_normalize(raw.float()).cpu().numpy())
                if progress is not None:
                    progress(min(first + BATCH, len(indices)), len(indices))
    finally:
        net.train(was_training)
    if not rows:
        return np.zeros((0, net.descriptor_dim), np.float32)
    found = np.concatenate(rows)
    if not np.isfinite(found).all():
        # A row of NaN is more similar to nothing, and would so be counted as found.
        raise EngineError(
            "a branch gives descriptors that are not finite, expected numbers; lower lr, or use another precision"
        )
    return found


def trainable_groups(module: nn.Module, lr: float, weight_decay: float, fresh_factor: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: no decay for norms, biases and exponents; a larger rate for what is fresh.

    Args:
        module: a `training.loop.train.Branch`; what its `projection` holds is fresh.
        lr: of the rest.
        weight_decay: of matrices and convolutions.
        fresh_factor: times `lr` for what is fresh.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("projection."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": lr * (fresh_factor if fresh else 1.0),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (fresh, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
