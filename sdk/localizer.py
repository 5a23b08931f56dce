"""A frame in, a place out."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, MutableMapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from .answers import Localization, Place
from .backends import Backend, open_backend
from .contract import ModelContract
from .describer import Describer
from .errors import EngineError, MapError, UsageError
from .frames.source import Source
from .geography import Geography
from .index.map_index import MapIndex
from .places.place_map import PlaceMap, to_id
from .stopwatch import timed
from .stores import Progress, open_store
from .stores.apart import search_apart
from .stores.build import fill_store
from .stores.local import LocalStore

__all__ = ["Localizer"]


class Localizer:
    """Recognises places with a network and a map of descriptors that it made.

        with sdk.Localizer("model.onnx", "campus.places") as localizer:
            answer = localizer.query(frame)

    Safe to use from several threads. Any number of processes may query one map. One at a time may change it, and the
    others see its changes at their next query.

    Attributes:
        store: the places; see `sdk.stores`.
    """

    def __init__(
        self,
        engine: str | os.PathLike[str] | Backend,
        map: str | os.PathLike[str] | None = None,
        *,
        colour: str = "rgb",
        create: bool = False,
        geography: Geography | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Load the network, open the map, and warm both up.

        Args:
            engine: a model file, or a loaded `Backend`, which stays yours to close.
            map: the map file; None for `<model stem>.places` beside the model.
            colour: channel order of the frames that you will pass, "rgb" or "bgr".
            create: make the map if it does not exist.
            geography: what the map's positions are: "local" (x, y, z in metres) or "wgs84" (latitude, longitude,
                altitude). None for what the map says, or "local" for a new map.
            threads: CPU threads of one inference; None for the runtime's choice.
            progress: called with (what, done, total) during long work.

        Raises:
            EngineError: the network cannot be loaded.
            ContractError: the map was made with another model.
            MapError: the map is missing, damaged or newer than this library.
            UsageError: an argument is out of range, or no map is named beside a `Backend`.
        """
        self._sync = threading.Lock()
        self._closed = False
        with contextlib.ExitStack() as on_failure:
            self._owns_backend = isinstance(engine, (str, os.PathLike))
            if isinstance(engine, (str, os.PathLike)):
                self._backend = open_backend(engine, threads=threads)
                on_failure.callback(self._backend.close)
                map = Path(engine).with_suffix(".places") if map is None else map
            else:
                self._backend = engine
            if map is None:
                raise UsageError("no map was named; pass its path, as a Backend has no default map")
            self._describer = Describer(self._backend, colour)
            self.store = open_store(map, self.contract, create=create, geography=geography, progress=progress)
            on_failure.callback(self.store.close)
            self._describer.warm_up()
            on_failure.pop_all()

    @property
    def contract(self) -> ModelContract:
        """The model that describes frames here."""
        return self._backend.contract

    @property
    def map(self) -> PlaceMap:
        """The map file. Raises UsageError if the store is not a local one."""
        return self._local_store().map

    @property
    def index(self) -> MapIndex:
        """The index beside the map file. Raises UsageError if the store is not a local one."""
        return self._local_store().index

    def __len__(self) -> int:
        """Number of places in the map."""
        return len(self.store)

    # ---------------------------------------------------------------- asking

    def query(
        self, frame: npt.NDArray[np.uint8], k: int = 5, *, apart_m: float | None = None, colour: str | None = None
    ) -> Localization:
        """Say where a frame was taken.

        Args:
            frame: uint8 (H, W, 3), both sides >= 32 px.
            k: matches wanted, at least 1. Fewer are returned if the map, or `apart_m`, has no more.
            apart_m: drop each match within this many metres of a better one, so that the matches are different
                places and not neighbouring frames of one place.
            colour: channel order of this frame, if it differs from the constructor's.

        Returns:
            The answer. On an empty map it has no matches.

        Raises:
            FrameError: the frame cannot be described.
            UsageError: k is below 1, or apart_m is negative.
            MapError: the map cannot be read, or with `apart_m` a place has no position.
            EngineError: the network failed.
        """
        if not (_is_whole(k) and k >= 1):
            raise UsageError(f"k is {k!r}, expected a whole number >= 1")
        if not (apart_m is None or (_is_real(apart_m) and apart_m >= 0)):
            raise UsageError(f"apart_m is {apart_m!r}, expected metres >= 0, or None")
        timings_ms: dict[str, float] = {}
        with timed(timings_ms, "total"):
            descriptor = self._describe(frame, colour, timings_ms)
            with timed(timings_ms, "search"):
                self.store.follow()
            matches = self.store.search(descriptor, k, timings_ms=timings_ms)
            if apart_m is not None:
                matches = search_apart(self.store, descriptor, matches, k, apart_m, timings_ms)
        reason = "uncalibrated" if matches else "empty map"
        return Localization(tuple(matches[:k]), reason=reason, timings_ms=timings_ms)

    def describe(self, frame: npt.NDArray[np.uint8], *, colour: str | None = None) -> npt.NDArray[np.float32]:
        """The descriptor of a frame: float32 (D,), unit length. Raises as `query` does."""
        return self._describe(frame, colour, {})

    # ---------------------------------------------------------------- changing

    def add(self, frame: npt.NDArray[np.uint8], place: Place, *, colour: str | None = None) -> Place:
        """Add a place to the map. It is on disk when this returns.

        Returns:
            The place with its id.

        Raises:
            FrameError: the frame cannot be described.
            MapError: another process is changing the map, or it cannot be written.
        """
        return self.add_many([(frame, place)], colour=colour)[0]

    def add_many(
        self, sightings: Iterable[tuple[npt.NDArray[np.uint8], Place]], *, colour: str | None = None
    ) -> list[Place]:
        """Add places in one transaction: all of them, or none if an exception is raised.

        Args:
            sightings: (frame, place) pairs; a generator is read frame by frame.

        Returns:
            The places with their ids.
        """
        places, descriptors = [], []
        for frame, place in sightings:
            if not isinstance(place, Place):
                raise MapError(f"the place is a {type(place).__name__}, expected sdk.Place(name=…)")
            descriptors.append(self._describe(frame, colour, {}))
            places.append(place)
        return self.store.add(places, np.stack(descriptors)) if places else []

    def build(self, source: Source, *, progress: Progress | None = None) -> int:
        """Add every frame of a source, in transactions of a few hundred places.

        Args:
            source: see `sdk.open_source`.
            progress: called with (what, done, total).

        Returns:
            How many places were added.

        Raises:
            FrameError: a frame cannot be read or described; the message names it.
            MapError: the source's positions are of another geography than the map's.
        """
        self._require_open()
        return fill_store(self.store, self._describer, source, progress)

    def remove(self, place_ids: int | Sequence[int]) -> None:
        """Remove places by id, durably: all of them or none.

        Raises:
            MapError: an id is not in the map, or the map cannot be changed.
        """
        one = isinstance(place_ids, (str, bytes)) or not isinstance(place_ids, Iterable)
        self.store.remove(list(dict.fromkeys(map(to_id, [place_ids] if one else place_ids))))  # type: ignore[arg-type]

    def update(self, place: Place, frame: npt.NDArray[np.uint8] | None = None, *, colour: str | None = None) -> None:
        """Replace the place with `place.id`, durably; with a frame, its descriptor too.

        Raises:
            FrameError: the frame cannot be described.
            MapError: there is no such place, or the map cannot be changed.
        """
        self.store.update(place, None if frame is None else self._describe(frame, colour, {}))

    # ---------------------------------------------------------------- closing

    def close(self) -> None:
        """Close the map and, if it was loaded here, the network. May be called twice."""
        with self._sync:
            if self._closed:
                return
            self._closed = True
            try:
                self.store.close()
            finally:
                if self._owns_backend:
                    self._backend.close()

    def __enter__(self) -> Localizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---------------------------------------------------------------- private

    def _describe(
        self, frame: npt.NDArray[np.uint8], colour: str | None, timings_ms: MutableMapping[str, float]
    ) -> npt.NDArray[np.float32]:
        self._require_open()
        return self._describer.describe(frame, colour=colour, timings_ms=timings_ms).descriptor

    def _local_store(self) -> LocalStore:
        if not isinstance(self.store, LocalStore):
            raise UsageError(f"{self.store.location}: is not a local map; use `store`")
        return self.store

    def _require_open(self) -> None:
        if self._closed:
            raise EngineError("the Localizer is closed; make a new one")


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return _is_whole(value) or isinstance(value, (float, np.floating))
