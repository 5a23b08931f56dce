"""The index beside a map: derived from it, checked against it, and never believed over it."""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ._core import IndexFileError, PlaceIndex
from .errors import MapError
from .map_file import MapState
from .places import PlaceMap

__all__ = ["GRAPH_FROM", "MapIndex", "Progress"]

# Below this an exact scan takes a few milliseconds, less than the network, and misses nothing. Building the graph
# takes about a minute a 100,000 places, so it is done when a map is opened or built, never while a robot drives.
GRAPH_FROM = 50_000

Progress = Callable[[str, int, int], object]  # what is done, how much of it, of how much

STAMP = struct.Struct("<16sQq")  # digest, count, last id: the index file's 32 bytes of state


class MapIndex:
    """The search structure over one map's descriptors, kept in step with it.

    Attributes:
        origin: where it came from, for `map info`: "read", "extended by 12 places" or "rebuilt: <why>".
    """

    def __init__(self, place_map: PlaceMap, progress: Progress | None = None) -> None:
        """Read the index file if it is a prefix of the map, else build the index anew.

        Args:
            place_map: an open map.
            progress: told of long work.

        Raises:
            MapError: a descriptor in the map is damaged.
        """
        self._map = place_map
        self._progress = progress
        self._dirty = False
        self.path = index_path(place_map.path)
        self._load_or_rebuild()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def has_graph(self) -> bool:
        """Whether searches walk a graph (True) or scan every place (False)."""
        return self._index.has_graph

    def search(
        self, descriptors: npt.NDArray[np.float32], k: int, *, exact: bool = False
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """See `PlaceIndex.search`."""
        return self._index.search(descriptors, k, exact=exact)

    def add(self, pairs: Sequence[tuple[int, bytes]]) -> None:
        """Follow `PlaceMap.add_many`, which returned `pairs`."""
        self._index.add([place_id for place_id, _ in pairs], self._map.decode(pairs))
        self._indexed()

    def remove(self, ids: Sequence[int]) -> None:
        """Follow `PlaceMap.remove`."""
        self._index.remove(ids)
        self._indexed()

    def replace(self, pair: tuple[int, bytes]) -> None:
        """Follow `PlaceMap.update`, which returned `pair`."""
        descriptor = self._map.decode([pair])
        self._index.remove([pair[0]])
        self._index.add([pair[0]], descriptor)
        self._indexed()

    def refresh(self) -> None:
        """Follow changes that another process made."""
        if self._map.state != self._state and not self._extend():
            self._rebuild("places were removed or changed elsewhere")

    def save(self) -> bool:
        """Write the index file if it is not up to date; False where the folder cannot be written.

        Nothing is lost then but the time to build it: the map is the truth.
        """
        if not self._dirty:
            return True
        self._sweep()
        stamp = STAMP.pack(self._state.digest.to_bytes(16, "little"), self._state.count, self._index.last_id)
        try:
            self._index.save(str(self.path), contract=self._contract_id, state=stamp)
        except IndexFileError:
            return False
        self._dirty = False
        return True

    # ---------------------------------------------------------------- private

    @property
    def _contract_id(self) -> bytes:
        return bytes.fromhex(self._map.contract.identity)

    def _load_or_rebuild(self) -> None:
        try:
            self._index, stamp = PlaceIndex.load(
                str(self.path), dim=self._map.contract.descriptor_dim, contract=self._contract_id
            )
        except IndexFileError as error:
            found = f"its index {error}" if self.path.exists() else "it had no index"
            self._rebuild(found.replace(f"{self.path}: ", ""))
            return
        digest, count, last_id = STAMP.unpack(stamp)
        self._state = MapState(int.from_bytes(digest, "little"), count)
        self._dirty = False
        self.origin = "read"
        if last_id != self._index.last_id or count != len(self._index):
            self._rebuild("its index contradicts itself")
        elif self._index.removed > len(self._index):
            self._rebuild("most rows of its index were removed")
        elif self._map.state != self._state and not self._extend():
            self._rebuild("its index is of another state of the map")
        self._build_graph()

    def _extend(self) -> bool:
        """Add the places that came after the last indexed one, if that is all that has changed."""
        target = self._map.state
        tail = [pair for batch in self._map.stored(after_id=self._index.last_id) for pair in batch]
        if target.plus(tail, sign=-1) != self._state:
            return False
        for start in range(0, len(tail), 4096):
            batch = tail[start : start + 4096]
            self._index.add([place_id for place_id, _ in batch], self._map.decode(batch))
            self._tell("index", start + len(batch), len(tail))
        self.origin = f"extended by {len(tail)} places"
        self._state = target
        self._dirty = True
        return True

    def _rebuild(self, why: str) -> None:
        while True:
            index = PlaceIndex(self._map.contract.descriptor_dim)
            state = MapState(0, 0)
            for batch in self._map.stored():
                state = state.plus(batch)
                index.add([place_id for place_id, _ in batch], self._map.decode(batch))
                self._tell("index", len(index), max(len(self._map), len(index)))
            if state == self._map.state:
                break
            if not self._map.changed():  # else another process wrote meanwhile: once more
                raise MapError(
                    f"{self._map.path}: its descriptors are not those that were written, expected the digest that "
                    "the map keeps of them; run `structvpr map verify` and restore the map from a copy"
                )
        self._index = index
        self._state = state
        self._dirty = True
        self.origin = f"rebuilt: {why}"
        self._build_graph()

    def _build_graph(self) -> None:
        if len(self._index) >= GRAPH_FROM and not self._index.has_graph:
            self._index.build_graph(progress=lambda done, total: self._tell("graph", done, total))
            self._dirty = True

    def _indexed(self) -> None:
        self._state = self._map.state
        self._dirty = True

    def _tell(self, what: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(what, done, total)

    def _sweep(self) -> None:
        """Remove what processes left behind that were killed while they wrote an index."""
        pattern = re.compile(re.escape(self.path.name) + r"\.tmp-(\d+)")
        with contextlib.suppress(OSError):
            for entry in self.path.parent.iterdir():
                match = pattern.fullmatch(entry.name)
                if match and not Path(f"/proc/{match[1]}").exists() and int(match[1]) != os.getpid():
                    entry.unlink(missing_ok=True)


def index_path(map_path: Path) -> Path:
    """Where a map's index lies: `campus.places` has `campus.places.index` beside it."""
    return map_path.with_name(map_path.name + ".index")
