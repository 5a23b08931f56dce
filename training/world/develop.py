"""Turn a painted view into a frame: light, weather, air, sky, lens.

The G-buffer gives colours and surface bytes. This module cannot change labels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from .camera import Camera, Pose
from .conditions import Conditions
from .light import CLEAR_PER_M, Light, expose, fractal_tile, horizon_colour, lamps_on, light_gains, sky_colours
from .quads import LABEL_MASK, Bytes, Floats, surface
from .render import OVERSAMPLING, GBuffer
from .street import Street
from .weather import darken_wet, lamp_light, let_rain_fall, mirror_in_puddles, snow_over

__all__ = ["develop"]

CLOUD_PX_PER_HEIGHT = 90.0  # texels per horizontal distance equal to the clouds' height
NOWHERE = np.empty((0, 2))


def develop(
    buffer: GBuffer,
    conditions: Conditions,
    weather_seed: int,
    rng: np.random.Generator,
    *,
    seed: int = 0,
    street: Street | None = None,
) -> Bytes:
    """Light a painted view and turn it into a frame.

    Args:
        buffer: from `paint`.
        conditions: hour, weather, camera settings.
        weather_seed: of the clouds.
        rng: of this frame, for exposure and noise.
        seed: of the snow on the ground.
        street: its lamps make pools of light; None for no pools.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    colours, surfaces = buffer.colours, np.asarray(cv2.extractChannel(buffer.colours, 3), np.uint8)
    if conditions.snow > 0.0:
        colours = snow_over(buffer, surfaces, conditions.snow, seed)
    # Gains as bytes, 64 = 1, looked up as one 32-bit word per pixel.
    gains = np.zeros((256, 4), np.uint8)
    per_surface = light_gains(conditions).repeat(32, axis=0)  # (256, 3)
    if conditions.rain > 0.0:
        darken_wet(per_surface, conditions.rain)
    gains[:, :3] = np.clip(np.rint(per_surface * 64.0), 0, 255)
    per_pixel = gains.view(np.uint32).ravel().take(surfaces).view(np.uint8).reshape(colours.shape)
    size = (buffer.camera.width // OVERSAMPLING, buffer.camera.height // OVERSAMPLING)
    lit = cv2.resize(cv2.multiply(colours, per_pixel, scale=1.0 / 64.0), size, interpolation=cv2.INTER_AREA)
    scene = lit[..., :3].astype(np.float32)  # (H, W, 3)
    if lamps_on(conditions) > 0.0 and (conditions.lamp_pools > 0.0 or conditions.headlights > 0.0):
        paint_colours = cv2.resize(colours, size, interpolation=cv2.INTER_AREA)[..., :3]
        lamps_at = NOWHERE if street is None else street.lamps
        walls_m = 10.0 if street is None else street.section.house_line_m
        scene += paint_colours * lamp_light(buffer.camera.pose, size, conditions, lamps_at, walls_m)

    fade = (1.0 - np.exp(-conditions.haze_per_m * np.arange(256.0))).astype(np.float32)
    distances = buffer.distances[::OVERSAMPLING, ::OVERSAMPLING]
    _, is_sky = cv2.threshold(surfaces, LABEL_MASK, 255, cv2.THRESH_BINARY_INV)  # also behind twigs
    sky_share = cv2.resize(is_sky, size, interpolation=cv2.INTER_AREA).astype(np.float32)[..., np.newaxis] / 255.0
    fade_here = fade.take(distances)[..., np.newaxis]
    if conditions.haze_per_m <= CLEAR_PER_M:
        # Edges against the sky are a few levels too bright. This is kept, so that DAY and DUSK frames do not change.
        scene += (horizon_colour(conditions) - scene) * (fade_here * (1.0 - sky_share))
    else:
        scene += (horizon_colour(conditions) * (1.0 - sky_share) - scene) * fade_here
    _add_sky(scene, sky_share, buffer.camera.pose, conditions, weather_seed)
    if conditions.rain > 0.0:
        mirror_in_puddles(scene, surfaces, buffer.camera, conditions.rain)
        let_rain_fall(scene, conditions, rng)

    _, is_lamp = cv2.threshold(surfaces, surface("road", Light.LAMP) - 1, 255, cv2.THRESH_BINARY)  # any label
    lamps = cv2.resize(is_lamp, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
    return expose(scene, lamps, conditions, rng)


def _add_sky(scene: Floats, share: Floats, pose: Pose, conditions: Conditions, seed: int) -> None:
    """Add the sky to `scene` (H, W, 3), by the share of sky in each pixel (H, W, 1)."""
    height, width = scene.shape[:2]
    camera = Camera(pose, height // 2, width // 2)  # half the resolution: the sky has no edges
    # Clouds lie on a level plane above the camera: the ground's homography, upside down.
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
    clouds *= np.clip(elevations / 0.08, 0.0, 1.0)  # thin towards the horizon, none below it
    sky = sky_colours(azimuths + np.float32(math.radians(pose.heading_deg)), elevations, clouds, conditions)
    scene += cv2.resize(sky, (width, height)) * share
