"""Drives along a street: a reference, and returns at night, in snow or on another lane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .conditions import Conditions

__all__ = ["CONDITIONS", "Drive", "draw_queries", "draw_reference"]

Figures = dict[str, float | str]

# Conditions that are hard by appearance have a weight above 1.
WEIGHTS = {"night": 2.0, "wetnight": 1.5, "snow": 1.5, "dark": 1.5}
OTHER_LANE_SHARE = 0.2


@dataclass(frozen=True)
class Drive:
    """One drive.

    Attributes:
        name: of the traverse: the conditions and, for queries, a number.
        conditions: hour, weather, camera.
        start_m: x of the first frame.
        lateral_m: mean offset from the middle of the street, left positive.
        lateral_jitter_m: standard deviation of the offset.
        heading_deg: mean heading.
        heading_jitter_deg: standard deviation of the heading.
        height_m: of the camera.
        pitch_deg: of the camera.
        moving_per_100m: see `World.render`.
        traverse_seed: see `World.render`.
    """

    name: str
    conditions: Conditions
    start_m: float
    lateral_m: float
    lateral_jitter_m: float
    heading_deg: float
    heading_jitter_deg: float
    height_m: float
    pitch_deg: float
    moving_per_100m: float
    traverse_seed: int


def draw_reference(rng: np.random.Generator) -> Drive:
    """A drive by day on the right lane, in moderate conditions."""
    figures: Figures = {
        "hour": rng.uniform(9.0, 16.0),
        "cloud_cover": rng.uniform(0.2, 0.7),
        "noise_levels": rng.uniform(1.0, 3.0),
        "season": str(rng.choice(["summer", "summer", "spring"])),
    }
    return _drive(rng, "reference", figures, start_m=0.0, lateral_m=-1.2, jitter=0.2)


def draw_queries(rng: np.random.Generator, count: int, spacing_m: float) -> list[Drive]:
    """Draw `count` drives. Conditions repeat only when `CONDITIONS` has no others left."""
    names, weights = list(CONDITIONS), np.array([WEIGHTS.get(name, 1.0) for name in CONDITIONS])
    drives: list[Drive] = []
    while len(drives) < count:
        drawn = rng.choice(names, min(count - len(drives), len(names)), replace=False, p=weights / weights.sum())
        for name in drawn.tolist():
            figures: Figures = {
                "cloud_cover": rng.uniform(0.1, 0.9),
                "hour": rng.uniform(8.5, 16.5),
                "noise_levels": rng.uniform(1.0, 4.0),
                "exposure_ev": rng.normal(0.0, 0.25),
                "colour_temperature_k": 6500.0 * float(np.exp(rng.normal(0.0, 0.1))),
                **CONDITIONS[name](rng),
            }
            # Most keep the lane. Another lane may be combined with another hour or season.
            lateral = -1.2 + rng.normal(0.0, 0.5)
            if name == "lane" or rng.random() < OTHER_LANE_SHARE:
                lateral = rng.uniform(1.0, 2.4)
            if name == "roadside":
                lateral = -rng.uniform(2.8, 3.4)
            turned = rng.uniform(7.0, 15.0) * rng.choice((-1.0, 1.0)) if name == "turned" else 0.0
            moving = rng.uniform(4.0, 8.0) if name == "busy" else rng.uniform(0.3, 3.0)
            drive = _drive(
                rng,
                f"{name}-{len(drives) + 1}",
                figures,
                start_m=rng.uniform(0.2, 0.8) * spacing_m,
                lateral_m=lateral,
                jitter=0.4,
                heading_deg=turned,
                moving_per_100m=moving,
            )
            drives.append(drive)
    return drives


def _drive(
    rng: np.random.Generator,
    name: str,
    figures: Figures,
    *,
    start_m: float,
    lateral_m: float,
    jitter: float,
    heading_deg: float = 0.0,
    moving_per_100m: float = 0.6,
) -> Drive:
    mapping = name == "reference"
    return Drive(
        name=name,
        conditions=Conditions(name, **figures),  # type: ignore[arg-type]
        start_m=start_m,
        lateral_m=lateral_m,
        lateral_jitter_m=jitter,
        heading_deg=heading_deg,
        heading_jitter_deg=1.0 if mapping else rng.uniform(1.0, 5.0),
        height_m=1.5 if mapping else rng.uniform(1.2, 2.1),
        pitch_deg=0.0 if mapping else rng.normal(0.0, 1.2),
        moving_per_100m=moving_per_100m,
        traverse_seed=int(rng.integers(1 << 30)),
    )


def _night(rng: np.random.Generator) -> Figures:
    return {
        "hour": float(rng.choice([rng.uniform(22.0, 23.99), rng.uniform(0.0, 4.0)])),
        "exposure_ev": rng.uniform(0.2, 1.7),
        "noise_levels": rng.uniform(4.0, 14.0),
        "haze_per_m": rng.uniform(0.001, 0.005),
        "lamp_pools": rng.uniform(0.5, 1.0),
        "headlights": rng.uniform(0.0, 0.8),
        "lit_windows": rng.uniform(0.05, 0.7),
        "motion_blur_px": rng.uniform(0.0, 4.0),
        "colour_temperature_k": rng.uniform(4500.0, 8500.0),
    }


def _dusk(rng: np.random.Generator) -> Figures:
    return {
        "hour": rng.uniform(17.9, 18.6),
        "exposure_ev": rng.uniform(-0.3, 0.5),
        "noise_levels": rng.uniform(2.0, 7.0),
        "haze_per_m": rng.uniform(0.001, 0.004),
        "lamp_pools": rng.uniform(0.0, 0.7),
        "lit_windows": rng.uniform(0.3, 1.0),
        "season": str(rng.choice(["summer", "autumn", "winter"])),
    }


def _snow(rng: np.random.Generator) -> Figures:
    return {
        "season": "winter",
        "snow": rng.uniform(0.5, 1.0),
        "overcast": rng.uniform(0.3, 1.0),
        "haze_per_m": rng.uniform(0.002, 0.012),
        "exposure_ev": rng.uniform(-0.3, 0.4),
    }


def _winter(rng: np.random.Generator) -> Figures:
    return {"season": "winter", "hour": rng.uniform(7.2, 16.8), "overcast": rng.uniform(0.0, 0.8)}


def _rain(rng: np.random.Generator) -> Figures:
    return {
        "rain": rng.uniform(0.5, 1.0),
        "overcast": rng.uniform(0.8, 1.0),
        "haze_per_m": rng.uniform(0.004, 0.012),
        "exposure_ev": rng.uniform(-0.5, 0.2),
        "blur_px": rng.uniform(0.0, 1.2),
    }


def _wet_night(rng: np.random.Generator) -> Figures:
    return {**_night(rng), "rain": rng.uniform(0.4, 1.0), "overcast": 1.0, "haze_per_m": rng.uniform(0.003, 0.01)}


def _fog(rng: np.random.Generator) -> Figures:
    return {
        "haze_per_m": rng.uniform(0.012, 0.04),
        "overcast": rng.uniform(0.5, 1.0),
        "cloud_cover": 1.0,
        "season": str(rng.choice(["summer", "autumn", "winter"])),
    }


def _autumn(rng: np.random.Generator) -> Figures:
    return {"season": "autumn", "hour": rng.uniform(7.5, 17.0), "haze_per_m": rng.uniform(0.0005, 0.004)}


def _spring(rng: np.random.Generator) -> Figures:
    return {"season": "spring", "overcast": rng.uniform(0.0, 1.0)}


def _glare(rng: np.random.Generator) -> Figures:
    return {"exposure_ev": rng.uniform(0.8, 1.6), "hour": rng.uniform(16.5, 17.6), "cloud_cover": rng.uniform(0.0, 0.3)}


def _dark(rng: np.random.Generator) -> Figures:
    return {"exposure_ev": rng.uniform(-2.4, -1.2), "noise_levels": rng.uniform(3.0, 8.0)}


def _day(rng: np.random.Generator) -> Figures:
    return {}


CONDITIONS: dict[str, Callable[[np.random.Generator], Figures]] = {
    "day": _day,
    "lane": _day,
    "roadside": _day,
    "turned": _day,
    "busy": _day,
    "dusk": _dusk,
    "night": _night,
    "wetnight": _wet_night,
    "snow": _snow,
    "winter": _winter,
    "rain": _rain,
    "fog": _fog,
    "autumn": _autumn,
    "spring": _spring,
    "glare": _glare,
    "dark": _dark,
}
