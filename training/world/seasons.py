"""Effects of season and hour on textures: leaves turn and fall, windows go dark. Labels do not change.

A bare crown keeps the outline of its leaves in the label map, as in Cityscapes: gaps between twigs count as vegetation.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from .conditions import Conditions
from .light import Light
from .quads import LABEL_MASK, LABELS, VOID, Bytes, Role, Texture

__all__ = ["wardrobe"]

BLOSSOM_SHARE = 0.35  # of the trees, in spring
TWIGS = 26  # main branches of a bare crown


def wardrobe(conditions: Conditions, traverse_seed: int) -> Callable[[Texture, int], Texture] | None:
    """Make the `dress` of `paint` for a season and an hour; None if no texture changes."""
    season, dark_share = conditions.season, 1.0 - conditions.lit_windows
    if season == "summer" and dark_share == 0.0:
        return None

    def dress(texture: Texture, index: int) -> Texture:
        if texture.role is Role.PLAIN:
            return texture
        if texture.role is Role.WINDOWS:
            # One draw per house and drive.
            draw = ((index * 2654435761 + traverse_seed * 40503 + 12345) >> 8 & 0xFFFF) / 65536.0
            return _variant(texture, "dark", _switch_off) if draw < dark_share else texture
        if season == "summer":
            return texture
        if texture.role is Role.DECIDUOUS:
            return _variant(texture, season, {"spring": _sprout, "autumn": _turn, "winter": _shed}[season])
        return _variant(texture, "winter", _dull) if season == "winter" else texture

    return dress


def _variant(texture: Texture, name: str, change: Callable[[Bytes, np.random.Generator], Bytes]) -> Texture:
    if name not in texture.variants:
        texels = texture.levels[0]
        # The tree's texture is the seed, so its branches are the same on every drive.
        rng = np.random.default_rng([texels.shape[0], int(texels[..., 1].sum(dtype=np.int64))])
        texture.variants[name] = Texture(change(texels.copy(), rng), texture.role)
    return texture.variants[name]


def _switch_off(texels: Bytes, rng: np.random.Generator) -> Bytes:
    lit = (texels[..., 3] >= Light.LAMP << 5) & (texels[..., 3] != VOID)
    texels[lit, 3] = texels[lit, 3] & LABEL_MASK | Light.SOFT << 5
    return texels


def _leaves(texels: Bytes) -> npt.NDArray[np.bool_]:
    return np.asarray((texels[..., 3] != VOID) & (texels[..., 1] > texels[..., 0]))  # wood is redder than green


def _recolour(texels: Bytes, gains: tuple[float, float, float]) -> Bytes:
    leaves = _leaves(texels)
    texels[leaves, :3] = np.clip(texels[leaves, :3] * np.array(gains, np.float32), 0, 255).astype(np.uint8)
    return texels


def _sprout(texels: Bytes, rng: np.random.Generator) -> Bytes:
    if rng.random() < BLOSSOM_SHARE:
        return _recolour(texels, (3.0, 1.9, 3.2))
    return _recolour(texels, (1.35, 1.3, 0.9))


def _turn(texels: Bytes, rng: np.random.Generator) -> Bytes:
    red = rng.random()
    return _recolour(texels, (2.3 + 0.5 * red, 1.6 - 0.8 * red, 0.5))


def _dull(texels: Bytes, rng: np.random.Generator) -> Bytes:
    return _recolour(texels, (0.85, 0.75, 0.8))


def _shed(texels: Bytes, rng: np.random.Generator) -> Bytes:
    """Replace the leaves with twigs and gaps."""
    leaves = _leaves(texels)
    rows, columns = leaves.nonzero()
    if len(rows) == 0:
        return texels
    wood = (74, 64, 58, LABELS["vegetation"] | Light.SOFT << 5)
    texels[leaves] = (*wood[:3], LABELS["vegetation"] | Light.OWN << 5)
    bare = texels.copy()
    foot = np.array([texels.shape[1] / 2.0, min(rows.max(), texels.shape[0] - 1)])
    picks = rng.integers(0, len(rows), TWIGS)
    for column, row in zip(columns[picks].tolist(), rows[picks].tolist(), strict=True):
        tip = np.array([column, row], np.float64)
        elbow = foot + (tip - foot) * rng.uniform(0.35, 0.6) * np.array([0.7, 1.1])
        points = np.rint([foot, elbow, tip]).astype(np.int32)
        cv2.polylines(bare, [points], False, wood, int(rng.integers(2, 5)))
        for _ in range(5):
            start = elbow + (tip - elbow) * rng.uniform(0.1, 0.9)
            end = start + rng.normal(0.0, 0.16, 2) * len(texels) * 0.5 - (0.0, 0.05 * len(texels))
            cv2.line(bare, np.rint(start).astype(int).tolist(), np.rint(end).astype(int).tolist(), wood, 1)
    crown = leaves[..., np.newaxis]
    return np.where(crown, bare, texels)
