"""Input batches: frames for the RGB branch, label maps for the segmentation branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sdk.arrays import Indices

from ..datasets.training_set import TrainingSet
from ..labels.segmentation import encode_label_map
from ..networks.descriptor_net import DescriptorNet, normalize_pixels
from ..recipe import Recipe
from .augmentation import augment
from .image_store import FrameStore, LabelStore
from .material import Material

__all__ = ["BranchSet", "FrameInputs", "Inputs", "LabelInputs", "rgb_set", "seg_set"]


class Inputs(Protocol):
    """Makes a branch's input from image numbers."""

    def batch(self, indices: Indices, generator: torch.Generator | None) -> Tensor:
        """float32 (n, C, h, w), normalised; augmented if there is a generator."""
        ...


class FrameInputs:
    """Frames for the RGB branch.

    Args:
        store: the frames.
        net: the branch; its trunk gives mean and std.
        augmentation, crop: see `augment`.
        device: of the batches.
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
    """Label maps for the segmentation branch, without augmentation.

    Args:
        store: the label maps.
        class_weights: see `encode_label_map`.
        device: of the batches.
    """

    def __init__(self, store: LabelStore, class_weights: tuple[float, ...], device: torch.device) -> None:
        self._store, self._weights, self._device = store, class_weights, device

    def batch(self, indices: Indices, generator: torch.Generator | None) -> Tensor:
        clusters = torch.from_numpy(self._store.read(indices)).to(self._device)  # (n, h, w)
        return encode_label_map(clusters, self._weights)  # (n, 6, h, w)


@dataclass(frozen=True)
class BranchSet:
    """A data set with the inputs of one branch.

    Attributes:
        data: which images show the same place.
        inputs: makes the branch's input from image numbers.
    """

    data: TrainingSet
    inputs: Inputs


def rgb_set(material: Material, net: DescriptorNet, recipe: Recipe, device: torch.device) -> BranchSet:
    """A set with frames as inputs."""
    return BranchSet(material.data, FrameInputs(material.frames, net, recipe.augmentation, recipe.crop, device))


def seg_set(material: Material, recipe: Recipe, device: torch.device) -> BranchSet:
    """A set with label maps as inputs."""
    return BranchSet(material.data, LabelInputs(material.label_store(), recipe.class_weights, device))
