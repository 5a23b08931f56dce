"""The index beside a map: derived from it, checked against it, and never believed over it."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ._core import IndexFileError, PlaceIndex
from .errors import MapError
from .map_file import MapState, Pair, sweep
from .places import PlaceMap

__all__ = ["GRAPH_FROM", "MapIndex", "Progress"]

# Below this an exact scan takes a few milliseconds, less than the network, and misses nothing. Building the graph
# takes minutes for 100,000 places (benchmarks/map_scale.py), so it is done when a map is opened or built, never
# while a robot drives.
GRAPH_FROM = 50_000

Progress = Callable[[str, int, int], object]  # what is done, how much of it, of how much

WORTH_SAVING = 1000  # places; fewer are indexed again sooner than the file is written
UNKNOWN = MapState(0, -1)  # of an index that is being changed: equal to no map's

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
        self._unsaved = 0  # places that the file does not have as they are here
        self.path = index_path(place_map.file)
        self._load_or_rebuild()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def has_graph(self) -> bool:
        """Whether searches walk a graph (True) or scan every place (False)."""
        return self._index.has_graph

    @property
    def num_rows(self) -> int:
        """Rows that the index holds: its places, and those removed or replaced since it was built."""
        return len(self._index) + self._index.removed

    def graph_recall(self, sample: int = 500) -> float:
        """Share of an even sample of the map's places that a search by graph finds as an exact scan does.

        A graph loses places where thousands of frames are identical, a covered lens say; 1 without a graph.
        """
        pairs = [pair for batch in self._map.stored() for pair in batch]
        chosen = pairs[:: max(1, len(pairs) // sample)]
        if not chosen or not self.has_graph:
            return 1.0
        descriptors = self._map.decode(chosen)
        found, exact = (self._index.search(descriptors, 1, exact=exact)[1] for exact in (False, True))
        return float(np.mean(found >= exact - 1e-6))

    def search(
        self, descriptors: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """See `PlaceIndex.search`; k may be larger than any index."""
        return self._index.search(descriptors, min(k, max(1, len(self._index))))

    def add(self, pairs: Sequence[Pair]) -> None:
        """Follow `PlaceMap.add_many`, which returned `pairs`."""
        descriptors = self._map.decode(pairs)
        with self._changing(self._state.plus(pairs)):
            self._index.add([place_id for place_id, _ in pairs], descriptors)

    def remove(self, pairs: Sequence[Pair]) -> None:
        """Follow `PlaceMap.remove`, which returned `pairs`."""
        with self._changing(self._state.plus(pairs, sign=-1)):
            self._index.remove([place_id for place_id, _ in pairs])

    def replace(self, old: Pair, new: Pair) -> None:
        """Follow `PlaceMap.update`, which returned `old` and `new`."""
        descriptor = self._map.decode([new])
        with self._changing(self._state.plus([old], sign=-1).plus([new])):
            self._index.remove([old[0]])
            self._index.add([new[0]], descriptor)

    def refresh(self) -> None:
        """Follow changes that another process made. No graph is built: somebody waits for an answer."""
        if self._map.state != self._state and not self._extend():
            self._rebuild("places were removed or changed elsewhere")

    def build_graph(self) -> None:
        """Build the graph if there is none and the map is large enough for one; searches go on meanwhile."""
        if len(self._index) >= GRAPH_FROM and not self._index.has_graph:
            self._index.build_graph(progress=lambda done, total: self._tell("graph", done, total))
            self._unsaved += len(self._index)

    def save(self) -> bool:
        """Write the index file if it is not up to date; False where it cannot be written.

        Nothing is lost then but the time to build it: the map is the truth.
        """
        if self._unsaved == 0:
            return True
        # Without its graph a large index would take the place of one that has it, which took minutes to build.
        without_graph = len(self._index) >= GRAPH_FROM and not self._index.has_graph
        if self._map.read_only or self._state == UNKNOWN or (without_graph and self.path.exists()):
            return False
        sweep(self.path, "tmp", mine=False)  # what killed processes were writing
        stamp = STAMP.pack(self._state.digest.to_bytes(16, "little"), self._state.count, self._index.last_id)
        try:
            self._index.save(str(self.path), contract=self._contract_id, state=stamp)
        except IndexFileError:
            return False
        self._unsaved = 0
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
        else:
            digest, count, last_id = STAMP.unpack(stamp)
            self._state = MapState(int.from_bytes(digest, "little"), count)
            self.origin = "read"
            if last_id != self._index.last_id or count != len(self._index):
                self._rebuild("its index contradicts itself")
            elif self._index.removed > len(self._index):
                self._rebuild("most rows of its index were removed")
            elif self._map.state != self._state and not self._extend():
                self._rebuild("its index is of another state of the map")
        self.build_graph()
        # Now, and not only when it is closed: a robot that is switched off would do this work at each start.
        if self._unsaved >= WORTH_SAVING:
            self.save()

    def _extend(self) -> bool:
        """Add the places that came after the last indexed one, if that is all that has changed."""
        with self._map.snapshot(after_id=self._index.last_id) as moment:
            tail = [pair for batch in moment.batches() for pair in batch]
        if moment.state.plus(tail, sign=-1) != self._state:
            return False
        self._state = UNKNOWN
        for start in range(0, len(tail), 4096):
            batch = tail[start : start + 4096]
            self._index.add([place_id for place_id, _ in batch], self._map.decode(batch))
            self._tell("index", start + len(batch), len(tail))
        self._state = moment.state
        self.origin = f"extended by {len(tail)} places"
        self._unsaved += len(tail)
        return True

    def _rebuild(self, why: str) -> None:
        index = PlaceIndex(self._map.contract.descriptor_dim)
        state = MapState(0, 0)
        with self._map.snapshot() as moment:
            for batch in moment.batches():
                index.add([place_id for place_id, _ in batch], self._map.decode(batch))
                state = state.plus(batch)
                self._tell("index", len(index), moment.state.count)
        if state != moment.state:
            raise MapError(
                f"{self._map.path}: its descriptors are not those that were written, expected the digest that "
                "the map keeps of them; run `structvpr map verify` and restore the map from a copy"
            )
        self._index = index
        self._state = state
        self.origin = f"rebuilt: {why}"
        self._unsaved = max(1, len(index))

    @contextlib.contextmanager
    def _changing(self, after: MapState) -> Iterator[None]:
        # `after` comes from what the index takes in, not from the map: a change that went past us shows at the next
        # look. What is interrupted in here leaves an index that no state describes, and the next look rebuilds it.
        self._state = UNKNOWN
        self._unsaved += 1
        yield
        self._state = after
        if self._index.removed > max(len(self._index), WORTH_SAVING) and not self._index.has_graph:
            self._rebuild("most of its rows were removed")

    def _tell(self, what: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(what, done, total)


def index_path(map_path: Path) -> Path:
    """Where a map's index lies: `campus.places` has `campus.places.index` beside it."""
    return map_path.with_name(map_path.name + ".index")
