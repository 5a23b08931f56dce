"""The moment of a map that an index follows."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..places.state import MapState

__all__ = ["IndexStamp"]

LAYOUT = struct.Struct("<16sQQ")  # digest, count, losses: the 32 bytes of state in an index file


@dataclass(frozen=True)
class IndexStamp:
    """A state of a map, and the number of losses in its journal at that moment."""

    state: MapState
    losses: int

    def to_bytes(self) -> bytes:
        """The 32 bytes that an index file holds."""
        return LAYOUT.pack(self.state.digest.to_bytes(16, "little"), self.state.count, self.losses)

    @classmethod
    def from_bytes(cls, data: bytes) -> IndexStamp:
        """Read what `to_bytes` wrote."""
        digest, count, losses = LAYOUT.unpack(data)
        return cls(MapState(int.from_bytes(digest, "little"), count), losses)
