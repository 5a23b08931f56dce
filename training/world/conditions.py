"""The conditions of a frame: time, season, weather and camera settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["DAY", "DUSK", "NEUTRAL_K", "SEASONS", "Conditions"]

NEUTRAL_K = 6500.0
SEASONS = ("spring", "summer", "autumn", "winter")


@dataclass(frozen=True)
class Conditions:
    """Time, season, weather and camera settings of a frame.

    Attributes:
        name: for files and tables, e.g. "day".
        hour: local solar time, [0, 24). For a camera that looks along +x, the sun rises at 6 behind it, passes on the
            left, and sets at 18 ahead.
        exposure_ev: stops relative to the day's exposure, [-4, 4].
        noise_levels: standard deviation of the sensor's noise, grey levels of 255, [0, 64].
        blur_px: standard deviation of the blur, pixels of the frame, [0, 8].
        haze_per_m: extinction coefficient, [0, 1]; 0.0005 is clear air, 0.03 is fog.
        cloud_cover: share of the sky, [0, 1].
        season: one of `SEASONS`; changes the trees.
        snow: covered share of surfaces that face the sky, [0, 1].
        rain: wet, reflecting ground and drops in the air, [0, 1].
        overcast: how far clouds remove the sun and the blue of the sky, [0, 1].
        lamp_pools: how far lamp light is limited to the surroundings of each lamp, [0, 1]; 0 is uniform light.
        headlights: of the camera's own vehicle, [0, 1].
        lit_windows: share of houses with lit windows after dark, [0, 1].
        colour_temperature_k: white balance of the camera, kelvin, [2000, 20000]; below 6500 the frame turns blue, above
            it yellow.
        motion_blur_px: length of a point's trail, pixels of the frame, [0, 32].

    Raises:
        ValueError: a value is out of range.
    """

    name: str
    hour: float = 13.0
    exposure_ev: float = 0.0
    noise_levels: float = 2.0
    blur_px: float = 0.0
    haze_per_m: float = 0.0005
    cloud_cover: float = 0.4
    season: str = "summer"
    snow: float = 0.0
    rain: float = 0.0
    overcast: float = 0.0
    lamp_pools: float = 0.0
    headlights: float = 0.0
    lit_windows: float = 1.0
    colour_temperature_k: float = NEUTRAL_K
    motion_blur_px: float = 0.0

    def __post_init__(self) -> None:
        ranges = {
            "hour": (0.0, math.nextafter(24.0, 0.0)),
            "exposure_ev": (-4.0, 4.0),
            "noise_levels": (0.0, 64.0),
            "blur_px": (0.0, 8.0),
            "haze_per_m": (0.0, 1.0),
            "cloud_cover": (0.0, 1.0),
            "snow": (0.0, 1.0),
            "rain": (0.0, 1.0),
            "overcast": (0.0, 1.0),
            "lamp_pools": (0.0, 1.0),
            "headlights": (0.0, 1.0),
            "lit_windows": (0.0, 1.0),
            "colour_temperature_k": (2000.0, 20000.0),
            "motion_blur_px": (0.0, 32.0),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:  # also catches nan
                raise ValueError(f"{name} is {getattr(self, name)}, expected {low:g} to {high:g}")
        if self.season not in SEASONS:
            raise ValueError(f"season is {self.season!r}, expected one of {', '.join(SEASONS)}")

    @property
    def sun_elevation_deg(self) -> float:
        """Elevation of the sun on an equinox at 35 degrees latitude."""
        return math.degrees(math.asin(math.cos(math.radians(35.0)) * math.sin(self._sun_angle)))

    @property
    def sun_azimuth_deg(self) -> float:
        """Azimuth of the sun: 0 along +x, counter-clockwise positive."""
        return 180.0 - math.degrees(self._sun_angle)

    @property
    def _sun_angle(self) -> float:
        return math.pi * (self.hour - 6.0) / 12.0


DAY = Conditions("day")
DUSK = Conditions("dusk", hour=18.2, exposure_ev=-0.1, noise_levels=2.5, haze_per_m=0.002, cloud_cover=0.6)
