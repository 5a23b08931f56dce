"""A world of held-out places that only a trained network recognises, and a network small enough to be trained on it.

An image is a checkerboard of two colours. The blue of both says which place it is; their red and green are drawn anew
for each view. An untrained network follows all three; one that learnt follows blue, on places it never saw too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.datasets.training_set import TrainingSet, set_from_places
from training.networks.backbones import Backbone

PLACES, VIEWS, SIDE, CHANNELS = 40, 3, 32, 16


class HiddenColours:
    """Inputs without files: float32 (PLACES * VIEWS, 3, SIDE, SIDE)."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        misleading = rng.uniform(-1.0, 1.0, (PLACES * VIEWS, 2, 2))  # image, red and green, cell
        true = np.repeat(rng.uniform(-1.0, 1.0, (PLACES, 1, 2)), VIEWS, axis=0)
        colours = np.concatenate([misleading, true], axis=1)[..., None, None]  # (n, 3, 2, 1, 1)
        row, column = np.mgrid[:SIDE, :SIDE] // 8
        images = np.where((row + column) % 2, colours[:, :, 0], colours[:, :, 1])  # (n, 3, h, w)
        self.images = torch.from_numpy((images + 0.05 * rng.normal(size=images.shape)).astype(np.float32))

    def batch(self, indices: np.ndarray, generator: torch.Generator | None) -> Tensor:
        x = self.images[torch.from_numpy(indices)]
        return x if generator is None else x + 0.05 * torch.randn(x.shape, generator=generator)


class ThreeLayers(Backbone):
    """Three convolutions, each of them a tap."""

    name = "three_layers"
    taps, tap_channels, tap_strides = (0, 1, 2), (CHANNELS,) * 3, (2, 2, 2)
    mean, std, head_keys = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), ()

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        layers = [nn.Conv2d(in_channels, CHANNELS, 2, stride=2), *(nn.Conv2d(CHANNELS, CHANNELS, 1) for _ in range(2))]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.layers:
            x = layer(x).relu()
            maps.append(x)
        return maps


def places() -> TrainingSet:
    """Which images of `HiddenColours` show the same place."""
    count = PLACES * VIEWS
    return set_from_places("hidden colours", [Path(f"{i}.png") for i in range(count)], np.arange(count) // VIEWS)
