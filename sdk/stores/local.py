"""A map file and its index, kept in step."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..answers import Match, Place
from ..arrays import Descriptors
from ..contract import ModelContract
from ..errors import MapError
from ..geography import Geography
from ..index.file import WAYS
from ..index.map_index import MapIndex
from ..places.place_map import PlaceMap
from ..progress import Progress
from ..stopwatch import timed

__all__ = ["LocalStore"]


class LocalStore:
    """Places in one SQLite file, searched through the index beside it. See `PlaceStore`.

    Any number of processes may search one map. One at a time may change it; the others see it after `follow`.

    Attributes:
        map: the map file, the single source of truth.
        index: derived from the map. A thread builds the graph of a large map; searches work without it meanwhile.
            `index.build_graph()` waits for the graph.
    """

    def __init__(
        self,
        path: Path,
        contract: ModelContract,
        *,
        create: bool = False,
        geography: Geography | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Open a map; see `open_store`."""
        if create and not path.exists():
            try:
                PlaceMap.create(path, contract, geography=geography or "local").close()
            except MapError:
                if not path.exists():  # else another process was faster
                    raise
        self._sync = threading.Lock()
        self._closed = False
        with contextlib.ExitStack() as on_failure:
            self.map = PlaceMap.open(path)
            on_failure.callback(self.map.close)
            self.map.require_model(contract)
            self.map.require_geography(geography)
            self.index = MapIndex(self.map, progress)
            on_failure.pop_all()

    @property
    def location(self) -> str:
        return str(self.map.path)

    @property
    def geography(self) -> Geography:
        return self.map.geography

    def __len__(self) -> int:
        return len(self.map)

    def search(
        self, descriptor: Descriptors, k: int, *, timings_ms: MutableMapping[str, float] | None = None
    ) -> list[Match]:
        timings_ms = {} if timings_ms is None else timings_ms
        matches, found = self._search_once(descriptor, k, timings_ms)
        if len(matches) < found:  # a place was removed between search and look-up: try again
            self.follow()
            matches, _ = self._search_once(descriptor, k, timings_ms)
        return matches

    def places(self, ids: Sequence[int]) -> list[Place]:
        return self.map.places(ids)

    def add(self, places: Sequence[Place], descriptors: Descriptors) -> list[Place]:
        with self._changing():
            pairs = self.map.add_many(places, descriptors)
            self.index.add(pairs)
        return [replace(place, id=place_id) for place, (place_id, _) in zip(places, pairs, strict=True)]

    def remove(self, ids: Sequence[int]) -> None:
        with self._changing():
            self.index.remove(self.map.remove(ids))

    def update(self, place: Place, descriptor: Descriptors | None = None) -> None:
        with self._changing():
            old, new = self.map.update(place, descriptor)
            if descriptor is not None:
                self.index.replace(old, new)

    def search_method(self, k: int = 5) -> str:
        return WAYS[self.index.method(k)]

    def wait_until_ready(self) -> None:
        self.index.build_graph()

    def follow(self) -> None:
        # While this process changes the map there is no other writer, so there is nothing to wait for.
        if self._sync.acquire(blocking=False):
            try:
                self.map.changed()
                self.index.refresh(wait=False)
            finally:
                self._sync.release()

    def close(self) -> None:
        with self._sync:
            if self._closed:
                return
            self._closed = True
            try:
                self.index.close()
            finally:
                self.map.close()

    # ---------------------------------------------------------------- private

    def _search_once(
        self, descriptor: Descriptors, k: int, timings_ms: MutableMapping[str, float]
    ) -> tuple[list[Match], int]:
        """The matches, and the number of places that the index found. Places removed since are left out."""
        with timed(timings_ms, "search"):
            ids, similarities = self.index.search(descriptor, k)
        with timed(timings_ms, "lookup"):
            similarity_of = dict(zip(ids.tolist(), similarities.tolist(), strict=True))
            places = self.map.places(list(similarity_of))
            return [Match(place, similarity_of[place.id]) for place in places if place.id is not None], len(ids)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with self._sync:
            self.map.claim()
            self.map.changed()
            self.index.refresh()
            yield
