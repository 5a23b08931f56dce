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
Points = npt.NDArray[np.float64]  # in the camera or on its image
Colour = tuple[int, int, int]
Span = tuple[float, float]  # metres, low end first unless it is said otherwise

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
LABEL_MASK = 31  # low five bits of a surface byte; the light is in the high three
VOID = 255  # surface byte of a texture's holes


class Layer(IntEnum):
    """Painted back to front. Within one layer, the object that is farther away comes first."""

    GROUND = 0
    BUILDINGS = 1
    THINGS = 2  # between the rows of buildings, so never hidden by one


class Role(IntEnum):
    """What season and hour do to a texture."""

    PLAIN = 0
    DECIDUOUS = 1  # sheds its leaves
    EVERGREEN = 2
    WINDOWS = 3  # some are lit, in some nights


def surface(label: str, light: Light) -> int:
    """The byte that says what a pixel is and how it takes light."""
    return LABELS[label] | light << 5


class Texture:
    """A picture to paste on a quad: colour and surface byte, with copies at half, a quarter ... of the size."""

    def __init__(self, texels: Bytes, role: Role = Role.PLAIN):
        """Make the copies.

        Args:
            texels: uint8 (h, w, 4), RGB and surface byte; `VOID` is a hole, and a label with `Light.OWN` a gap: what
                is behind shows through there, under the texture's label.
            role: what season and hour do to it.
        """
        self.role = role
        self.variants: dict[str, Texture] = {}  # the same in other seasons or by another light, made on use
        self.has_gaps = bool((texels[..., 3] <= LABEL_MASK).any())
        texels = texels.copy()
        solid = texels[..., 3] != VOID
        if not solid.all():  # holes get the mean colour, or the smaller copies would have black rims round them
            texels[~solid, :3] = texels[solid, :3].mean(axis=0) if solid.any() else 0
        self.levels = [texels]
        while min(texels.shape[:2]) >= 8:
            size = (texels.shape[1] // 2, texels.shape[0] // 2)
            smaller = np.asarray(cv2.resize(texels, size, interpolation=cv2.INTER_AREA), np.uint8)
            smaller[..., 3] = cv2.resize(texels[..., 3], size, interpolation=cv2.INTER_NEAREST)
            texels = smaller
            self.levels.append(texels)

    def level_for(self, height_px: float) -> Bytes:
        """The copy that is about as many texels high as it will be pixels high."""
        ratio = self.levels[0].shape[0] / max(height_px, 1e-3)
        return self.levels[min(max(round(math.log2(max(ratio, 1.0))), 0), len(self.levels) - 1)]


@dataclass(frozen=True)
class Quads:
    """Everything that can be seen, as a structure of arrays over n quadrilaterals.

    Attributes:
        corners: float32 (n, 4, 3), metres, clockwise from the upper left as seen from the visible side.
            A textured quad must be a parallelogram.
        anchors: float32 (n, 2), the x and y that depth is sorted by, one for all quads of an object. Quads of
            one object are painted in the order in which they were added.
        layers: uint8 (n,), `Layer`.
        billboards: bool (n,), turned to the camera round their vertical middle.
        colours: uint8 (n, 4), RGB and surface byte, unless there is a texture.
        textures: n of them or None.
    """

    corners: Floats
    anchors: Floats
    layers: Bytes
    billboards: npt.NDArray[np.bool_]
    colours: Bytes
    textures: tuple[Texture | None, ...]

    @classmethod
    def concatenate(cls, parts: Sequence[Quads]) -> Quads:
        """All quads of all parts, in this order."""
        return cls(
            np.concatenate([part.corners for part in parts]),
            np.concatenate([part.anchors for part in parts]),
            np.concatenate([part.layers for part in parts]),
            np.concatenate([part.billboards for part in parts]),
            np.concatenate([part.colours for part in parts]),
            tuple(texture for part in parts for texture in part.textures),
        )


class QuadsBuilder:
    """Collects quads. `begin` starts an object; what is added then belongs to it."""

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
        """Quads so far."""
        return len(self._layers)

    def begin(self, layer: Layer, x: float, y: float) -> None:
        """What follows is one object, as far away as the point at `x` and `y`."""
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
        """Corners clockwise from the upper left, seen from the visible side, which also says how light falls."""
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
        """Upright, from `left` to `right` (x and y) as seen from its visible side."""
        bottom, top = zs
        corners = [(*left, top), (*right, top), (*right, bottom), (*left, bottom)]
        self.quad(corners, label, colour, texture, light)

    def flat(self, xs: Span, ys: Span, label: str, colour: Colour, z: float = 0.0) -> None:
        """Level, seen from above."""
        (x0, x1), (y0, y1) = xs, ys
        self.quad([(x1, y1, z), (x1, y0, z), (x0, y0, z), (x0, y1, z)], label, colour)

    def box(self, xs: Span, ys: Span, zs: Span, label: str, colour: Colour, light: Light | None = None) -> None:
        """Four walls and a top."""
        (x0, x1), (y0, y1) = xs, ys
        self.wall((x0, y1), (x0, y0), zs, label, colour, light=light)
        self.wall((x1, y0), (x1, y1), zs, label, colour, light=light)
        self.wall((x0, y0), (x1, y0), zs, label, colour, light=light)
        self.wall((x1, y1), (x0, y1), zs, label, colour, light=light)
        self.flat(xs, ys, label, colour, z=zs[1])

    def billboard(self, x: float, y: float, width: float, height: float, texture: Texture, label: str) -> None:
        """Stands on the ground and is always turned to the camera."""
        left, right = y + 0.5 * width, y - 0.5 * width
        corners = [(x, left, height), (x, right, height), (x, right, 0.0), (x, left, 0.0)]
        self.quad(corners, label, texture=texture, light=Light.SOFT, billboard=True)

    def finish(self) -> Quads:
        """All that was added."""
        return Quads(
            np.array(self._corners, np.float32).reshape(-1, 4, 3),
            np.array(self._anchors, np.float32).reshape(-1, 2),
            np.array(self._layers, np.uint8),
            np.array(self._billboards, np.bool_),
            np.array(self._colours, np.uint8).reshape(-1, 4),
            tuple(self._textures),
        )


def _facing(corners: npt.ArrayLike) -> Light:
    """The way of taking light whose normal is nearest to the quad's."""
    (x0, y0, z0), (x1, y1, z1), _, (x3, y3, z3) = np.asarray(corners, np.float64).tolist()
    (ax, ay, az), (bx, by, bz) = (x3 - x0, y3 - y0, z3 - z0), (x1 - x0, y1 - y0, z1 - z0)
    normal = (ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
    return max(NORMALS, key=lambda light: sum(n * m for n, m in zip(normal, NORMALS[light], strict=True)))
