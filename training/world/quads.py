"""Quadrilaterals, the elements of the synthetic world: flat or textured, each with a class.

Axes: x along the street, y to the left, z up, metres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
import numpy.typing as npt

from .light import NORMALS, Light

__all__ = ["LABELS", "LABEL_MASK", "VOID", "Layer", "Quads", "QuadsBuilder", "Role", "Texture", "surface"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]  # in camera or image coordinates
Colour = tuple[int, int, int]
Span = tuple[float, float]  # metres, low end first unless stated otherwise

# Source: the train ids of Cityscapes (Cordts et al., CVPR 2016; cityscapesScripts, helpers/labels.py).
LABELS: dict[str, int] = {
    "road": 0,
    "sidewalk": 1,
    "building": 2,
    "wall": 3,
    "fence": 4,
    "pole": 5,
    "traffic light": 6,
    "traffic sign": 7,
    "vegetation": 8,
    "terrain": 9,
    "sky": 10,
    "person": 11,
    "rider": 12,
    "car": 13,
    "truck": 14,
    "bus": 15,
    "train": 16,
    "motorcycle": 17,
    "bicycle": 18,
}
LABEL_MASK = 31  # low five bits of a surface byte; the high three are the `Light`
VOID = 255  # surface byte of a texture's holes


class Layer(IntEnum):
    """Painting order, back to front. Within a layer, farther objects come first."""

    GROUND = 0
    BUILDINGS = 1
    THINGS = 2  # between the rows of buildings, which never hide them


class Role(IntEnum):
    """How season and hour change a texture."""

    PLAIN = 0
    DECIDUOUS = 1  # sheds its leaves
    EVERGREEN = 2
    WINDOWS = 3  # some are lit at night


def surface(label: str, light: Light) -> int:
    """Surface byte: label and light of a pixel."""
    return LABELS[label] | light << 5


class Texture:
    """A texture with colours and surface bytes, and copies at half, a quarter ... of the size."""

    def __init__(self, texels: Bytes, role: Role = Role.PLAIN):
        """Make the copies.

        Args:
            texels: uint8 (h, w, 4), RGB and surface byte. `VOID` is a hole. A label with `Light.OWN` is a gap: the
                background is visible, with the texture's label.
            role: how season and hour change it.
        """
        self.role = role
        self.variants: dict[str, Texture] = {}  # for other seasons and lights, made on demand
        self.has_gaps = bool((texels[..., 3] <= LABEL_MASK).any())
        texels = texels.copy()
        solid = texels[..., 3] != VOID
        if not solid.all():  # holes get the mean colour: black would spread in the smaller copies
            texels[~solid, :3] = texels[solid, :3].mean(axis=0) if solid.any() else 0
        self.levels = [texels]
        while min(texels.shape[:2]) >= 8:
            size = (texels.shape[1] // 2, texels.shape[0] // 2)
            smaller = np.asarray(cv2.resize(texels, size, interpolation=cv2.INTER_AREA), np.uint8)
            smaller[..., 3] = cv2.resize(texels[..., 3], size, interpolation=cv2.INTER_NEAREST)
            texels = smaller
            self.levels.append(texels)

    def level_for(self, height_px: float) -> Bytes:
        """The copy whose height in texels is about `height_px`."""
        ratio = self.levels[0].shape[0] / max(height_px, 1e-3)
        return self.levels[min(max(round(math.log2(max(ratio, 1.0))), 0), len(self.levels) - 1)]


@dataclass(frozen=True)
class Quads:
    """A scene as a structure of arrays over n quadrilaterals.

    Attributes:
        corners: float32 (n, 4, 3), metres, clockwise from the upper left, seen from the visible side. A textured quad
            must be a parallelogram.
        anchors: float32 (n, 2), x and y for depth sorting, the same for all quads of an object. Quads of one object are
            painted in the order of adding.
        layers: uint8 (n,), `Layer`.
        billboards: bool (n,), turned to the camera around their vertical axis.
        colours: uint8 (n, 4), RGB and surface byte of quads without a texture.
        textures: a texture or None for each quad.
    """

    corners: Floats
    anchors: Floats
    layers: Bytes
    billboards: npt.NDArray[np.bool_]
    colours: Bytes
    textures: tuple[Texture | None, ...]

    @classmethod
    def concatenate(cls, parts: Sequence[Quads]) -> Quads:
        """Join parts, in this order."""
        return cls(
            np.concatenate([part.corners for part in parts]),
            np.concatenate([part.anchors for part in parts]),
            np.concatenate([part.layers for part in parts]),
            np.concatenate([part.billboards for part in parts]),
            np.concatenate([part.colours for part in parts]),
            tuple(texture for part in parts for texture in part.textures),
        )


class QuadsBuilder:
    """Collects quads. `begin` starts an object; later quads belong to it."""

    def __init__(self) -> None:
        self._corners: list[npt.ArrayLike] = []
        self._anchors: list[tuple[float, float]] = []
        self._layers: list[int] = []
        self._billboards: list[bool] = []
        self._colours: list[tuple[int, int, int, int]] = []
        self._textures: list[Texture | None] = []
        self._layer, self._anchor = Layer.GROUND, (0.0, 0.0)

    @property
    def count(self) -> int:
        """Number of quads."""
        return len(self._layers)

    def begin(self, layer: Layer, x: float, y: float) -> None:
        """Start an object whose depth is that of the point (x, y)."""
        self._layer, self._anchor = layer, (x, y)

    def quad(
        self,
        corners: npt.ArrayLike,
        label: str,
        colour: Colour = (0, 0, 0),
        texture: Texture | None = None,
        light: Light | None = None,
        billboard: bool = False,
    ) -> None:
        """Add a quad. Corners are clockwise from the upper left, seen from the visible side."""
        self._corners.append(corners)
        self._anchors.append(self._anchor)
        self._layers.append(self._layer)
        self._billboards.append(billboard)
        self._colours.append((*colour, surface(label, _facing(corners) if light is None else light)))
        self._textures.append(texture)

    def wall(
        self,
        left: tuple[float, float],
        right: tuple[float, float],
        zs: Span,
        label: str,
        colour: Colour = (0, 0, 0),
        texture: Texture | None = None,
        light: Light | None = None,
    ) -> None:
        """Add an upright quad from `left` to `right` (x and y), seen from its visible side."""
        bottom, top = zs
        corners = [(*left, top), (*right, top), (*right, bottom), (*left, bottom)]
        self.quad(corners, label, colour, texture, light)

    def flat(self, xs: Span, ys: Span, label: str, colour: Colour, z: float = 0.0) -> None:
        """Add a level quad, visible from above."""
        (x0, x1), (y0, y1) = xs, ys
        self.quad([(x1, y1, z), (x1, y0, z), (x0, y0, z), (x0, y1, z)], label, colour)

    def box(self, xs: Span, ys: Span, zs: Span, label: str, colour: Colour, light: Light | None = None) -> None:
        """Add four walls and a top."""
        (x0, x1), (y0, y1) = xs, ys
        self.wall((x0, y1), (x0, y0), zs, label, colour, light=light)
        self.wall((x1, y0), (x1, y1), zs, label, colour, light=light)
        self.wall((x0, y0), (x1, y0), zs, label, colour, light=light)
        self.wall((x1, y1), (x0, y1), zs, label, colour, light=light)
        self.flat(xs, ys, label, colour, z=zs[1])

    def billboard(self, x: float, y: float, width: float, height: float, texture: Texture, label: str) -> None:
        """Add a quad that stands on the ground and always faces the camera."""
        left, right = y + 0.5 * width, y - 0.5 * width
        corners = [(x, left, height), (x, right, height), (x, right, 0.0), (x, left, 0.0)]
        self.quad(corners, label, texture=texture, light=Light.SOFT, billboard=True)

    def finish(self) -> Quads:
        """Return all added quads."""
        return Quads(
            np.array(self._corners, np.float32).reshape(-1, 4, 3),
            np.array(self._anchors, np.float32).reshape(-1, 2),
            np.array(self._layers, np.uint8),
            np.array(self._billboards, np.bool_),
            np.array(self._colours, np.uint8).reshape(-1, 4),
            tuple(self._textures),
        )


def _facing(corners: npt.ArrayLike) -> Light:
    """The `Light` whose normal is nearest to the quad's."""
    (x0, y0, z0), (x1, y1, z1), _, (x3, y3, z3) = np.asarray(corners, np.float64).tolist()
    (ax, ay, az), (bx, by, bz) = (x3 - x0, y3 - y0, z3 - z0), (x1 - x0, y1 - y0, z1 - z0)
    normal = (ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
    return max(NORMALS, key=lambda light: sum(n * m for n, m in zip(normal, NORMALS[light], strict=True)))
