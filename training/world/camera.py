"""The camera: its pose and its projection.

World axes: x along the street, y to the left, z up, metres. Camera axes: right, down, forward. Pixels: columns u and
rows v; pixel centres have integer coordinates.

Source: pin-hole camera without distortion, Hartley and Zisserman, Multiple View Geometry (2nd ed., chapter 6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .quads import Floats, Points

__all__ = ["CAMERA_HEIGHT_M", "Camera", "Pose"]

FIELD_OF_VIEW_DEG = 75.0  # horizontal
CAMERA_HEIGHT_M = 1.5


@dataclass(frozen=True)
class Pose:
    """Position and direction of the camera.

    Attributes:
        x_m: along the street.
        y_m: across it, left positive, 0 at the middle.
        heading_deg: 0 along +x, counter-clockwise positive.
        height_m: over the ground, > 0.
        pitch_deg: upwards positive, small; rendered as an image shift, like a shift lens.
    """

    x_m: float
    y_m: float
    heading_deg: float = 0.0
    height_m: float = CAMERA_HEIGHT_M
    pitch_deg: float = 0.0


class Camera:
    """An upright pin-hole camera along the pose's heading."""

    def __init__(self, pose: Pose, height: int, width: int):
        self.pose, self.height, self.width = pose, height, width
        self.focal_px = 0.5 * width / math.tan(math.radians(FIELD_OF_VIEW_DEG / 2.0))
        self.centre_u, self.centre_v = (width - 1) / 2.0, (height - 1) / 2.0
        self.centre_v += self.focal_px * math.tan(math.radians(pose.pitch_deg))
        heading = math.radians(pose.heading_deg)
        self.cos, self.sin = math.cos(heading), math.sin(heading)
        self.intrinsics = np.array(
            [[self.focal_px, 0.0, self.centre_u], [0.0, self.focal_px, self.centre_v], [0.0, 0.0, 1.0]]
        )

    def to_camera(self, points: Floats) -> Points:
        """World (…, 3) to right, down, forward (…, 3), metres."""
        x, y = points[..., 0] - self.pose.x_m, points[..., 1] - self.pose.y_m
        right, forward = x * self.sin - y * self.cos, x * self.cos + y * self.sin
        return np.stack([right, self.pose.height_m - points[..., 2], forward], axis=-1)

    def project(self, points: Points) -> Points:
        """Right, down, forward (…, 3) to pixels (…, 2); forward must be positive."""
        centre = (self.centre_u, self.centre_v)
        return np.asarray(points[..., :2] / points[..., 2:] * self.focal_px + centre)

    def pixels_to_plane(self, down_m: float) -> Points:
        """Homography (3, 3) from pixels to x and y, relative to the camera, on a level plane below it."""
        to_world = np.array([[self.sin, 0.0, self.cos], [-self.cos, 0.0, self.sin], [0.0, 1.0 / down_m, 0.0]])
        return to_world @ np.linalg.inv(self.intrinsics)
