"""Snow, rain and lamps: colour changes in some parts of a view."""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np

from .camera import Camera, Pose
from .conditions import Conditions
from .light import Light, fractal_tile, lamps_on
from .quads import Bytes, Floats, Points, surface
from .render import OVERSAMPLING, GBuffer

__all__ = ["darken_wet", "lamp_light", "let_rain_fall", "mirror_in_puddles", "snow_over"]

SNOW = (236, 239, 246, 0)
SNOW_PX_PER_M = 8.0
SNOW_TILE_PX = 512  # 64 m, wider than any street, so it repeats only along the street
TRACKS_M = (-2.5, -1.0, 1.0, 2.5)  # of wheels, across the street
GROUND = ("road", "sidewalk", "terrain")
LAMP_HEIGHT_M = 5.8
LAMP_REACH_M = 4.5
LAMP_COLOUR = (1.25, 0.92, 0.52)
HEADLIGHT_COLOUR = (1.3, 1.25, 1.1)
STREAKS_PX = 512


def snow_over(buffer: GBuffer, surfaces: Bytes, amount: float, seed: int) -> Bytes:
    """Add snow to surfaces that face the sky: full on roofs and cars, patches on the ground, thin on trees.

    Args:
        buffer: painted.
        surfaces: uint8 (H', W'), its surface bytes.
        amount: (0, 1].
        seed: of the patches.

    Returns:
        uint8 (H', W', 4), the buffer's colours with snow; surface bytes do not change.
    """
    camera = buffer.camera
    cover = np.zeros(256, np.float32)
    cover[Light.UP << 5 : Light.PLUS_X << 5] = min(1.0, 1.3 * amount)  # roofs, cars, ledges
    cover[surface("vegetation", Light.SOFT)] = 0.35 * amount
    for light in (Light.PLUS_X, Light.PLUS_Y, Light.MINUS_X, Light.MINUS_Y):
        cover[surface("vegetation", light)] = 0.35 * amount
    on_ground = np.zeros(256, np.uint8)
    for label in GROUND:
        cover[surface(label, Light.UP)] = 0.0
        on_ground[surface(label, Light.UP)] = 255
    alpha: Bytes = np.asarray(cv2.LUT(surfaces, np.rint(255.0 * cover).astype(np.uint8)), np.uint8)
    horizon = min(max(math.ceil(camera.centre_v), 0), camera.height - 1)
    below = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, horizon], [0.0, 0.0, 1.0]])
    pose = camera.pose
    offset = np.array([[1.0, 0.0, pose.x_m], [0.0, 1.0, pose.y_m], [0.0, 0.0, 1.0]])
    to_tile = np.diag([SNOW_PX_PER_M, SNOW_PX_PER_M, 1.0]) @ offset @ camera.pixels_to_plane(pose.height_m) @ below
    thickness = cv2.warpPerspective(
        _snow_tile(seed),
        to_tile,
        (camera.width, camera.height - horizon),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_WRAP,
    )
    # Half of the patches at amount 0.5, nearly all at 1; their edges are soft.
    patches = np.clip((np.arange(256.0) / 255.0 - 1.0 + 1.05 * amount) * 4.0, 0.0, 1.0)
    ground = cv2.LUT(thickness, np.rint(255.0 * patches).astype(np.uint8))
    alpha[horizon:] |= np.asarray(cv2.bitwise_and(ground, cv2.LUT(surfaces[horizon:], on_ground)), np.uint8)
    weights = cv2.merge([alpha, alpha, alpha, np.zeros_like(alpha)])
    kept = cv2.multiply(buffer.colours, cv2.bitwise_not(weights), scale=1.0 / 255.0)
    snow = cv2.multiply(weights, np.array(SNOW, np.float64), scale=1.0 / 255.0)
    return np.asarray(cv2.add(kept, snow), np.uint8)


def darken_wet(gains: Floats, amount: float) -> None:
    """Darken wet ground: changes the gains (256, 3) by surface byte, in place."""
    for label in GROUND:
        gains[surface(label, Light.UP)] *= np.float32(1.0 - 0.45 * amount)


def mirror_in_puddles(scene: Floats, surfaces: Bytes, camera: Camera, amount: float) -> None:
    """Add blurred reflections of upright objects to wet ground: changes `scene` (H, W, 3) in place.

    The reflection is the image flipped about the horizon and, as asphalt is rough, blurred along the columns. This is
    an approximation (reconstruction); exact reflections do not matter for localisation.
    """
    height, width = scene.shape[:2]
    horizon = round(camera.centre_v / OVERSAMPLING)
    depth = min(height - horizon, horizon)
    if depth < 8:
        return
    wet = np.zeros(256, np.uint8)
    for label in GROUND:
        wet[surface(label, Light.UP)] = 255
    share = cv2.resize(cv2.LUT(surfaces, wet), (width, height), interpolation=cv2.INTER_AREA)
    mirrored = cv2.blur(scene[horizon - depth : horizon][::-1], (3, 17))
    # Water reflects most at grazing angles.
    strength = np.linspace(0.75, 0.2, depth, dtype=np.float32)[:, np.newaxis] * np.float32(amount / 255.0)
    weight = (share[horizon : horizon + depth] * strength)[..., np.newaxis]
    ground = scene[horizon : horizon + depth]
    ground += (mirrored - ground) * weight


def let_rain_fall(scene: Floats, conditions: Conditions, rng: np.random.Generator) -> None:
    """Add rain streaks as bright as the horizon: changes `scene` (H, W, 3) in place."""
    height, width = scene.shape[:2]
    row, column = rng.integers(0, STREAKS_PX, 2)
    tile = _streaks()
    streaks = tile.take(np.arange(row, row + height), axis=0, mode="wrap")
    streaks = streaks.take(np.arange(column, column + width), axis=1, mode="wrap")
    scene += (np.float32(0.3 * conditions.rain) * streaks * (scene.mean() + np.float32(40.0)))[..., np.newaxis]


def lamp_light(pose: Pose, size: tuple[int, int], conditions: Conditions, lamps: Points, walls_m: float) -> Floats:
    """Gain that street lamps and headlights add.

    Pixel positions are those of an empty street with ground, and walls at the house line. This is accurate enough for
    light that fades over metres.

    Args:
        pose: of the camera.
        size: width and height of the frame, px.
        conditions: hour, `lamp_pools`, `headlights`.
        lamps: float64 (n, 2), x and y of lamps, metres.
        walls_m: from the middle of the street to its houses.

    Returns:
        float32 (H, W, 3), RGB.
    """
    camera = Camera(pose, size[1] // 4, size[0] // 4)
    right = (np.arange(camera.width) - camera.centre_u) / camera.focal_px
    up = ((camera.centre_v - np.arange(camera.height)) / camera.focal_px)[:, np.newaxis]
    to_wall = (walls_m + np.sign(right) * pose.y_m) / np.maximum(np.abs(right), 1e-3)
    to_ground = pose.height_m / np.maximum(-up, 1e-3)
    forward = np.minimum(np.minimum(to_wall, to_ground), 120.0)  # (h, w)
    z = np.maximum(pose.height_m + up * forward, 0.0)
    x, y = pose.x_m + forward, pose.y_m - right * forward
    gains = np.zeros((*forward.shape, 3))
    near = lamps[(lamps[:, 0] > pose.x_m - 15.0) & (lamps[:, 0] < pose.x_m + 100.0)]
    for lamp_x, lamp_y in near.tolist():
        # The lamp head is 1.2 m towards the street; little light goes up.
        reach = (x - lamp_x) ** 2 + (y - lamp_y * (1.0 - 1.2 / abs(lamp_y))) ** 2 + (0.5 * (z - LAMP_HEIGHT_M)) ** 2
        pool = 1.0 / (1.0 + reach / LAMP_REACH_M**2) ** 1.5
        pool *= 1.0 / (1.0 + np.exp(2.0 * (z - LAMP_HEIGHT_M)))
        gains += pool[..., np.newaxis] * (np.array(LAMP_COLOUR) * conditions.lamp_pools)
    beam = np.exp(-forward / 13.0 - (right / 0.45) ** 2 - (np.maximum(z - 0.7, 0.0) / 1.2) ** 2)
    gains += beam[..., np.newaxis] * (np.array(HEADLIGHT_COLOUR) * conditions.headlights)
    return np.asarray(cv2.resize((gains * lamps_on(conditions)).astype(np.float32), size), np.float32)


@functools.lru_cache(maxsize=4)
def _snow_tile(seed: int) -> Bytes:
    """Snow persistence on the ground: uint8 (n, n), x along columns, y along rows, low in wheel tracks."""
    tile = fractal_tile(seed + 1).astype(np.float32)
    y = np.arange(SNOW_TILE_PX) / SNOW_PX_PER_M
    y = np.where(y > 32.0, y - 64.0, y)
    wear = sum(np.exp(-(((y - track) / 0.35) ** 2)) for track in TRACKS_M)
    worn = 0.45 * np.minimum(wear, 1.0) + 0.15 * (np.abs(y) < 5.0)
    tile *= (1.0 - worn[:, np.newaxis]).astype(np.float32)
    return np.clip(tile, 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=1)
def _streaks() -> Floats:
    """Seamless texture of falling drops, float32 (n, n), 0 to about 1."""
    rng = np.random.default_rng(0x4A1)
    drops = (rng.random((STREAKS_PX, STREAKS_PX)) < 0.004).astype(np.float32) * rng.uniform(0.3, 1.0)
    kernel = np.zeros((15, 15), np.float32)
    cv2.line(kernel, (6, 0), (8, 14), 1.0)
    padded = np.pad(drops, 8, mode="wrap")
    return np.asarray(np.minimum(cv2.filter2D(padded, -1, kernel)[8:-8, 8:-8], 1.0), np.float32)
