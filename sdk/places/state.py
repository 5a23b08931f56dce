"""The identity of a map's contents. Every change updates it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

__all__ = ["MapState", "Pair"]

Pair = tuple[int, bytes]  # a place's id, and its descriptor as it is stored


@dataclass(frozen=True)
class MapState:
    """Identity of the set of (id, descriptor) pairs in a map.

    `digest` is the sum, modulo 2**128, of a 128-bit BLAKE2b hash of each pair. So every change updates it in constant
    time, in any order, and subtracting the newest places gives the state before them. With it an index proves that it
    is a prefix of a map.
    """

    digest: int
    count: int

    def plus(self, pairs: Iterable[Pair], sign: int = 1) -> MapState:
        """The state with (id, descriptor bytes) pairs added, or removed with sign -1."""
        digest, count = self.digest, self.count
        for pair in pairs:
            digest = (digest + sign * int.from_bytes(self.digest_of(pair), "little")) % (1 << 128)
            count += sign
        return MapState(digest, count)

    def without(self, digests: Collection[bytes]) -> MapState:
        """The state without pairs whose digests are known, see `digest_of`."""
        taken = sum(int.from_bytes(digest, "little") for digest in digests)
        return MapState((self.digest - taken) % (1 << 128), self.count - len(digests))

    @staticmethod
    def digest_of(pair: Pair) -> bytes:
        """The 16 bytes that a pair adds to `digest`, little-endian."""
        place_id, blob = pair
        return hashlib.blake2b(place_id.to_bytes(8, "little") + blob, digest_size=16).digest()

    @classmethod
    def from_meta(cls, meta: Mapping[str, str]) -> MapState:
        """The state as table `meta` holds it."""
        return cls(int(meta["digest"], 16), int(meta["count"]))

    def to_meta(self) -> dict[str, str]:
        """Keys and values for table `meta`."""
        return {"digest": f"{self.digest:032x}", "count": str(self.count)}
