"""Augmentation: photometric changes for night, season and exposure, and a crop for viewpoint."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["augment"]

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
NIGHT_SHARE = 0.25  # of the frames, at strength 1
NOISE_LEVELS = 12.0  # of 255, maximum


def augment(pixels: Tensor, strength: float, crop: float, generator: torch.Generator) -> Tensor:
    """Augment each frame of a batch at random.

    In this order: crop and resize; white balance, saturation, contrast and gamma; haze; night (dark and grey) for some
    frames; exposure; blur; noise. Each frame draws its own values.

    Args:
        pixels: float32 (N, 3, h, w), RGB, 0 to 255.
        strength: of the photometric changes, 0 for none, 1 for the full range of seasons and night.
        crop: largest share of each side that is cut away, [0, 0.5).
        generator: on the CPU, so that a seed draws the same values on every device.

    Returns:
        float32 (N, 3, h, w), 0 to 255.
    """
    n = len(pixels)

    def draw(low: float, high: float) -> Tensor:
        values = torch.rand((n, 1, 1, 1), generator=generator) * (high - low) + low
        return values.to(pixels.device)  # (N, 1, 1, 1)

    if crop > 0.0:
        pixels = _crop(pixels, crop, generator)
    if strength <= 0.0:
        return pixels
    s = strength
    x = pixels / 255.0
    balance = torch.rand((n, 3, 1, 1), generator=generator).to(x.device) * 2.0 - 1.0
    x = x * (1.0 + 0.25 * s * balance)
    grey = (x * x.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)  # (N, 1, h, w)
    x = grey + (x - grey) * draw(1.0 - s, 1.0 + 0.5 * s).clamp(min=0.0)
    x = 0.5 + (x - 0.5) * draw(1.0 - 0.5 * s, 1.0 + 0.5 * s)
    x = x.clamp(0.0, 1.0) ** (2.0 ** draw(-0.8 * s, 0.8 * s))
    # Haze whitens distant parts, which are in the upper half on a road.
    depth = torch.linspace(1.0, 0.2, x.shape[2], device=x.device)[:, None]  # (h, 1)
    haze = depth * draw(-0.5 * s, 0.5 * s).clamp(min=0.0)
    x = x + (0.8 - x) * haze
    night = (draw(0.0, 1.0) < NIGHT_SHARE * min(s, 1.0)).float()
    dark = x.mean(dim=1, keepdim=True) ** draw(1.2, 2.5) * draw(0.2, 0.7)  # (N, 1, h, w)
    tint = 1.0 + 0.15 * (torch.rand((n, 3, 1, 1), generator=generator).to(x.device) * 2.0 - 1.0)
    x = x + night * (dark * tint - x)
    x = x * 2.0 ** draw(-s, s)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    x = x + (blurred - x) * (draw(-1.0, 1.0) * s).clamp(0.0, 1.0)
    noise = torch.randn(x.shape, generator=generator).to(x.device) * (NOISE_LEVELS / 255.0)
    x = x + noise * s * draw(0.0, 1.0) * (0.5 + night)
    return (x * 255.0).clamp(0.0, 255.0)


def _crop(pixels: Tensor, most: float, generator: torch.Generator) -> Tensor:
    n = len(pixels)
    cut = torch.rand((n, 2), generator=generator) * most  # shares of width and height to cut
    at = (torch.rand((n, 2), generator=generator) * 2.0 - 1.0) * cut  # offset of the centre, in half sides
    theta = torch.zeros((n, 2, 3))
    theta[:, 0, 0], theta[:, 1, 1] = 1.0 - cut[:, 0], 1.0 - cut[:, 1]
    theta[:, :, 2] = at
    grid = F.affine_grid(theta.to(pixels.device), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
