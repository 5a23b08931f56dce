"""The index beside a map. The map is the truth; a wrong index is rebuilt."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .._core import IndexFileError, PlaceIndex
from ..arrays import Descriptors
from ..errors import MapError
from ..places.database import sweep
from ..places.place_map import PlaceMap
from ..places.state import MapState, Pair
from ..progress import Progress
from .derivation import changes_since, derive_index, follow
from .file import index_path, load_index, method_of, reason, save_index
from .graph_thread import GraphThread
from .search_costs import COSTS_FROM, search_costs
from .stamp import IndexStamp

__all__ = ["GRAPH_FROM", "MapIndex", "Progress"]

# Places. Below this a scan of sketches takes 0.07 to 0.1 ms (512 values, one core of a Zen 5), far less than the
# network. Building a graph costs about a core-minute (benchmarks/maps/scale.py).
GRAPH_FROM = 50_000

WORTH_SAVING = 1000  # places; indexing fewer again is faster than writing the file
Answer = TypeVar("Answer")
UNKNOWN = IndexStamp(MapState(0, -1), 0)  # of an index that is being changed: equals no map's stamp


class MapIndex:
    """The search structure over one map's descriptors, kept in step with it.

    Searches may run at any time; changes take turns. A separate thread builds the graph of a large index; searches work
    without it meanwhile. `close` ends that thread, and so does dropping the index.

    Attributes:
        origin: how it was made, for `map verify`: "read", "extended by 12 places" or "rebuilt: <why>".
    """

    def __init__(self, place_map: PlaceMap, progress: Progress | None = None) -> None:
        """Read the index file if the map's journal leads from it to the map; otherwise rebuild the index.

        Args:
            place_map: an open map.
            progress: called during long work, in the thread that waits for it.

        Raises:
            MapError: a descriptor in the map is damaged.
        """
        self._map = place_map
        self._progress = progress
        self._unsaved = 0  # places that the file lacks, or has in another state
        self._graph: GraphThread | None = None  # of `_index`
        self._stopped = False
        # Guards `_index` and its stamp. Nobody waits for a GraphThread while holding it.
        self._lock = threading.RLock()
        self.path = index_path(place_map.file)
        with self._lock:
            self._load_or_rebuild()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def has_graph(self) -> bool:
        """Whether searches can walk a graph."""
        return self._index.has_graph

    @property
    def graph_error(self) -> Exception | None:
        """The error that ended the graph's thread; None if there was none."""
        return self._graph.error if self._graph is not None else None

    @property
    def num_rows(self) -> int:
        """Rows of the index: its places, and those removed or replaced since it was built."""
        return len(self._index) + self._index.removed

    def method(self, k: int = 5) -> str:
        """The method of a search for k places: "scan", "sketch" or "graph"; see `PlaceIndex`."""
        return self._mended(lambda index: method_of(index, k))

    def graph_recall(self, sample: int = 500) -> float:
        """Share of a sample of the map's places that a graph search finds as an exact scan does; 1 without a graph."""
        pairs = [pair for batch in self._map.stored() for pair in batch]
        chosen = pairs[:: max(1, len(pairs) // sample)]
        if not chosen or not self.has_graph:
            return 1.0
        descriptors = self._map.decode(chosen)
        found = self._index.search(descriptors, 1, method="graph")[1]
        return float(np.mean(found >= self._index.search(descriptors, 1, exact=True)[1] - 1e-6))

    def search(self, descriptors: Descriptors, k: int) -> tuple[npt.NDArray[np.int64], Descriptors]:
        """See `PlaceIndex.search`. k may exceed the number of places. A damaged index is rebuilt first."""
        return self._mended(lambda index: index.search(descriptors, min(k, max(1, len(index)))))

    def add(self, pairs: Sequence[Pair]) -> None:
        """Apply what `PlaceMap.add_many` returned."""
        descriptors = self._map.decode(pairs)
        with self._changing(fresh=pairs):
            self._index.add([place_id for place_id, _ in pairs], descriptors)

    def remove(self, pairs: Sequence[Pair]) -> None:
        """Apply what `PlaceMap.remove` returned."""
        with self._changing(lost=pairs):
            self._index.remove([place_id for place_id, _ in pairs])

    def replace(self, old: Pair, new: Pair) -> None:
        """Apply what `PlaceMap.update` returned."""
        descriptor = self._map.decode([new])
        with self._changing(lost=[old], fresh=[new]):
            self._index.remove([old[0]])
            self._index.add([new[0]], descriptor)

    def refresh(self, *, wait: bool = True) -> None:
        """Apply changes that another process made.

        Args:
            wait: wait while the index is being saved or rebuilt; otherwise leave the changes to the next call.
        """
        if self._map.state == self._follows.state or not self._lock.acquire(blocking=wait):
            return
        try:
            if self._map.state != self._follows.state and (why := self._catch_up()) is not None:
                self._rebuild(why)
            self._start_graph()
        finally:
            self._lock.release()

    def build_graph(self) -> None:
        """Wait for the graph, if the map is large enough for one. Queries and changes continue.

        Raises:
            Exception: the error of the build. An exception that `progress` raises cancels the build.
        """
        with self._lock:
            if self._graph is not None and not self._graph.is_alive() and not self.has_graph:
                self._graph = None  # it failed or was cancelled: try again
            self._start_graph()
        while (graph := self._graph) is not None:
            graph.wait(self._tell_graph)
            if self._graph is graph:  # else the index was rebuilt meanwhile, and gets a new graph
                if graph.error is not None:
                    raise graph.error
                return

    def save(self) -> bool:
        """Write the index file if it is not up to date. False if it cannot be written, which loses only build time."""
        with self._lock:
            if self._unsaved == 0:
                return True
            if self._map.read_only or self._follows == UNKNOWN or self._is_graph_at_stake():
                return False
            sweep(self.path, "tmp", mine=False)  # unfinished files of killed processes
            self.verify()  # a damaged index must not be written
            try:
                save_index(self._index, self._map, self._follows)
            except IndexFileError:  # such as a full disk
                return False
            self._unsaved = 0
            return True

    def verify(self) -> None:
        """Check every byte of the index file, and rebuild the index if it is damaged: see `origin`."""
        self._mended(lambda index: index.verify())

    def stop(self) -> None:
        """Stop building a graph, and wait for its thread: a few hundred rows, or a save, at most."""
        with self._lock:
            self._stopped = True
            graph = self._graph
        if graph is not None:
            graph.cancel()
            graph.leave()

    def close(self) -> None:
        """Stop the thread that builds the graph, and save the index. May be called twice."""
        self.stop()
        self.save()

    # ---------------------------------------------------------------- private

    def _load_or_rebuild(self) -> None:
        try:
            self._index, self._follows = load_index(self._map)
        except IndexFileError as error:
            self._rebuild(reason(error, self._map) if self.path.exists() else "it had no index")
        else:
            self.origin = "read"
            if self._follows.state.count != len(self._index):
                self._rebuild("its index contradicts itself")
            elif self._index.removed > len(self._index):
                self._rebuild("most rows of its index were removed")
            elif self._map.state != self._follows.state and (why := self._catch_up()) is not None:
                self._rebuild(why)
        self._use_costs()
        # Saved now and not only at closing: a robot that is switched off would repeat this work at each start.
        if self._unsaved >= WORTH_SAVING:
            self.save()
        self._start_graph()

    def _catch_up(self) -> str | None:
        """Apply what changed in the map. Returns None, or why the index must be rebuilt."""
        changes = changes_since(self._map, self._follows, self._index.last_id)
        if changes is None:
            return "its index is of another state of the map"
        self._follows = UNKNOWN
        try:
            follow(self._index, self._map, changes, self._tell_index)
        except MapError:
            raise
        except (IndexFileError, ValueError) as error:
            return reason(error, self._map)
        self._follows = changes.after
        self.origin = f"extended by {len(changes.fresh)} places"
        if changes.lost:
            self.origin += f", {len(changes.lost)} taken out"
        self._unsaved += len(changes.fresh) + len(changes.lost)
        self._thin_out()
        return None

    def _rebuild(self, why: str) -> None:
        index, follows = derive_index(self._map, self._tell_index)
        if self._graph is not None:
            self._graph.cancel()  # its index is no longer used
            self._graph = None
        self._index, self._follows = index, follows
        self._use_costs()
        self.origin = f"rebuilt: {why}"
        self._unsaved = max(1, len(index))

    def _mended(self, ask: Callable[[PlaceIndex], Answer]) -> Answer:
        """Ask the index; if the part of its file that is needed is damaged, rebuild it and ask again."""
        while True:
            index = self._index
            try:
                return ask(index)
            except IndexFileError as error:
                self._replace(index, error)

    def _replace(self, index: PlaceIndex, error: Exception) -> None:
        """Rebuild the index because its file is damaged, unless another thread did so."""
        with self._lock:
            if self._index is index:
                self._rebuild(reason(error, self._map))
                self._start_graph()

    @contextlib.contextmanager
    def _changing(self, *, lost: Sequence[Pair] = (), fresh: Sequence[Pair] = ()) -> Iterator[None]:
        # The stamp comes from the changes applied to the index, not from the map, so a missed change shows at the next
        # refresh. An interruption in this block leaves an index without a valid stamp; the next refresh rebuilds it.
        with self._lock:
            rows = self.num_rows
            state, losses = self._follows.state.plus(lost, sign=-1).plus(fresh), self._follows.losses + len(lost)
            self._follows = UNKNOWN
            self._unsaved += 1
            try:
                yield
            except IndexFileError as error:
                self._replace(self._index, error)  # from the map, which already has the change
                return
            self._follows = IndexStamp(state, losses)
            self._thin_out()
            if rows < COSTS_FROM <= self.num_rows:
                self._use_costs()
            self._start_graph()

    def _thin_out(self) -> None:
        if self._index.removed > max(len(self._index), WORTH_SAVING) and not self._index.has_graph:
            self._rebuild("most of its rows were removed")

    def _use_costs(self) -> None:
        if self.num_rows >= COSTS_FROM:
            self._index.set_costs(search_costs())

    def _start_graph(self) -> None:
        """Start the thread that builds the graph, once for an index that is large enough."""
        due = len(self._index) >= GRAPH_FROM and not self._index.has_graph
        if due and self._graph is None and not self._stopped:
            self._graph = GraphThread(self._index, weakref.WeakMethod(self._graph_ended))
            self._graph.start()

    def _graph_ended(self, graph: GraphThread) -> None:
        with self._lock:
            if self._graph is not graph:
                return
            if isinstance(graph.error, IndexFileError):
                self._replace(self._index, graph.error)
            elif graph.error is None:
                self._unsaved += len(self._index)
                self.save()

    def _is_graph_at_stake(self) -> bool:
        """Whether saving would replace an index file that has a graph by one without it."""
        if len(self._index) < GRAPH_FROM or self._index.has_graph:
            return False
        try:
            saved = load_index(self._map)[0]
            saved.verify()
            return saved.has_graph
        except IndexFileError:
            return False

    def _tell_index(self, done: int, total: int) -> None:
        # The graph's thread reports nothing: nobody waits for it.
        if self._progress is not None and not isinstance(threading.current_thread(), GraphThread):
            self._progress("index", done, total)

    def _tell_graph(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress("graph", done, total)
