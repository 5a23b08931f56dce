"""Paint quads into a view without light.

    Quads ──Camera──> visible, far to near ──paint──> G-buffer ──develop──> frame, labels

The G-buffer has four bytes per pixel: the unlit colour, and a surface byte with the label (5 bits) and the `Light`
(3 bits). Each stroke writes all four, so labels always match pixels, and hour and weather cannot change a label. The
G-buffer has twice the frame's resolution. The frame is its average (anti-aliasing), and the label map is every second
pixel.

Source: G-buffer, Saito and Takahashi, Comprehensible rendering of 3-D shapes (SIGGRAPH 1990).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .camera import Camera, Pose
from .light import Light, fractal_tile
from .quads import LABEL_MASK, VOID, Bytes, Colour, Floats, Layer, Points, Quads, Texture, surface
from .skyline import BINS, Skyline

__all__ = ["FAR_AWAY", "OVERSAMPLING", "GBuffer", "paint"]

OVERSAMPLING = 2
NEAR_M = 0.3
FAR_M = 180.0
THIN_PX = 0.35  # of the G-buffer; thinner quads are left out
FAR_AWAY = 255  # of the distance plane: sky and hills
SUBPIXEL_BITS = 4
GRAIN_PX_PER_M = 24.0
TERRAIN: Colour = (120, 128, 92)
HILL: Colour = (74, 92, 70)


@dataclass(frozen=True)
class GBuffer:
    """A painted view without light, `OVERSAMPLING` times as large as its frame.

    Attributes:
        colours: uint8 (H', W', 4), RGB and surface byte.
        distances: uint8 (H', W'), metres, rounded; `FAR_AWAY` beyond.
        camera: of the view.
    """

    colours: Bytes
    distances: Bytes
    camera: Camera

    @property
    def labels(self) -> Bytes:
        """uint8 (H, W), train ids of `LABELS`."""
        labels: Bytes = self.colours[::OVERSAMPLING, ::OVERSAMPLING, 3] & np.uint8(LABEL_MASK)
        return labels


def paint(
    quads: Quads,
    pose: Pose,
    height: int,
    width: int,
    seed: int,
    *,
    skyline: Skyline | None = None,
    dress: Callable[[Texture, int], Texture] | None = None,
) -> GBuffer:
    """Paint a scene with the painter's algorithm, far to near.

    Args:
        quads: the scene.
        pose: of the camera.
        height: of the frame, px.
        width: of the frame, px.
        seed: of the ground's grain, and of the hills if there is no skyline.
        skyline: hills and distant roofs.
        dress: maps a quad's texture and index to a texture of the same size and labels.
    """
    camera = Camera(pose, height * OVERSAMPLING, width * OVERSAMPLING)
    buffer = GBuffer(
        np.empty((camera.height, camera.width, 4), np.uint8),
        np.empty((camera.height, camera.width), np.uint8),
        camera,
    )
    corners = camera.to_camera(quads.corners)  # (n, 4, 3)
    corners[quads.billboards] = _turn_to_camera(quads.corners[quads.billboards], corners[quads.billboards])
    # A frame has hundreds of strokes, so this computes what it can for all of them at once.
    kept = np.flatnonzero(_in_view(camera, corners))
    corners = corners[kept]  # (m, 4, 3); from here on, indices refer to the kept quads
    behind = corners[..., 2].min(axis=1) < NEAR_M  # at least in part: clipped before projection
    outlines = camera.project(np.where(behind[:, np.newaxis, np.newaxis], 1.0, corners))  # (n, 4, 2)
    distances = np.clip(np.rint(corners[..., 2].mean(axis=1)), 0, FAR_AWAY - 1).astype(int)
    too_thin = ~behind & (np.ptp(outlines, axis=1).min(axis=1) < THIN_PX)
    order = _back_to_front(quads, camera, kept)
    order = order[~too_thin[order]]
    # From pixels to quad coordinates, 0 to 1 along the upper and the left edge.
    origin = corners[order, 0]
    edges = np.stack([corners[order, 1] - origin, corners[order, 3] - origin, origin], axis=-1)  # (k, 3, 3)
    to_quad = np.linalg.inv(camera.intrinsics @ edges)
    heights_px = camera.focal_px * np.ptp(corners[..., 1], axis=1) / np.maximum(distances, 1)

    _paint_horizon(buffer, seed, skyline)
    upright = int(np.searchsorted(quads.layers[kept[order]], Layer.GROUND, side="right"))
    fixed, colours = _to_fixed(outlines), quads.colours[kept].tolist()
    for place, index in enumerate(order.tolist()):
        if place == upright:
            _grain(buffer, seed)
        outline = camera.project(_clip_near(corners[index])) if behind[index] else outlines[index]
        texture, distance = quads.textures[kept[index]], int(distances[index])
        if texture is None:
            polygon = _to_fixed(outline) if behind[index] else fixed[index]
            cv2.fillConvexPoly(buffer.colours, polygon, colours[index], cv2.LINE_8, SUBPIXEL_BITS)
            if place >= upright:  # the ground already has finer distances
                cv2.fillConvexPoly(buffer.distances, polygon, [distance], cv2.LINE_8, SUBPIXEL_BITS)
        else:
            if dress is not None:
                texture = dress(texture, int(kept[index]))
            _paste(buffer, outline, texture.level_for(heights_px[index]), to_quad[place], distance, texture.has_gaps)
    return buffer


def _in_view(camera: Camera, corners: Points) -> npt.NDArray[np.bool_]:
    """Which quads (n, 4, 3) face the camera and are not outside the frustum."""
    right, forward = corners[..., 0], corners[..., 2]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0])  # away from the visible side
    facing = np.einsum("ni,ni->n", normals, corners[:, 0]) > 0.0
    in_range = (forward.max(axis=1) > NEAR_M) & (forward.min(axis=1) < FAR_M)
    reach = forward * (0.5 * camera.width / camera.focal_px)
    beside = (right > reach).all(axis=1) | (right < -reach).all(axis=1)
    return np.asarray(facing & in_range & ~beside)


def _back_to_front(quads: Quads, camera: Camera, kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Indices into `kept` in painting order: by layer, distance of the object, order of adding."""
    away = np.hypot(quads.anchors[kept, 0] - camera.pose.x_m, quads.anchors[kept, 1] - camera.pose.y_m)
    # On the ground, the order of adding decides.
    away = np.where(quads.layers[kept] == Layer.GROUND, 0.0, away)
    return np.asarray(np.lexsort((-away, quads.layers[kept])))  # stable


def _turn_to_camera(world: Floats, corners: Points) -> Points:
    """Turn billboards, which were added facing -x: their extent along y becomes extent to the camera's right."""
    middle = corners.mean(axis=1, keepdims=True)  # (n, 1, 3)
    turned: Points = corners.copy()
    turned[..., 0] = middle[..., 0] - (world[..., 1] - world[..., 1].mean(axis=1, keepdims=True))
    turned[..., 2] = middle[..., 2]
    return turned


def _to_fixed(outline: Points) -> npt.NDArray[np.int32]:
    return np.rint(outline * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _paste(buffer: GBuffer, outline: Points, texels: Bytes, to_quad: Points, distance: int, gaps: bool) -> None:
    camera = buffer.camera
    columns, rows = outline.T.tolist()  # four numbers each, for which Python's min is faster
    left, right = max(math.floor(min(columns)), 0), min(math.ceil(max(columns)) + 1, camera.width)
    top, bottom = max(math.floor(min(rows)), 0), min(math.ceil(max(rows)) + 1, camera.height)
    if left >= right or top >= bottom:
        return
    # Quad coordinates are 0 to 1. Texel i covers i to i + 1, and the warp's coordinate i is its centre.
    scale = np.array([[texels.shape[1], 0.0, -0.5], [0.0, texels.shape[0], -0.5], [0.0, 0.0, 1.0]])
    shift = np.array([[1.0, 0.0, left], [0.0, 1.0, top], [0.0, 0.0, 1.0]])
    pasted = cv2.warpPerspective(
        texels,
        scale @ to_quad @ shift,
        (right - left, bottom - top),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 0, VOID),
    )
    _, solid = cv2.threshold(cv2.extractChannel(pasted, 3), VOID - 1, 255, cv2.THRESH_BINARY_INV)
    window = (slice(top, bottom), slice(left, right))
    if gaps:  # the background keeps its colour and light, but gets the texture's label
        _, between = cv2.threshold(pasted[..., 3], LABEL_MASK, 255, cv2.THRESH_BINARY_INV)
        behind = buffer.colours[window][..., 3]
        np.copyto(behind, behind & ~np.uint8(LABEL_MASK) | pasted[..., 3], where=between > 0)
        solid -= between
    cv2.copyTo(pasted, solid, buffer.colours[window])  # writes through the view
    np.putmask(buffer.distances[window], np.asarray(solid, bool), distance)


def _clip_near(corners: Points) -> Points:
    """Clip a polygon to the part in front of the camera.

    Source: Sutherland and Hodgman, Reentrant polygon clipping (CACM 1974), against one plane.
    """
    kept = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if start[2] >= NEAR_M:
            kept.append(start)
        if (start[2] >= NEAR_M) != (end[2] >= NEAR_M):
            kept.append(start + (end - start) * ((NEAR_M - start[2]) / (end[2] - start[2])))
    return np.array(kept)


def _paint_horizon(buffer: GBuffer, seed: int, skyline: Skyline | None) -> None:
    """Paint sky above, open ground below, and distant hills between them."""
    camera = buffer.camera
    level = math.ceil(camera.centre_v)  # of the horizon, which may be outside a low frame
    horizon = min(max(level, 0), camera.height)
    words = buffer.colours.view(np.uint32)[..., 0]  # several times as fast as single bytes
    words[:horizon] = _word((0, 0, 0), surface("sky", Light.OWN))
    words[horizon:] = _word(TERRAIN, surface("terrain", Light.UP))
    buffer.distances[:horizon] = FAR_AWAY
    down = np.arange(horizon, camera.height) - camera.centre_v
    forward = np.minimum(camera.pose.height_m * camera.focal_px / np.maximum(down, 1e-6), FAR_AWAY - 1)
    buffer.distances[horizon:] = np.rint(forward)[:, np.newaxis]
    right = (np.arange(camera.width) - camera.centre_u) / camera.focal_px
    azimuths = math.radians(camera.pose.heading_deg) - np.arctan(right)
    rows = np.arange(horizon)[:, np.newaxis]
    if skyline is not None:
        bins = np.rint(azimuths * (BINS / (2.0 * math.pi))).astype(int) % BINS
        for heights, colour, label in (
            (skyline.hills, skyline.hill, "vegetation"),
            (skyline.roofs, skyline.roof, "building"),
        ):
            outline = rows >= level - heights.take(bins) * camera.focal_px
            np.putmask(words[:horizon], outline & (heights.take(bins) > 0.0), _word(colour, surface(label, Light.SOFT)))
        return
    phases = np.random.default_rng([seed, 0x411]).uniform(0.0, 2.0 * math.pi, 6)
    waves = sum(math.sqrt(k) ** -1 * np.sin(k * k * azimuths + phase) for k, phase in enumerate(phases, start=1))
    heights = np.maximum(0.045 + 0.012 * waves, 0.01) * camera.focal_px  # (W',)
    hills = rows >= level - heights
    np.putmask(words[:horizon], hills, _word(HILL, surface("vegetation", Light.SOFT)))


def _word(colour: Colour, surface_byte: int) -> int:
    return int(np.array([*colour, surface_byte], np.uint8).view(np.uint32)[0])


def _grain(buffer: GBuffer, seed: int) -> None:
    """Vary the colours of asphalt, slabs and grass in a pattern fixed to the ground. Surface bytes do not change."""
    camera = buffer.camera
    horizon = min(max(math.ceil(camera.centre_v), 0), camera.height)
    if horizon == camera.height:
        return
    homography = np.diag([GRAIN_PX_PER_M, GRAIN_PX_PER_M, 1.0]) @ camera.pixels_to_plane(camera.pose.height_m)
    offset = np.array(
        [
            [1.0, 0.0, camera.pose.x_m * GRAIN_PX_PER_M],
            [0.0, 1.0, camera.pose.y_m * GRAIN_PX_PER_M],
            [0.0, 0.0, 1.0],
        ]
    )
    below = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, horizon], [0.0, 0.0, 1.0]])
    grain = cv2.warpPerspective(
        fractal_tile(seed),
        offset @ homography @ below,
        (camera.width, camera.height - horizon),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_WRAP,
    )
    wear = cv2.LUT(grain, (112 + (np.arange(256) >> 3)).astype(np.uint8))
    factor = cv2.merge([wear, wear, wear, np.full_like(wear, 128)])
    ground = buffer.colours[horizon:]
    cv2.multiply(ground, factor, dst=ground, scale=1.0 / 128.0)
