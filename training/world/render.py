"""From quads to a frame and its labels: a painter, then a light.

    Quads ──Camera──> visible, far to near ──paint──> G-buffer ──develop──> frame, labels

The G-buffer keeps four bytes per pixel: the unlit colour, and one `surface` byte that holds the label (5 bits)
and how the pixel takes light (3 bits). One stroke writes all four, so labels cannot disagree with pixels, and
neither hour nor weather can move a label. It is painted at twice the frame's resolution and averaged down, which
is all the anti-aliasing there is; the label map is every second pixel of the G-buffer, untouched.

Source: the G-buffer is Saito's and Takahashi's, Comprehensible rendering of 3-D shapes (SIGGRAPH 1990).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .camera import CAMERA_HEIGHT_M, Camera, Pose
from .light import Conditions, Light, expose, fractal_tile, horizon_colour, light_gains, sky_colours
from .quads import LABEL_MASK, VOID, Bytes, Colour, Floats, Layer, Points, Quads, surface

__all__ = ["GBuffer", "develop", "paint"]

OVERSAMPLING = 2
NEAR_M = 0.3
FAR_M = 180.0
THIN_PX = 0.35  # of the G-buffer: what is thinner, either way, is left out
FAR_AWAY = 255  # of the distance plane: sky and hills
SUBPIXEL_BITS = 4
GRAIN_PX_PER_M = 24.0
CLOUD_PX_PER_HEIGHT = 90.0  # texels over a distance on the ground that equals the height of the clouds
TERRAIN: Colour = (120, 128, 92)
HILL: Colour = (74, 92, 70)


@dataclass(frozen=True)
class GBuffer:
    """A painted view before there is light, `OVERSAMPLING` times as large as its frame.

    Attributes:
        colours: uint8 (H', W', 4), RGB and surface byte.
        distances: uint8 (H', W'), metres, rounded; `FAR_AWAY` for everything beyond.
        camera: took it.
    """

    colours: Bytes
    distances: Bytes
    camera: Camera

    @property
    def labels(self) -> Bytes:
        """uint8 (H, W), train ids of `LABELS`."""
        return self.colours[::OVERSAMPLING, ::OVERSAMPLING, 3] & LABEL_MASK


def paint(quads: Quads, pose: Pose, height: int, width: int, seed: int) -> GBuffer:
    """Painter's algorithm: what is nearer goes over what is farther.

    Args:
        quads: the scene.
        pose: of the camera.
        height: of the frame, px.
        width: of the frame, px.
        seed: of the hills on the horizon and the grain of the ground.
    """
    camera = Camera(pose, height * OVERSAMPLING, width * OVERSAMPLING)
    buffer = GBuffer(
        np.empty((camera.height, camera.width, 4), np.uint8),
        np.empty((camera.height, camera.width), np.uint8),
        camera,
    )
    corners = camera.to_camera(quads.corners)  # (n, 4, 3)
    corners[quads.billboards] = _turn_to_camera(quads.corners[quads.billboards], corners[quads.billboards])
    # A frame is hundreds of strokes: what can be said for all of them at once is said here.
    behind = corners[..., 2].min(axis=1) < NEAR_M  # at least in part: to be clipped before it is projected
    outlines = camera.project(np.where(behind[:, np.newaxis, np.newaxis], 1.0, corners))  # (n, 4, 2)
    distances = np.clip(np.rint(corners[..., 2].mean(axis=1)), 0, FAR_AWAY - 1).astype(int)
    too_thin = ~behind & (np.ptp(outlines, axis=1).min(axis=1) < THIN_PX)
    order = _back_to_front(quads, camera, np.flatnonzero(~too_thin & _in_view(camera, corners)))
    # From pixels to each quad's own coordinates, 0 to 1 along its upper and its left edge.
    origin = corners[order, 0]
    edges = np.stack([corners[order, 1] - origin, corners[order, 3] - origin, origin], axis=-1)  # (m, 3, 3)
    to_quad = np.linalg.inv(camera.intrinsics @ edges)
    heights_px = camera.focal_px * np.ptp(corners[..., 1], axis=1) / np.maximum(distances, 1)

    _paint_horizon(buffer, seed)
    upright = int(np.searchsorted(quads.layers[order], Layer.GROUND, side="right"))
    for place, index in enumerate(order.tolist()):
        if place == upright:
            _grain(buffer, seed)
        outline = camera.project(_clip_near(corners[index])) if behind[index] else outlines[index]
        texture, distance = quads.textures[index], int(distances[index])
        if texture is None:
            _fill(buffer.colours, outline, quads.colours[index].tolist())
            if place >= upright:  # the ground's distances are there already, and finer
                _fill(buffer.distances, outline, [distance])
        else:
            _paste(buffer, outline, texture.level_for(heights_px[index]), to_quad[place], distance)
    return buffer


def develop(buffer: GBuffer, conditions: Conditions, weather_seed: int, rng: np.random.Generator) -> Bytes:
    """Put light on a painted view and take the picture.

    Args:
        buffer: from `paint`.
        conditions: hour, weather, camera settings.
        weather_seed: of the clouds.
        rng: this frame's own, for exposure and noise.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    surfaces = cv2.extractChannel(buffer.colours, 3)
    # Gains as bytes, 64 = 1, looked up as one 32-bit word per pixel.
    gains = np.zeros((256, 4), np.uint8)
    gains[:, :3] = np.clip(np.rint(light_gains(conditions) * 64.0), 0, 255).repeat(32, axis=0)
    per_pixel = gains.view(np.uint32).ravel().take(surfaces).view(np.uint8).reshape(buffer.colours.shape)
    size = (buffer.camera.width // OVERSAMPLING, buffer.camera.height // OVERSAMPLING)
    lit = cv2.resize(cv2.multiply(buffer.colours, per_pixel, scale=1.0 / 64.0), size, interpolation=cv2.INTER_AREA)
    scene = lit[..., :3].astype(np.float32)  # (H, W, 3)

    fade = (1.0 - np.exp(-conditions.haze_per_m * np.arange(256.0))).astype(np.float32)
    distances = buffer.distances[::OVERSAMPLING, ::OVERSAMPLING]
    is_sky = cv2.compare(surfaces, surface("sky", Light.OWN), cv2.CMP_EQ)
    sky_share = cv2.resize(is_sky, size, interpolation=cv2.INTER_AREA).astype(np.float32)[..., np.newaxis] / 255.0
    fade_here = fade.take(distances)[..., np.newaxis] * (1.0 - sky_share)
    scene += (horizon_colour(conditions) - scene) * fade_here
    _add_sky(scene, sky_share, buffer.camera.pose, conditions, weather_seed)

    is_lamp = cv2.compare(surfaces, surface("road", Light.LAMP), cv2.CMP_GE)  # whatever the label
    lamps = cv2.resize(is_lamp, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
    return expose(scene, lamps, conditions, rng)


def _in_view(camera: Camera, corners: Points) -> npt.NDArray[np.bool_]:
    """Which quads (n, 4, 3) turn their visible side to the camera and are not outside the frustum."""
    right, forward = corners[..., 0], corners[..., 2]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0])  # away from the visible side
    facing = np.einsum("ni,ni->n", normals, corners[:, 0]) > 0.0
    in_range = (forward.max(axis=1) > NEAR_M) & (forward.min(axis=1) < FAR_M)
    reach = forward * (0.5 * camera.width / camera.focal_px)
    beside = (right > reach).all(axis=1) | (right < -reach).all(axis=1)
    return np.asarray(facing & in_range & ~beside)


def _back_to_front(quads: Quads, camera: Camera, kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Indices of the quads in the order to paint them: by layer, distance of the object, order of adding."""
    away = np.hypot(quads.anchors[kept, 0] - camera.pose.x_m, quads.anchors[kept, 1] - camera.pose.y_m)
    # The ground does not hide itself: there the order of adding says what lies on top.
    away = np.where(quads.layers[kept] == Layer.GROUND, 0.0, away)
    return kept[np.lexsort((-away, quads.layers[kept]))]  # stable


def _turn_to_camera(world: Floats, corners: Points) -> Points:
    """Billboards, added as facing -x: their extent along y becomes extent to the camera's right."""
    middle = corners.mean(axis=1, keepdims=True)  # (n, 1, 3)
    turned = corners.copy()
    turned[..., 0] = middle[..., 0] - (world[..., 1] - world[..., 1].mean(axis=1, keepdims=True))
    turned[..., 2] = middle[..., 2]
    return turned


def _fill(plane: Bytes, outline: Points, value: list[int]) -> None:
    fixed = np.rint(outline * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillConvexPoly(plane, fixed, value, cv2.LINE_8, SUBPIXEL_BITS)


def _paste(buffer: GBuffer, outline: Points, texels: Bytes, to_quad: Points, distance: int) -> None:
    camera = buffer.camera
    columns, rows = outline.T.tolist()  # four numbers each: Python's own min is the faster one
    left, right = max(math.floor(min(columns)), 0), min(math.ceil(max(columns)) + 1, camera.width)
    top, bottom = max(math.floor(min(rows)), 0), min(math.ceil(max(rows)) + 1, camera.height)
    if left >= right or top >= bottom:
        return
    # The quad's own coordinates run from 0 to 1; texel i covers i to i + 1, and its centre is what the warp calls i.
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
    solid = cv2.compare(cv2.extractChannel(pasted, 3), VOID, cv2.CMP_NE)
    window = (slice(top, bottom), slice(left, right))
    cv2.copyTo(pasted, solid, buffer.colours[window])  # writes through the view
    np.putmask(buffer.distances[window], solid, distance)


def _clip_near(corners: Points) -> Points:
    """The part of a polygon in front of the camera.

    Source: Sutherland and Hodgman, Reentrant polygon clipping (CACM 1974), against one plane.
    """
    kept = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if start[2] >= NEAR_M:
            kept.append(start)
        if (start[2] >= NEAR_M) != (end[2] >= NEAR_M):
            kept.append(start + (end - start) * ((NEAR_M - start[2]) / (end[2] - start[2])))
    return np.array(kept)


def _paint_horizon(buffer: GBuffer, seed: int) -> None:
    """Sky above, open ground below, hills in between that no drive comes nearer to."""
    camera = buffer.camera
    horizon = math.ceil(camera.centre_v)
    words = buffer.colours.view(np.uint32)[..., 0]  # a pixel at a time is several times as fast as a byte at a time
    words[:horizon] = _word((0, 0, 0), surface("sky", Light.OWN))
    words[horizon:] = _word(TERRAIN, surface("terrain", Light.UP))
    buffer.distances[:horizon] = FAR_AWAY
    down = np.arange(horizon, camera.height) - camera.centre_v
    forward = np.minimum(CAMERA_HEIGHT_M * camera.focal_px / np.maximum(down, 1e-6), FAR_AWAY - 1)
    buffer.distances[horizon:] = np.rint(forward)[:, np.newaxis]
    right = (np.arange(camera.width) - camera.centre_u) / camera.focal_px
    azimuths = math.radians(camera.pose.heading_deg) - np.arctan(right)
    phases = np.random.default_rng([seed, 0x411]).uniform(0.0, 2.0 * math.pi, 6)
    waves = sum(math.sqrt(k) ** -1 * np.sin(k * k * azimuths + phase) for k, phase in enumerate(phases, start=1))
    heights = np.maximum(0.045 + 0.012 * waves, 0.01) * camera.focal_px  # (W',)
    rows = np.arange(horizon)[:, np.newaxis]
    hills = rows >= horizon - heights
    np.putmask(words[:horizon], hills, _word(HILL, surface("vegetation", Light.SOFT)))


def _word(colour: Colour, surface_byte: int) -> np.uint32:
    return np.array([*colour, surface_byte], np.uint8).view(np.uint32)[0]


def _grain(buffer: GBuffer, seed: int) -> None:
    """Roughness of asphalt, slabs and grass, fixed to the ground: colours vary, surface bytes do not."""
    camera = buffer.camera
    horizon = math.ceil(camera.centre_v)
    homography = np.diag([GRAIN_PX_PER_M, GRAIN_PX_PER_M, 1.0]) @ camera.pixels_to_plane(CAMERA_HEIGHT_M)
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
    factor = np.empty((*grain.shape, 4), np.uint8)
    factor[..., :3] = (112 + (grain >> 3))[..., np.newaxis]
    factor[..., 3] = 128
    ground = buffer.colours[horizon:]
    cv2.multiply(ground, factor, dst=ground, scale=1.0 / 128.0)


def _add_sky(scene: Floats, share: Floats, pose: Pose, conditions: Conditions, seed: int) -> None:
    """Add the sky to each pixel of `scene` (H, W, 3), by the share (H, W, 1) of the pixel that is sky."""
    height, width = scene.shape[:2]
    camera = Camera(pose, height // 2, width // 2)  # the sky has no edges: half the resolution will do
    # Clouds hang on a level plane above the camera: the same homography as the ground's, upside down.
    homography = np.diag([CLOUD_PX_PER_HEIGHT, CLOUD_PX_PER_HEIGHT, 1.0]) @ camera.pixels_to_plane(-1.0)
    thickness = cv2.warpPerspective(
        fractal_tile(seed),
        homography,
        (camera.width, camera.height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_WRAP,
    )
    right = (np.arange(camera.width, dtype=np.float32) - camera.centre_u) / camera.focal_px
    up = (camera.centre_v - np.arange(camera.height, dtype=np.float32)) / camera.focal_px
    elevations = np.arctan(up[:, np.newaxis] / np.hypot(1.0, right)).astype(np.float32)  # (h, w)
    azimuths = np.broadcast_to(-np.arctan(right), elevations.shape).astype(np.float32)
    clouds = np.clip((thickness.astype(np.float32) / 255.0 - 1.0 + conditions.cloud_cover) * 3.0, 0.0, 1.0)
    clouds *= np.clip(elevations / 0.08, 0.0, 1.0)  # thin out towards the horizon, and there are none below it
    sky = sky_colours(azimuths + np.float32(math.radians(pose.heading_deg)), elevations, clouds, conditions)
    scene += cv2.resize(sky, (width, height)) * share
