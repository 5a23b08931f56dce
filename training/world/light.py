"""Light: sun, sky, haze and lamps; and the lens and sensor that capture it.

The model is not physical. A colour is the surface's colour times the gain of its `Light`, in display space. This is
cheap and looks right from noon to dusk. Geometry and labels do not change.
"""

from __future__ import annotations

import functools
import math
from enum import IntEnum

import cv2
import numpy as np
import numpy.typing as npt

from .conditions import NEUTRAL_K, Conditions

__all__ = [
    "CLEAR_PER_M",
    "Light",
    "expose",
    "fractal_tile",
    "horizon_colour",
    "lamps_on",
    "light_gains",
    "sky_colours",
]

Floats = npt.NDArray[np.float32]
Row = tuple[float, float, float]

CLEAR_PER_M = 0.002  # haze above this hides the sky
VEIL_HEIGHT_M = 60.0
LAMPS_ON_BELOW_DEG = 1.0  # sun elevation at which windows and street lamps light up
NOISE_TILE_PX = 1024
FRACTAL_TILE_PX = 512


# Colours by sun elevation (degrees): night, late dusk, sunset, morning, noon. RGB, 0 to 255, or gains.
ELEVATIONS_DEG = (-14.0, -5.0, 0.0, 10.0, 40.0)
ZENITH: tuple[Row, ...] = ((10, 12, 28), (36, 48, 92), (92, 118, 172), (106, 150, 210), (92, 146, 218))
HORIZON: tuple[Row, ...] = ((24, 24, 36), (116, 100, 116), (206, 178, 160), (206, 214, 220), (208, 222, 234))
GLOW: tuple[Row, ...] = ((0, 0, 0), (110, 40, 0), (80, 44, 0), (16, 12, 0), (0, 0, 0))
CLOUD: tuple[Row, ...] = ((22, 22, 32), (84, 72, 88), (190, 160, 156), (232, 230, 228), (246, 247, 248))
SKY_LIGHT: tuple[Row, ...] = (
    (0.07, 0.08, 0.13),
    (0.26, 0.27, 0.36),
    (0.48, 0.47, 0.52),
    (0.62, 0.64, 0.70),
    (0.66, 0.68, 0.74),
)
SUN_LIGHT: tuple[Row, ...] = (
    (0, 0, 0),
    (0, 0, 0),
    (0.20, 0.10, 0.04),
    (0.50, 0.42, 0.30),
    (0.52, 0.50, 0.44),
)


class Light(IntEnum):
    """How a surface is lit. Three bits of the surface byte, so at most eight values."""

    OWN = 0  # the sky, whose colour is computed
    UP = 1  # ground, roofs, bonnets
    PLUS_X = 2  # walls, by the axis nearest to their normal
    PLUS_Y = 3
    MINUS_X = 4
    MINUS_Y = 5
    SOFT = 6  # leaves and people, without direction
    LAMP = 7  # windows, lamps and signs, lit from inside after dark; must stay the highest


NORMALS = {
    Light.UP: (0.0, 0.0, 1.0),
    Light.PLUS_X: (1.0, 0.0, 0.0),
    Light.PLUS_Y: (0.0, 1.0, 0.0),
    Light.MINUS_X: (-1.0, 0.0, 0.0),
    Light.MINUS_Y: (0.0, -1.0, 0.0),
}


def light_gains(conditions: Conditions) -> Floats:
    """Gain of a surface's colour for each `Light`.

    Returns:
        float32 (8, 3), indexed by `Light`, RGB, 1 = the colour as painted. The row of `Light.OWN` is 0.
    """
    sky, sun = _at_hour(conditions, SKY_LIGHT), _at_hour(conditions, SUN_LIGHT)
    sun *= np.float32((1.0 - 0.6 * conditions.cloud_cover) * (1.0 - conditions.overcast))
    sky = sky + (sky.mean() * np.float32(1.05) - sky) * np.float32(conditions.overcast)
    elevation, azimuth = math.radians(conditions.sun_elevation_deg), math.radians(conditions.sun_azimuth_deg)
    towards_sun = np.array(
        [
            math.cos(elevation) * math.cos(azimuth),
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ]
    )
    street_lamps = np.array([0.10, 0.07, 0.03]) * (lamps_on(conditions) * (1.0 - 0.8 * conditions.lamp_pools))
    gains = np.zeros((8, 3), np.float32)
    for light, normal in NORMALS.items():
        # A wall gets half of the ground's sky light, and light reflected from the ground.
        gains[light] = sky * (1.0 if light is Light.UP else 0.85) + sun * max(0.0, float(towards_sun @ normal))
    gains[Light.SOFT] = sky * 0.9 + sun * 0.4
    gains[1:] += street_lamps
    lamp = np.array([3.2, 2.5, 1.5])
    gains[Light.LAMP] = gains[Light.SOFT] * (1.0 - lamps_on(conditions)) + lamp * lamps_on(conditions)
    return gains


def sky_colours(azimuths: Floats, elevations: Floats, clouds: Floats, conditions: Conditions) -> Floats:
    """Colour of the sky: bluer upwards, a glow around a low sun, clouds.

    Args:
        azimuths: float32 (h, w), radians, 0 along +x, counter-clockwise positive.
        elevations: float32 (h, w), radians.
        clouds: float32 (h, w), thickness in [0, 1].
        conditions: hour and weather.

    Returns:
        float32 (h, w, 3), RGB, 255 = white at the day's exposure; values may be higher.
    """
    horizon, zenith, glow, cloud = (_at_hour(conditions, table) for table in (HORIZON, ZENITH, GLOW, CLOUD))
    height = np.sqrt(np.clip(elevations / np.float32(math.pi / 3.0), 0.0, 1.0))[..., np.newaxis]  # (h, w, 1)
    sky = horizon + (zenith - horizon) * height  # (h, w, 3)
    off_sun = azimuths - np.float32(math.radians(conditions.sun_azimuth_deg))
    off_sun -= np.float32(2.0 * math.pi) * np.rint(off_sun / np.float32(2.0 * math.pi))
    sky += glow * np.exp(-((off_sun / 0.9) ** 2) - (elevations / 0.25) ** 2)[..., np.newaxis]
    sky += (cloud - sky) * (clouds[..., np.newaxis] * np.float32(0.8))
    if conditions.overcast > 0.0:
        cover = horizon_colour(conditions) * (np.float32(0.95) - np.float32(0.2) * clouds[..., np.newaxis])
        sky += (cover - sky) * np.float32(conditions.overcast)
    veil = max(conditions.haze_per_m - CLEAR_PER_M, 0.0) * VEIL_HEIGHT_M
    if veil > 0.0:  # fog hides the sky, most at low elevations
        through = np.exp(-np.float32(veil) / np.maximum(np.sin(elevations), np.float32(0.05)))[..., np.newaxis]
        sky = horizon_colour(conditions) + (sky - horizon_colour(conditions)) * through
    return np.asarray(sky, np.float32)


def horizon_colour(conditions: Conditions) -> Floats:
    """Colour of the sky at the horizon and of distant objects in haze: float32 (3,), RGB."""
    colour = _at_hour(conditions, HORIZON)
    return np.asarray(colour + (colour.mean() * np.float32(0.92) - colour) * np.float32(conditions.overcast))


def expose(scene: Floats, lamps: Floats, conditions: Conditions, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Apply lens and sensor: glow around lamps, blur, vignette, exposure, noise.

    Args:
        scene: float32 (H, W, 3), RGB, 255 = white at the day's exposure. Overwritten.
        lamps: float32 (H, W), share of each pixel that is lit from inside.
        conditions: camera settings.
        rng: of this frame.

    Returns:
        uint8 (H, W, 3).
    """
    height, width = lamps.shape
    if lamps_on(conditions) > 0.0:
        quarter = cv2.resize(lamps, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        glow = cv2.resize(cv2.GaussianBlur(quarter, (0, 0), 2.5), (width, height))
        scene += glow[..., np.newaxis] * np.array([80.0, 62.0, 34.0], np.float32) * np.float32(lamps_on(conditions))
    if conditions.blur_px > 0.0:
        scene = np.asarray(cv2.GaussianBlur(scene, (0, 0), conditions.blur_px), np.float32)
    if conditions.colour_temperature_k != NEUTRAL_K:
        # A power law approximates Planck's law (reconstruction).
        warm = (conditions.colour_temperature_k / NEUTRAL_K) ** 0.45
        scene *= np.array([warm**0.5, 1.0, warm**-1.0], np.float32)
    # A camera's automatic exposure varies.
    gain = 2.0 ** (conditions.exposure_ev + rng.normal(0.0, 0.06))
    scene *= _vignette(height, width) * np.float32(gain)
    row, column = rng.integers(0, NOISE_TILE_PX, 2)
    if conditions.motion_blur_px > 0.0:
        scene = np.asarray(cv2.filter2D(scene, -1, _trail(conditions.motion_blur_px, rng.normal(0.0, 0.5))), np.float32)
    rows, columns = np.arange(row, row + height), np.arange(column, column + width)
    noise = _noise_tile().take(rows, axis=0, mode="wrap").take(columns, axis=1, mode="wrap")
    noise *= np.float32(conditions.noise_levels)
    scene += noise
    np.rint(scene, out=scene)
    return np.clip(scene, 0.0, 255.0, out=scene).astype(np.uint8)


def _trail(length_px: float, angle: float) -> Floats:
    """Kernel of a straight trail, float32 (n, n), sum 1; `angle` in radians from the horizontal."""
    half = max(math.ceil(length_px / 2.0), 1)
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    reach = np.array([math.cos(angle), math.sin(angle)]) * (length_px / 2.0)
    ends = [np.rint((half + sign * reach) * 16.0).astype(int).tolist() for sign in (-1.0, 1.0)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_8, 4)
    return np.asarray(kernel / kernel.sum(), np.float32)


@functools.lru_cache(maxsize=4)
def fractal_tile(seed: int) -> npt.NDArray[np.uint8]:
    """Seamless noise of all scales for clouds and asphalt: uint8 (n, n), all values equally often."""
    rng = np.random.default_rng([seed, 0xC10D])
    tile = np.zeros((FRACTAL_TILE_PX, FRACTAL_TILE_PX))
    for octave in range(2, 7):
        coarse = rng.normal(size=(2**octave, 2**octave))
        # Wrap padding before the resize and a crop after it remove the seam.
        padded = np.pad(coarse, 2, mode="wrap")
        scale = FRACTAL_TILE_PX // 2**octave
        fine = cv2.resize(padded, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        tile += fine[2 * scale : -2 * scale, 2 * scale : -2 * scale] * 0.6**octave
    ranks = np.argsort(np.argsort(tile, axis=None, kind="stable"), kind="stable")
    return (ranks.reshape(tile.shape) * 255 // (tile.size - 1)).astype(np.uint8)


@functools.lru_cache(maxsize=1)
def _noise_tile() -> Floats:
    # A random crop of stored noise: drawing new normal numbers would take longer than painting the frame.
    return np.random.default_rng(0x5E50).standard_normal((NOISE_TILE_PX, NOISE_TILE_PX, 3), dtype=np.float32)


@functools.lru_cache(maxsize=4)
def _vignette(height: int, width: int) -> Floats:
    y, x = np.mgrid[-1.0 : 1.0 : height * 1j, -1.0 : 1.0 : width * 1j]
    return np.asarray((1.0 - 0.12 * (x**2 + y**2))[..., np.newaxis], np.float32)


def _at_hour(conditions: Conditions, colours: tuple[Row, ...]) -> Floats:
    """Interpolate a table above at the sun's elevation: float32 (3,)."""
    channels = np.array(colours, np.float64).T
    elevation = conditions.sun_elevation_deg
    return np.array([np.interp(elevation, ELEVATIONS_DEG, channel) for channel in channels], np.float32)


def lamps_on(conditions: Conditions) -> float:
    """How far lamps and windows are lit: 0 by day, 1 by night, between them at dusk."""
    return float(np.clip((LAMPS_ON_BELOW_DEG - conditions.sun_elevation_deg) / 3.0, 0.0, 1.0))
