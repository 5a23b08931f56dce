"""Sources of frames: frames in order, each with what is known about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ..geography import Geography, Position

__all__ = ["FrameInfo", "Sighting", "Source"]

AnySource = TypeVar("AnySource", bound="Source")


@dataclass(frozen=True)
class FrameInfo:
    """What is known about a frame beside its pixels.

    Attributes:
        image: where the frame lies, as its source names it.
        name: for people; may be empty.
        position: (x, y, z) in metres or (latitude deg, longitude deg, altitude m), as the source declares; None if
            unknown.
        heading_deg: direction of view, counter-clockwise from +x, or clockwise from north in WGS-84.
        timestamp_s: when the frame was taken, s.
        traverse: the drive that it belongs to.
    """

    image: str = ""
    name: str = ""
    position: Position | None = None
    heading_deg: float | None = None
    timestamp_s: float | None = None
    traverse: str = ""

    @property
    def label(self) -> str:
        """The name; without one the image."""
        return self.name or self.image


@dataclass(frozen=True)
class Sighting:
    """A frame, uint8 (H, W, 3) RGB, and what is known about it."""

    frame: npt.NDArray[np.uint8]
    info: FrameInfo


class Source(Protocol):
    """Frames in order, read one by one: files, a video or a camera. Use it in a `with` statement, or close it.

    A class of your own may inherit from this one. It then writes `__iter__`, and overrides what else differs.

    Attributes:
        geography: what the positions are; None if there are none.
        num_frames: how many frames there will be; None if that cannot be told, as for a camera.
    """

    geography: Geography | None = None
    num_frames: int | None = None

    def __iter__(self) -> Iterator[Sighting]:
        """Read the frames. Raises FrameError at a frame that cannot be read."""
        ...

    def close(self) -> None:
        """Release what the source holds. May be called twice."""
        return

    def __enter__(self: AnySource) -> AnySource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
